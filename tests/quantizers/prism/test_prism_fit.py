"""PRISM codes from vectors to files: options, curriculum, tags, and what fitting may see."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.quantizers.prism import configuration_prism
from cost_hf.quantizers.prism import options as prism_options
from cost_hf.quantizers.prism.options import PrismOptions
from cost_hf.quantizers.prism.training import curriculum_factors, popularity_targets, tag_vectors
from cost_hf.semantic_ids.catalog import Catalog
from tests.quantizers.cost.toys import item_vectors
from tests.quantizers.fit_toy import small_options, toy_collaborative
from tests.quantizers.test_fit import Killed, kill_after

ITEMS = item_vectors(101, clusters=30)
COLLABORATIVE = toy_collaborative(101)
CLICKS = np.arange(101)
SEEN = np.arange(101) % 4 > 0
TABLE = pd.DataFrame(
    {
        "item_id": [f"item-{row}" for row in range(101)],
        "categories": ["" if row % 10 == 9 else f"all,{'ab'[row % 2]},{'cdef'[row % 4]}" for row in range(101)],
    }
)
AVERAGED: dict[str, Any] = {"codebook_update": "ema", "codebook_weight": 0.0, "balance_weight": 0.0}


def fit(directory, *, vectors=ITEMS, collaborative=COLLABORATIVE, popularity=CLICKS, fit_rows=None, **changes):
    return fit_codes(
        vectors,
        small_options("prism", **({"epochs": 3, "latent_dim": 8, "hidden_sizes": [16], "batch_size": 32} | changes)),
        output_dir=directory,
        seed=0,
        items=TABLE,
        collaborative=collaborative,
        popularity=popularity,
        fit_rows=fit_rows,
    )


def assert_same_weights(first, second):
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_options_keep_what_the_configuration_says():
    for name in ("CODEBOOK_UPDATES", "CODEBOOK_TERMS", "COLLABORATIVE_TERMS"):
        assert getattr(prism_options, name) == getattr(configuration_prism, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_update": "ema"}, "codes.codebook_weight, codes.balance_weight must be 0, since .* ema"),
        (AVERAGED | {"tag_column": "categories"}, "codes.anchor_weight must be 0, since codes.codebook_update is ema"),
        (AVERAGED | {"share_codebooks": True}, "codes.share_codebooks must be false"),
        ({"collaborative_width": 0}, "codes.collaborative_weight, codes.gate_weight must be 0"),
        ({"gate_spread": -1.0}, "codes.gate_spread must be at least 0"),
        ({"dropout": 1.0}, "codes.dropout is a share"),
        (
            {"content_weight": 0.0, "collaborative_weight": 0.0},
            "need codes.content_weight or codes.collaborative_weight",
        ),
        ({"tag_levels": 0}, "codes.tag_levels"),
        ({"hidden_sizes": []}, "codes.hidden_sizes must hold"),
    ],
)
def test_values_that_no_run_can_have_and_terms_that_do_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PrismOptions(**changes).validate()


def test_what_fitting_needs_follows_from_the_terms():
    options = PrismOptions()
    assert options.needs_collaborative_vectors and options.needs_popularity and not options.needs_items
    assert options.collaborative_method == "lightgcn"
    assert PrismOptions(tag_column="categories").item_columns == ["categories"]
    alone = PrismOptions(collaborative_width=0, collaborative_weight=0.0, gate_weight=0.0)
    alone.validate()
    assert not alone.needs_collaborative_vectors and not alone.needs_popularity


def test_terms_begin_one_after_another():
    assert curriculum_factors(0.0) == {"tag": 0.0, "anchor": 0.0, "balance": 0.0}
    assert curriculum_factors(0.03) == pytest.approx({"tag": 0.5, "anchor": 0.2, "balance": 0.0})
    assert curriculum_factors(0.2) == pytest.approx({"tag": 1.0, "anchor": 1.0, "balance": 0.0})
    assert curriculum_factors(0.27) == pytest.approx({"tag": 1.0, "anchor": 0.1, "balance": 0.5})
    assert curriculum_factors(1.0) == {"tag": 1.0, "anchor": 0.1, "balance": 1.0}


def test_popularity_is_the_logarithm_of_clicks_between_0_and_1():
    targets = popularity_targets(torch.tensor([1, 0, 99, 9]))

    expected = torch.tensor([2.0, 1.0, 100.0, 10.0]).log() / torch.tensor(100.0).log()
    assert torch.allclose(targets, expected[:, None]) and targets.min() == 0 and targets.max() == 1
    assert not popularity_targets(torch.tensor([3, 3])).any()


def test_the_vector_of_a_tag_is_the_unit_mean_of_its_items():
    tags = torch.tensor([[0, 0], [1, -1], [0, 1], [-1, -1]])

    first, second = tag_vectors(tags, (2, 2), torch.eye(4))

    half = 0.5**0.5
    assert torch.allclose(first, torch.tensor([[half, 0.0, half, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    assert torch.equal(second, torch.eye(4)[[0, 2]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"popularity": None}, r"needs the training clicks of the items, got popularity=None; pass counts \[101\]"),
        ({"popularity": CLICKS - 1}, "whole numbers of 0 or more for each of 101 items"),
        ({"popularity": CLICKS[:5]}, r"of shape \(5,\)"),
        ({"collaborative": None}, "codes.kind='prism' needs collaborative item vectors"),
        ({"collaborative": COLLABORATIVE[:, :6]}, "or set codes.collaborative_width to 6"),
        ({"tag_column": "topics"}, "codes.tag_column must be a column of the items, got 'topics'"),
    ],
)
def test_inputs_that_are_missing_or_do_not_fit_are_an_error(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **changes)


@pytest.mark.trains
def test_codes_are_those_of_both_vectors_and_new_items_have_codes_of_content_alone(tmp_path):
    result = fit(tmp_path, tag_column="categories")
    loaded = CodesResult.load(tmp_path)

    assert {"content", "collaborative", "codebook", "commitment", "gate", "tag", "anchor", "balance"} == {
        name.removesuffix("_loss") for name in result.history[0] if name.endswith("_loss")
    }
    assert result.model.config.tag_sizes == (2, 4)
    assert torch.equal(result.encoded, torch.cat([ITEMS, torch.from_numpy(COLLABORATIVE)], 1))
    assert np.array_equal(loaded.model.encode(result.encoded).numpy(), result.codes)
    assert loaded.model.encode(ITEMS).shape == (101, 2)
    catalog = Catalog.from_embeddings(
        TABLE["item_id"].tolist(), result.encoded, loaded.model, codes=result.codes, collisions="append", append_size=8
    )
    assert len(catalog) == 101


@pytest.mark.trains
@pytest.mark.parametrize("changes", [{"tag_column": "categories"}, AVERAGED], ids=["gradient", "ema"])
def test_two_runs_of_one_seed_agree_bit_for_bit(tmp_path, changes):
    first, second = (fit(tmp_path / name, **changes) for name in ("a", "b"))

    assert_same_weights(first, second)
    assert first.history == second.history


@pytest.mark.trains
def test_items_outside_the_fit_rows_leave_no_trace_and_clicks_are_part_of_the_digest(tmp_path):
    vectors, collaborative, clicks = ITEMS.clone(), COLLABORATIVE.copy(), CLICKS.copy()
    vectors[~SEEN], collaborative[~SEEN], clicks[~SEEN] = -ITEMS[~SEEN], 5.0, 999

    first = fit(tmp_path / "first", fit_rows=SEEN, tag_column="categories")
    other = {"vectors": vectors, "collaborative": collaborative, "popularity": clicks}
    second = fit(tmp_path / "second", fit_rows=SEEN, tag_column="categories", **other)

    assert_same_weights(first, second)
    assert first.codes.shape == (101, 2)
    assert first.inputs_digest != second.inputs_digest


@pytest.mark.trains
def test_a_killed_run_with_averages_and_dropout_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    straight = fit(tmp_path / "straight", **AVERAGED)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 2)
        fit(tmp_path / "killed", **AVERAGED)

    resumed = fit(tmp_path / "killed", **AVERAGED)

    assert_same_weights(straight, resumed)
    assert resumed.history == straight.history


def test_another_kind_takes_no_method_of_collaborative_vectors_over():
    values = CodesOptions.of("letter").content()

    assert CodesOptions.of("prism", **PrismOptions.carried_over(values)).collaborative_method == "lightgcn"
