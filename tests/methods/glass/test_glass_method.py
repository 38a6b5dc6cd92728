"""GLASS through the seam of a method: options, ablations, a whole run."""

import dataclasses

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.options import TrainingOptions
from cost_hf.methods.base import DataFacts, methods, variants
from cost_hf.methods.glass import Glass
from cost_hf.methods.glass.method import ROWS
from cost_hf.methods.glass.options import GlassOptions, LongHistoryOptions
from cost_hf.methods.glass.recommender import GlassRecommender
from cost_hf.methods.glass.training import build_glass
from tests.methods.glass.glass_toys import CAUSAL, toy_catalog, toy_glass
from tests.methods.liger.liger_toys import generator_options
from tests.runs import TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_items": 0}, "long_history.max_items must be at least 1"),
        ({"retrieved_items": 0}, "long_history.retrieved_items must be at least 1"),
        ({"min_retrieved": 0}, "long_history.min_retrieved must be at least 1"),
        ({"neighbour_codes": -1}, "long_history.neighbour_codes must be at least 0"),
        ({"tier_edges": []}, "rising cosines"),
        ({"tier_edges": [0.3, 0.3]}, "rising cosines"),
        ({"initial_gate": float("nan")}, "long_history.initial_gate must be finite"),
        ({"neighbour_codes": 2, "retrieval": False}, "adds to retrieved items"),
    ],
)
def test_values_that_no_run_can_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LongHistoryOptions(), **changes).validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.backbone": "some/model", "generator.dropout": None}, "trains its generator from scratch"),
        ({"generator.kind": "causal"}, "needs the cross-attention of generator.kind seq2seq, got causal"),
        (
            {"generator.kind": "causal", "long_history.retrieval": False, "long_history.positions": True},
            "the causal generator has rotary positions",
        ),
        ({"generator.kind": "seq2seq", "training.teacher": "markov"}, "adds examples that have no long history"),
        (
            {"generator.kind": "seq2seq", "codes.level_sizes": [8, 8], "long_history.neighbour_codes": 8},
            "long_history.neighbour_codes must be below the 8 codes of the first level, got 8",
        ),
        ({"long_history.retrieve": True}, "did you mean 'long_history.retrieval'"),
    ],
)
def test_sections_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"method": "glass"} | overrides).validate()


def test_it_is_a_method_with_a_row_for_every_ablation():
    assert methods()["glass"] is Glass and Glass.family == "generative"
    for name, (changes, _) in ROWS.items():
        assert variants()[name].overrides == changes and variants()[name].method == "glass"
    off = GlassOptions(long_history=LongHistoryOptions(tier_token=False, retrieval=False))
    assert Glass(off).long_history == 0 and Glass(GlassOptions()).long_history == 1000


def test_what_it_builds_needs_vectors_and_no_backbone():
    bare = dataclasses.replace(toy_catalog(), vectors=None)

    with pytest.raises(ValueError, match="read item vectors, and the catalog holds none"):
        build_glass(generator_options("seq2seq"), LongHistoryOptions(), bare, seed=0)
    options = dataclasses.replace(generator_options("seq2seq"), backbone="some/model")
    with pytest.raises(ValueError, match="is trained from scratch"):
        build_glass(options, LongHistoryOptions(), toy_catalog(), seed=0)


def test_prototypes_leave_out_items_that_fitting_may_not_see():
    catalog = toy_catalog()
    is_seen = np.arange(len(catalog)) % 3 > 0

    backbone = build_glass(generator_options("seq2seq"), LongHistoryOptions(), catalog, fit_rows=is_seen, seed=0)

    for code in range(catalog.level_sizes[0]):
        own = catalog.vectors[is_seen & (catalog.codes[:, 0] == code)]
        np.testing.assert_allclose(backbone.model.prototypes[code].numpy(), own.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("body", ["seq2seq", "causal"])
def test_batches_hold_what_came_before_the_target_or_before_the_row(body):
    catalog = toy_catalog()
    backbone = toy_glass(catalog, body=body, **(CAUSAL if body == "causal" else {}))
    sequences = [np.arange(20), np.arange(30, 26, -1)]
    dataset, collator = training_examples(
        backbone, backbone.prompts(catalog), sequences, ["u", "v"], training=TrainingOptions(), long_history=8
    )

    batch = collator([dataset[number] for number in range(len(dataset))])

    assert len(batch["long_rows"]) == len(dataset) == len(batch["input_ids"])
    for number in range(len(dataset)):
        found = batch["long_rows"][number]
        example = dataset[number]
        items = example.item_rows[example.item_rows >= 0]
        first = items[0] if body == "causal" else items[-1]
        owner = sequences[0] if first < 20 else sequences[1]
        place = owner.tolist().index(first)
        assert found[found >= 0].tolist() == owner[max(place - 8, 0) : place].tolist()
    assert torch.isfinite(backbone.model(**batch).loss)


@pytest.mark.parametrize("changes", [{}, {"generator.kind": "causal", "long_history.retrieval": False}])
def test_an_estimate_times_the_model(changes):
    data = prepare_data(DataOptions(reader="synthetic", synthetic_users=40, synthetic_items=96))
    facts = DataFacts(data.tables, data.split, item_dim=7, evaluation=EvaluationOptions(num_beams=10), cases=40)
    fields = {"method": "glass", "generator.kind": "seq2seq", "codes.level_sizes": [8, 8, 8]} | changes
    method = Recipe.load("cost_quickstart", fields).system

    estimate = method.estimate(facts)

    assert set(estimate.seconds) == {"codes", "generator", "evaluation"} and min(estimate.seconds.values()) > 0


WHOLE = TINY | {
    "method": "glass",
    "generator.kind": "seq2seq",
    "generator.size": "tiny",
    "generator.max_history": 4,
    "codes.kind": "cost",
    "training.epochs": 1,
    "evaluation.baselines": ["popularity"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=WHOLE, output_dir=tmp_path_factory.mktemp("glass"))


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_has_every_part_in_its_directory(run):
    system = cost_hf.Recommender.from_pretrained(run.output_dir)
    found = run.results["long_history"]

    assert isinstance(system, GlassRecommender) and system.long_history == 1000
    assert system.generator.config.use_tier_token and system.generator.config.use_retrieval
    assert len(found["prefixes"]) == len(system.catalog.level_sizes)
    assert sum(row["cases"] for row in found["gates"]) == found["prefixes"][0]["cases"]
    assert len(system.recommend(list(system.catalog.item_ids[:6]), top_k=3)) == 3


@pytest.mark.slow
@pytest.mark.trains
def test_a_trained_recommender_is_trained_on(run, tmp_path):
    from cost_hf.methods.base import WarmStart

    system = cost_hf.Recommender.from_pretrained(run.output_dir)
    system.add_items(["new"], ["space: a rocket for the moon"])
    recipe = Recipe.load("cost_quickstart", WHOLE)
    split = prepare_data(recipe.data).split
    start = WarmStart(split, epochs=1, learning_rate_factor=0.1, folder=tmp_path, seed=0)

    fitted = recipe.system.warm_start(system, start)

    history = list(system.catalog.item_ids[:6])
    assert [answer.item_id for answer in fitted.recommender.recommend(history, allowed=["new"])] == ["new"]
