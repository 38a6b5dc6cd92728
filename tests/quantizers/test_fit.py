import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from cost_hf.quantizers.base import CodebookCollapse
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.quantizers.residual import CostOptions
from cost_hf.quantizers.training import callbacks
from cost_hf.semantic_ids.digests import assignment_digest
from tests.quantizers.cost.toys import item_vectors
from tests.quantizers.fit_toy import small_options, toy_collaborative

pytestmark = pytest.mark.trains
ITEMS = item_vectors(101, clusters=30)  # odd, and not a multiple of the batch
IDS = [f"item-{number}" for number in range(101)]


class Killed(BaseException):
    """Stands for the end of the process: nothing in between catches it."""


COLLABORATIVE = toy_collaborative(101)  # which only letter takes


def fit(directory, *, kind="cost", seed=0, vectors=ITEMS, items=None, **changes):
    options = small_options(kind, **changes)
    inputs = {"items": items, "item_ids": IDS, "collaborative": COLLABORATIVE}
    return fit_codes(vectors, options, output_dir=directory, seed=seed, **inputs)


def kill_after(monkeypatch, epoch):
    stock = callbacks.CheckpointCallback.on_epoch_end

    def dying(self, args, state, control, **kwargs):
        if round(state.epoch) > epoch:
            raise Killed
        return stock(self, args, state, control, **kwargs)

    monkeypatch.setattr(callbacks.CheckpointCallback, "on_epoch_end", dying)


def assert_same_weights(first, second):
    assert first.model.state_dict().keys() == second.model.state_dict().keys()
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_two_runs_of_one_seed_agree_bit_for_bit(tmp_path):
    first, second = fit(tmp_path / "first"), fit(tmp_path / "second")

    assert_same_weights(first, second)
    assert first.history == second.history and first.quantizer_digest == second.quantizer_digest
    files = {path.name for path in (tmp_path / "first").iterdir()} - {".lock"}
    assert files == {"codes.json", "codes.safetensors", "config.json", "model.safetensors"}
    assert all((tmp_path / "first" / f).read_bytes() == (tmp_path / "second" / f).read_bytes() for f in files)


def test_a_run_does_not_depend_on_the_random_state_before_it(tmp_path, straight):
    torch.manual_seed(12345)
    np.random.seed(5)

    assert_same_weights(straight["cost"], fit(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cost", "letter"])
def test_two_threads_add_gradients_in_one_order(tmp_path, two_threads, kind):
    # wide enough that torch shares the rows of a batch out among threads
    vectors = item_vectors(101, 512, clusters=30)
    options = {"kind": kind, "hidden_sizes": [512], "batch_size": 101, "epochs": 3}

    assert_same_weights(*(fit(tmp_path / name, vectors=vectors, **options) for name in ("a", "b")))


def test_another_seed_gives_other_codes(tmp_path, straight):
    assert fit(tmp_path, seed=1).quantizer_digest != straight["cost"].quantizer_digest


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Results of undisturbed runs by kind."""
    return {kind: fit(tmp_path_factory.mktemp(kind), kind=kind) for kind in ("cost", "rqvae", "letter")}


@pytest.mark.parametrize(
    ("kind", "epoch"),
    [("cost", 1), ("cost", 2), ("cost", 5), ("cost", 6), ("rqvae", 5), ("letter", 5)],
    ids=["before a checkpoint", "at one", "after one", "at the end", "rqvae", "letter"],
)
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path, monkeypatch, straight, kind, epoch):
    with monkeypatch.context() as patched:
        kill_after(patched, epoch)
        if epoch < 6:
            with pytest.raises(Killed):
                fit(tmp_path / "killed", kind=kind)
        else:
            patched.setattr(CodesResult, "save", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                fit(tmp_path / "killed", kind=kind)
    assert (tmp_path / "killed" / "checkpoints").is_dir()

    resumed = fit(tmp_path / "killed", kind=kind)

    assert_same_weights(straight[kind], resumed)
    assert resumed.history == straight[kind].history
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_a_half_written_checkpoint_is_passed_over(tmp_path, monkeypatch, straight):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 5)
        fit(tmp_path / "killed")
    (newest,) = (tmp_path / "killed" / "checkpoints").glob("checkpoint-*")
    broken = newest.with_name("checkpoint-9999")
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"half")

    assert_same_weights(straight["cost"], fit(tmp_path / "killed"))


def test_checkpoints_of_other_options_are_not_continued(tmp_path, monkeypatch, straight):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 4)
        fit(tmp_path / "used", kind="rqvae")

    assert_same_weights(straight["cost"], fit(tmp_path / "used"))


def test_a_finished_run_is_read_and_not_repeated(tmp_path, monkeypatch):
    first = fit(tmp_path)
    monkeypatch.setattr(CostOptions, "fit", None)

    again = fit(tmp_path)

    assert np.array_equal(again.codes, first.codes)
    assert_same_weights(first, again)


def test_a_finished_run_of_other_vectors_is_not_taken(tmp_path):
    first = fit(tmp_path)

    assert fit(tmp_path, vectors=-ITEMS).quantizer_digest != first.quantizer_digest


def test_codes_are_those_of_the_saved_model(tmp_path):
    result = fit(tmp_path)

    loaded = CodesResult.load(tmp_path)

    assert isinstance(loaded.model, CostModel)
    assert np.array_equal(loaded.model.encode(ITEMS).numpy(), result.codes)
    assert np.array_equal(loaded.codes, result.codes)
    assert loaded.level_sizes == (8, 8) and loaded.quantizer_digest == result.quantizer_digest == assignment_digest(
        loaded.model
    )
    assert loaded.history == result.history


def test_the_saved_configuration_holds_no_setting_of_the_trainer(tmp_path):
    fit(tmp_path)

    assert "use_cache" not in json.loads((tmp_path / "config.json").read_text())


def test_every_epoch_is_reported_with_utilization_and_loss_terms(tmp_path):
    history = fit(tmp_path, kind="cost_rqvae").history

    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    expected = {"use_1", "use_2", "perplexity_1", "perplexity_2", "unique_share", "largest_group", "loss"}
    expected |= {f"{term}_loss" for term in ("contrastive", "reconstruction", "codebook", "commitment")}
    assert set(history[0]) == expected | {"epoch", "step"}
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(tmp_path):
    record = fit(tmp_path, kind="rqvae").history[0]

    parts = record["reconstruction_loss"] + record["codebook_loss"] + 0.25 * record["commitment_loss"]
    assert record["loss"] == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize("kind", ["cost", "rqvae", "cost_rqvae", "letter"])
def test_trained_codes_keep_neighbours_together_better_than_random_ones(tmp_path, kind):
    fitted, drawn = fit(tmp_path / "fitted", kind=kind), fit(tmp_path / "random", kind="random")
    nearest = (ITEMS @ ITEMS.T).fill_diagonal_(-1).argmax(1).numpy()

    def shared(codes):
        return (codes[:, 0] == codes[nearest, 0]).mean()

    assert shared(fitted.codes) > 2 * shared(drawn.codes)  # about 0.7 and 1 of 8


def test_own_weights_train_and_are_saved(tmp_path):
    weights = {"contrastive_weight": 0.2, "reconstruction_weight": 0.5, "commitment_weight": 0.1}

    config = fit(tmp_path, kind="cost_rqvae", **weights).model.config

    assert {name: getattr(config, name) for name in weights} == weights
    assert config.codebook_weight == 1.0


@pytest.mark.parametrize(
    "changes", [{"share_codebooks": True}, {"input_norm": "standardize"}, {"codebook_weight": 0.0}]
)
def test_variants_train(tmp_path, changes):
    result = fit(tmp_path, **changes)

    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_a_collapse_stops_the_run_and_says_what_to_change(tmp_path):
    same = item_vectors(1).repeat(101, 1) + 1e-4 * ITEMS

    with pytest.raises(
        CodebookCollapse, match=r"collapsed: after epoch 5 the perplexities .*; set codes.initialization"
    ):
        fit(tmp_path, kind="rqvae", vectors=same, initialization="none", reset_dead_codes=False, epochs=50)


def test_a_collapse_in_the_last_epoch_of_a_short_run_stops_it_too(tmp_path):
    same = item_vectors(1).repeat(101, 1) + 1e-4 * ITEMS

    with pytest.raises(CodebookCollapse, match="after epoch 2"):
        fit(tmp_path, kind="rqvae", vectors=same, initialization="none", reset_dead_codes=False, epochs=2)


def test_residual_kmeans_is_a_cost_model(tmp_path):
    result = fit(tmp_path, kind="rkmeans", pca_dim=6)

    assert isinstance(result.model, CostModel)
    assert result.model.config.hidden_sizes == () and result.model.config.latent_dim == 6
    assert np.array_equal(CodesResult.load(tmp_path).model.encode(ITEMS).numpy(), result.codes)
    assert len(result.history) == 1


def test_the_pca_of_residual_kmeans_is_the_best_projection(tmp_path):
    model = fit(tmp_path, kind="rkmeans", pca_dim=6, input_norm="none").model

    centered = ITEMS - ITEMS.mean(0)
    lost = (centered - model.decoder(model.embed(ITEMS)).detach() + ITEMS.mean(0)).square().sum()

    singular = torch.linalg.svdvals(centered)
    assert float(lost) == pytest.approx(float(singular[6:].square().sum()), rel=1e-4)


def test_residual_kmeans_without_a_pca_quantizes_the_vectors_themselves(tmp_path):
    model = fit(tmp_path, kind="rkmeans", pca_dim=None, input_norm="none").model

    assert model.config.hidden_sizes is None
    assert torch.equal(model.embed(ITEMS), ITEMS)


def test_a_pca_wider_than_the_vectors_is_lowered_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        model = fit(tmp_path, kind="rkmeans", pca_dim=99).model

    assert model.config.latent_dim == 16
    assert "codes.pca_dim=99 is lowered to the 16 dimensions" in caplog.text


def test_residual_kmeans_of_items_with_one_text_is_a_collapse(tmp_path):
    with pytest.raises(CodebookCollapse, match="look for items with the same text"):
        fit(tmp_path, kind="rkmeans", vectors=item_vectors(1).repeat(101, 1))


def test_random_and_category_codes_come_without_a_model(tmp_path):
    items = pd.DataFrame({"item_id": IDS, "categories": ["a,b", "a,c", "d"] * 33 + ["a", "d"]})

    drawn, tree = (fit(tmp_path / kind, kind=kind, items=items) for kind in ("random", "category"))

    assert drawn.model is None and tree.model is None
    assert drawn.quantizer_digest != tree.quantizer_digest
    assert tree.codes[:3].tolist() == [[0, 1], [0, 2], [1, 0]]
    assert np.array_equal(CodesResult.load(tmp_path / "category").codes, tree.codes)


def test_codes_without_a_model_depend_on_no_vectors(tmp_path):
    given = fit(tmp_path / "given", kind="random")

    result = fit_codes(None, small_options("random"), output_dir=tmp_path / "none", seed=0, item_ids=IDS)

    assert np.array_equal(result.codes, given.codes) and result.inputs_digest == given.inputs_digest


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: [])

    with pytest.raises(ValueError, match=r"codes.report_to has 'wandb', and package wandb is not installed"):
        fit(tmp_path, report_to=["wandb"])


def test_trackers_receive_every_epoch_and_change_no_digest(tmp_path, monkeypatch):
    logged = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append(logs)

    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["trackio"])
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "trackio", Tracker)

    tracked = fit(tmp_path, report_to=["trackio"])

    assert len([record for record in logged if "perplexity_1" in record]) == 6
    assert tracked.inputs_digest == fit(tmp_path).inputs_digest


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"vectors": ITEMS[0]}, r"vectors must be \[items, dimensions\] .* got shape \(16,\)"),
        ({}, {"vectors": ITEMS[:0]}, r"at least one item, got shape \(0, 16\)"),
        (
            {},
            {"vectors": torch.full((101, 16), float("nan"))},
            "101 of 101 item vectors hold NaN or infinity, first in",
        ),
        ({}, {"item_ids": IDS[:5]}, "101 item vectors need as many item ids, got 5"),
        ({"kind": "random"}, {"item_ids": None}, "codes.kind='random' needs item ids, got none"),
        ({"kind": "category"}, {}, "codes.kind='category' needs the items table"),
        ({}, {"vectors": None}, "codes.kind='cost' is fitted to item vectors, got vectors=None"),
        ({"report_to": ["tensorbord"]}, {}, r"codes.report_to takes .*tensorboard.*, got 'tensorbord'"),
        (
            {"level_sizes": [128, 8]},
            {},
            "level of 128 codes needs at least as many vectors, got 101; lower level_sizes",
        ),
        (
            {"level_sizes": [128, 8], "kind": "rkmeans"},
            {},
            "level of 128 codes needs at least as many vectors, got 101",
        ),
        ({"batch_size": 1}, {}, "codes.batch_size must be at least 2"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_to_change(tmp_path, changes, arguments, message):
    given = {"vectors": ITEMS, "item_ids": IDS} | arguments

    with pytest.raises(ValueError, match=message):
        fit_codes(given.pop("vectors"), small_options(**changes), output_dir=tmp_path, seed=0, **given)


def test_numpy_vectors_and_ids_from_the_items_table_are_taken(tmp_path):
    items = pd.DataFrame({"item_id": IDS})

    first = fit_codes(ITEMS.numpy(), small_options(), output_dir=tmp_path / "table", seed=0, items=items)

    assert np.array_equal(first.codes, fit(tmp_path / "ids").codes)


def test_a_directory_without_a_result_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"codes.json is missing\); run fit_codes first"):
        CodesResult.load(tmp_path)
