"""COBRA through the seam of a method: options, ablations that train, a whole run on a shipped recipe's layout."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.experiments.recipe import Recipe, variant_recipe
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import TrainingOptions
from cost_hf.methods.base import DataFacts, methods, variants
from cost_hf.methods.cobra import Cobra
from cost_hf.methods.cobra.options import CobraOptions, DenseOptions, FusionOptions
from cost_hf.methods.cobra.recommender import CobraRecommender
from cost_hf.methods.cobra.training import build_cobra
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.cobra.cobra_toys import OFF, catalog_with_texts, clicks_of, dense_options, generator_options
from tests.runs import TINY, stages_of

FLAGS = {
    "vectors": {},
    "light": {"text_encoder": "light"},
    "mean": {"text_encoder": "light", "pooling": "mean"},
    "detached": {"detach_targets": True},
    "leaf": {"leaf_negatives": True},
    "no_inputs": {"inputs": False},
    "no_loss": {"weight": 0.0},
    "off": OFF,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1.0}, "dense.weight must be 0 or above"),
        ({"temperature": 0.0}, "dense.temperature must be above 0"),
        ({"text_encoder": "t5"}, "dense.text_encoder must be one of vectors, light"),
        ({"pooling": "max"}, "dense.pooling must be one of cls, mean"),
        ({"hidden_sizes": [0]}, r"dense.hidden_sizes\[0\] must be at least 1"),
        ({"hidden_sizes": [4] * 65}, "at most 64 widths"),
        ({"words": 0}, "dense.words must be at least 1"),
        ({"word_ids": 2}, "dense.word_ids must be at least 3"),
        ({"layers": 0}, "dense.layers must be at least 1"),
        ({"text_dropout": 1.0}, "dense.text_dropout is a share"),
    ],
)
def test_values_that_no_model_can_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DenseOptions(), **changes).validate()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": -0.1}, "beam_fusion.tau must be 0 or above"),
        ({"psi": float("inf")}, "beam_fusion.psi must be 0 or above and finite"),
        ({"items_per_leaf": 0}, "beam_fusion.items_per_leaf must be at least 1"),
        ({"domain": "beam"}, "beam_fusion.domain must be one of leaf, all"),
    ],
)
def test_values_that_no_fusion_can_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FusionOptions(), **changes).validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.backbone": "some/model", "generator.dropout": None}, "trains a causal generator from scratch"),
        ({"generator.kind": "seq2seq"}, "trains a causal generator from scratch"),
        ({"dense.weight": 0.0, "beam_fusion.tau": 0.0}, "which dense.weight=0 leaves out"),
        ({"dense.wieght": 1.0}, "did you mean 'dense.weight'"),
    ],
)
def test_sections_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"method": "cobra"} | overrides).validate()


def test_it_is_a_method_whose_rows_keep_collisions():
    assert methods()["cobra"] is Cobra and Cobra.family == "hybrid"
    base = Recipe.load("cost_quickstart")
    for name, reads_text in (("cobra", True), ("cobra_no_dense", False)):
        recipe = variant_recipe(variants()[name], base)
        recipe.validate()
        assert recipe.options.catalog.collisions == "none"
        assert recipe.system.names_items == recipe.options.dense.reads_text == reads_text


def trained(catalog, tmp_path, **dense):
    """A recommender after one epoch on a few random users."""
    options = dense_options(**{"texts": dense.pop("text_encoder", "vectors")} | dense)
    method = Cobra(CobraOptions(generator=generator_options(), dense=options))
    method.options.validate()
    clicks = clicks_of(catalog)
    backbone = build_cobra(method.options.generator, options, catalog, popularity=clicks, seed=0)
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    draws = np.random.default_rng(0)
    users = [draws.integers(0, len(catalog), size) for size in draws.integers(2, 9, 30)]  # some longer than a window
    prompts, trie = backbone.prompts(catalog), SidTrie.from_catalog(catalog, popularity=clicks)
    ranked = []

    def validate(model):
        ranker = method.ranker(model, prompts[0], trie, catalog, clicks, beams=10)
        ranked.append(ranker.rank(torch.tensor([[1, 2], [4, -1]]), top_k=10).items)
        return {"ndcg@10": 0.5}

    train_generator(
        backbone,
        prompts,
        users,
        [str(number) for number in range(len(users))],
        generator=method.options.generator,
        training=TrainingOptions(epochs=1, batch_size=16, learning_rate=1e-2, warmup_steps=1),
        validate=validate,
        output_dir=tmp_path / "training",
        seed=0,
        names_items=method.names_items,
    )
    changed = {name for name, weight in backbone.model.state_dict().items() if not torch.equal(before[name], weight)}
    return changed, ranked, CobraRecommender(backbone, catalog, popularity=clicks, num_beams=10)


@pytest.mark.trains
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_every_ablation_trains_ranks_and_is_saved(flags, tmp_path):
    catalog = catalog_with_texts(flags.get("text_encoder", "vectors"))

    changed, ranked, system = trained(catalog, tmp_path, **flags)

    assert changed == set(system.generator.state_dict())
    assert (ranked[0] >= 0).any()
    answers = system.recommend([catalog.item_ids[1], catalog.item_ids[5]], top_k=5)
    system.save_pretrained(tmp_path / "saved")
    loaded = cost_hf.Recommender.from_pretrained(tmp_path / "saved")
    assert len(answers) == 5 and type(loaded) is CobraRecommender


@pytest.mark.parametrize("texts", ["vectors", "light"])
def test_an_estimate_times_the_model_with_its_texts(texts):
    data = prepare_data(DataOptions(reader="synthetic", synthetic_users=40, synthetic_items=96))
    facts = DataFacts(data.tables, data.split, item_dim=7, evaluation=EvaluationOptions(num_beams=10), cases=40)
    options = CobraOptions(dense=dense_options(texts))
    options.generator.size, options.codes.level_sizes = "tiny", [4, 4, 4]

    estimate = Cobra(options).estimate(facts)

    assert set(estimate.seconds) == {"codes", "generator", "evaluation"} and min(estimate.seconds.values()) > 0


COBRA = TINY | {
    "method": "cobra",
    "catalog.collisions": "none",
    "codes.level_sizes": [4, 4],
    "generator.size": "tiny",
    "dense.hidden_sizes": [16],
    "dense.words": 8,
    "training.epochs": 1,
    "evaluation.baselines": ["popularity"],
}


@pytest.fixture(scope="module", params=["vectors", "light"])
def run(request, tmp_path_factory) -> cost_hf.Run:
    fields = COBRA | {"dense.text_encoder": request.param}
    return cost_hf.train(overrides=fields, output_dir=tmp_path_factory.mktemp("cobra"))


@pytest.mark.trains
def test_the_protocol_describes_how_items_are_ranked(run):
    protocol = run.results["protocol"]

    assert protocol["candidates"] == "the items of 10 beams, at most 50 each"
    assert protocol["score"].startswith("log softmax(0.9 log p) of the beam + log softmax(16 cosine)")
    assert protocol["constraint"] == "trie" and protocol["shares"]["invalid"] == 0
    assert run.results["methods"]["recommender"]["family"] == "hybrid"
    assert run.results["semantic_ids"]["catalog"]["collided_share"] > 0  # 96 items on at most 16 semantic IDs


@pytest.mark.trains
def test_a_trained_recommender_takes_new_items(run):
    system = cost_hf.Recommender.from_pretrained(run.output_dir)

    system.add_items(["new"], ["space: a rocket for the moon"])

    assert isinstance(system, CobraRecommender)
    history = list(system.catalog.item_ids[:2])
    assert [answer.item_id for answer in system.recommend(history, allowed=["new"])] == ["new"]


@pytest.mark.trains
def test_more_beams_in_the_evaluation_are_no_reason_to_train_again(run, caplog):
    caplog.set_level(logging.INFO, logger="cost_hf")
    texts = run.results["recipe"]["dense"]["text_encoder"]
    fields = COBRA | {"dense.text_encoder": texts, "evaluation.num_beams": 12}

    again = cost_hf.train(overrides=fields, output_dir=run.output_dir)

    assert "generator" not in stages_of(caplog.messages)
    assert again.recommender.num_beams == 12
