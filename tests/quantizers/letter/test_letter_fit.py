"""LETTER codes from vectors to files: what a fit needs, what it depends on, and which items it may see."""

import numpy as np
import pytest
import torch

from cost_hf.quantizers.fit import CodesResult, fit_codes
from tests.quantizers.cost.toys import item_vectors
from tests.quantizers.fit_toy import small_options, toy_collaborative

pytestmark = pytest.mark.trains
ITEMS = item_vectors(101, clusters=30)
IDS = [f"item-{number}" for number in range(101)]
COLLABORATIVE = toy_collaborative(101)
SEEN = np.arange(101) % 4 > 0


def fit(directory, *, kind="letter", vectors=ITEMS, collaborative=COLLABORATIVE, fit_rows=None, **changes):
    options = small_options(kind, **changes)
    return fit_codes(
        vectors, options, output_dir=directory, seed=0, item_ids=IDS, collaborative=collaborative, fit_rows=fit_rows
    )


def assert_same_weights(first, second):
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.fixture(scope="module")
def letter(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("letter"))


def test_every_epoch_reports_the_terms_and_their_weighted_sum(letter):
    record = letter.history[0]

    assert len(letter.history) == 6
    parts = record["reconstruction_loss"] + record["codebook_loss"] + 0.25 * record["commitment_loss"]
    parts += 0.2 * record["collaborative_loss"] + 1e-4 * record["diversity_loss"]
    assert record["loss"] == pytest.approx(parts, rel=1e-5)


def test_the_saved_model_knows_nothing_of_collaborative_vectors(letter, tmp_path):
    letter.save(tmp_path)

    loaded = CodesResult.load(tmp_path)

    assert {name.split(".")[0] for name in loaded.model.state_dict()} == {"encoder", "quantizer", "decoder"}
    assert loaded.model.config.sinkhorn_epsilon == 0.003
    assert np.array_equal(loaded.model.encode(ITEMS).numpy(), letter.codes)


def test_the_weight_decides_how_well_codes_find_the_collaborative_vectors(tmp_path):
    groups = np.arange(101) % 5  # unlike the clusters of the text vectors
    collaborative = np.eye(8, dtype=np.float32)[groups]

    def loss(weight):
        weights = {"collaborative_weight": weight, "diversity_weight": 0.0, "sinkhorn_epsilon": 0.0}
        options = {"epochs": 30, "learning_rate": 1e-2} | weights
        result = fit(tmp_path / str(weight), collaborative=collaborative, **options)
        return result.history[-1]["collaborative_loss"]

    assert loss(10.0) < loss(1e-6)


@pytest.mark.parametrize(
    ("collaborative", "changes", "message"),
    [
        (
            None,
            {},
            r"codes.kind='letter' needs collaborative item vectors, got collaborative=None; pass an array \[101, 8\]",
        ),
        (COLLABORATIVE[:, :6], {}, r"\[101 items, 8 dimensions\].* got shape \(101, 6\);.*codes.latent_dim to 6"),
        (COLLABORATIVE[:50], {}, r"got shape \(50, 8\)"),
        (COLLABORATIVE * np.nan, {}, "101 of 101 collaborative vectors hold NaN or infinity"),
        (COLLABORATIVE * 0, {}, "no item that fitting may see has a collaborative vector"),
    ],
)
def test_collaborative_vectors_that_do_not_fit_are_an_error(tmp_path, collaborative, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, collaborative=collaborative, **changes)


def test_the_scale_of_the_collaborative_vectors_does_not_matter(tmp_path, letter):
    assert_same_weights(letter, fit(tmp_path, collaborative=COLLABORATIVE * 4))


def test_other_collaborative_vectors_or_rows_give_another_digest(tmp_path, letter):
    digests = {
        letter.inputs_digest,
        fit(tmp_path / "vectors", collaborative=-COLLABORATIVE).inputs_digest,
        fit(tmp_path / "rows", fit_rows=SEEN).inputs_digest,
    }

    assert len(digests) == 3


def test_without_the_weight_of_the_term_no_collaborative_vectors_are_needed(tmp_path):
    result = fit(tmp_path, collaborative=None, collaborative_weight=0.0)

    assert "collaborative_loss" not in result.history[0] and "diversity_loss" in result.history[0]


def test_collaborative_vectors_that_no_term_uses_change_nothing(tmp_path):
    without, given = fit(tmp_path / "without", kind="rqvae", collaborative=None), fit(tmp_path / "given", kind="rqvae")

    assert_same_weights(without, given)
    assert without.inputs_digest == given.inputs_digest


@pytest.mark.parametrize("kind", ["cost", "letter", "rkmeans"])
def test_items_outside_the_fit_rows_leave_no_trace_in_the_model_and_get_codes(tmp_path, kind):
    others, strange = ITEMS.clone(), COLLABORATIVE.copy()
    others[~SEEN], strange[~SEEN] = -ITEMS[~SEEN], 5.0
    changes = {"input_norm": "standardize"} | ({"pca_dim": 6} if kind == "rkmeans" else {})

    first = fit(tmp_path / "first", kind=kind, fit_rows=SEEN, **changes)
    second = fit(tmp_path / "second", kind=kind, fit_rows=SEEN, vectors=others, collaborative=strange, **changes)

    assert_same_weights(first, second)
    assert first.history == second.history
    assert first.codes.shape == second.codes.shape == (101, 2)
    assert np.array_equal(first.codes[SEEN], second.codes[SEEN])
    assert np.array_equal(second.codes, second.model.encode(others).numpy())


def test_fitting_to_some_items_is_fitting_to_a_table_of_them(tmp_path):
    part = fit(tmp_path / "part", kind="cost", fit_rows=SEEN)

    alone = fit_codes(ITEMS[SEEN], small_options(), output_dir=tmp_path / "alone", seed=0)

    assert_same_weights(part, alone)


def test_fit_rows_that_are_all_true_are_no_fit_rows(tmp_path, letter):
    assert fit(tmp_path, fit_rows=np.ones(101, dtype=bool)).inputs_digest == letter.inputs_digest


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(100, dtype=bool), r"one bool per item, \[101\], got bool of shape \(100,\)"),
        (np.arange(101), r"got int64 of shape \(101,\); a list of row numbers has to be turned into a mask"),
        (np.zeros(101, dtype=bool), "fit_rows leaves no item to fit codes to"),
    ],
)
def test_fit_rows_that_do_not_fit_are_an_error(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, fit_rows=rows)
