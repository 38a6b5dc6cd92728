"""LIGER through the seam of a method: options, ablations that train, a whole run with its cold-start table."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_object
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import TrainingOptions
from cost_hf.methods.base import DataFacts, methods, variants
from cost_hf.methods.liger import Liger
from cost_hf.methods.liger.method import ABLATIONS
from cost_hf.methods.liger.options import DenseOptions, LigerOptions
from cost_hf.methods.liger.recommender import LigerRecommender
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.liger.liger_toys import BODIES, OFF, catalog_with_texts, clicks_of, generator_options, toy_liger
from tests.runs import TINY, stages_of

FLAGS = {
    "published": {},
    "dense": {"sid_weight": 0.0, "candidates": "catalog"},
    "no_dense": {"weight": 0.0},
    "no_text_input": {"text_input": False},
    "off": OFF,
    "free": {"constrained": False},
    "nearest": {"top_k": 3},
    "published_validation": {"validation": "catalog"},
    "sampled": {"negatives": 4},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 0.0, "sid_weight": 0.0}, "both 0, so there is no loss"),
        ({"weight": 0.0, "candidates": "catalog"}, "rank by the dense head"),
        ({"weight": 0.0, "top_k": 5}, "rank by the dense head"),
        ({"sid_weight": 0.0}, "set candidates to catalog"),
        ({"weight": -1.0}, "dense.weight must be 0 or above"),
        ({"temperature": 0.0}, "dense.temperature must be above 0"),
        ({"hidden_sizes": [0]}, r"dense.hidden_sizes\[0\] must be at least 1"),
        ({"hidden_sizes": [4] * 65}, "at most 64 widths"),
        ({"text_dropout": 1.0}, "dense.text_dropout is a share"),
        ({"negatives": 0}, "dense.negatives must be at least 1"),
        ({"candidates": "all"}, "dense.candidates must be one of beams, catalog"),
        ({"validation": "test"}, "dense.validation must be one of candidates, catalog"),
        ({"top_k": -1}, "dense.top_k must be at least 0"),
        ({"initializer_std": 1.5}, "dense.initializer_std must be between 0 and 1"),
    ],
)
def test_values_that_no_run_can_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DenseOptions(), **changes).validate()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"generator.backbone": "some/model", "generator.dropout": None}, "trains its generator from scratch"),
        ({"dense.initializer_std": 0.02}, "is for generator.kind seq2seq"),
        ({"dense.constrained": False, "search.normalization": "level"}, "needs dense.constrained=true"),
        ({"dense.wieght": 1.0}, "did you mean 'dense.weight'"),
    ],
)
def test_sections_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("cost_quickstart", {"method": "liger"} | overrides).validate()


def test_it_is_a_method_with_a_row_for_every_ablation():
    assert methods()["liger"] is Liger and Liger.family == "hybrid"
    for name, (changes, _) in ABLATIONS.items():
        assert variants()[name].overrides == changes
        options = LigerOptions()
        for dotted, value in changes.items():
            setattr(options.dense, dotted.partition(".")[2], value)
        options.validate()


def test_what_follows_training_is_no_input_of_it():
    names = {"candidates": "catalog", "constrained": False, "top_k": 4}
    plain, other = (Liger(LigerOptions(dense=DenseOptions(**changes))) for changes in ({}, names))

    assert plain.training_inputs(None)[-1] == other.training_inputs(None)[-1]
    assert plain.training_inputs(None)[-1] != Liger(LigerOptions(dense=DenseOptions(weight=0.5))).training_inputs(None)


def trained(body, catalog, tmp_path, **dense):
    """A recommender after one epoch on a few random users."""
    method = Liger(LigerOptions(generator=generator_options(body), dense=DenseOptions(hidden_sizes=[8], **dense)))
    method.options.validate()
    clicks = clicks_of(catalog)
    backbone = toy_liger(body, catalog, **dense)
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    known = np.flatnonzero(clicks)
    draws = np.random.default_rng(0)
    users = [known[draws.integers(0, len(known), size)] for size in draws.integers(2, 7, 30)]
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
    after = backbone.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in after)
    settings = {name: getattr(method.options.dense, own) for name, own in (("dense_top_k", "top_k"),)}
    settings |= {
        "is_constrained": method.options.dense.constrained,
        "ranks_catalog": method.options.dense.candidates == "catalog",
    }
    return method, ranked, LigerRecommender(backbone, catalog, popularity=clicks, num_beams=10, **settings)


@pytest.mark.trains
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("body", BODIES)
def test_every_ablation_trains_ranks_and_is_saved(body, flags, tmp_path):
    catalog = catalog_with_texts()

    method, ranked, system = trained(body, catalog, tmp_path, **flags)

    answers = system.recommend([catalog.item_ids[1], catalog.item_ids[5]], top_k=5)
    system.save_pretrained(tmp_path / "saved")
    assert answers and type(cost_hf.Recommender.from_pretrained(tmp_path / "saved")) is LigerRecommender
    assert not (tmp_path / "saved" / "custom_generate").exists() or not flags.get("text_input", True)
    if method.options.dense.weight:  # chosen by items of training alone
        assert (ranked[0] >= 0).any()
        assert not torch.isin(ranked[0], torch.from_numpy(np.flatnonzero(clicks_of(catalog) == 0))).any()


def test_weights_are_drawn_anew_where_the_recipe_asks_for_their_spread():
    catalog = catalog_with_texts()
    plain, small, again = (
        toy_liger("seq2seq", catalog, initializer_std=std).model.state_dict() for std in (None, 0.02, 0.02)
    )

    assert all(torch.equal(small[name], again[name]) for name in small)
    for name, weight in small.items():
        if name.startswith(("item_", "text_", "code_")):
            assert torch.equal(weight, plain[name])
        elif "norm" in name:
            assert (weight == 1).all()
        else:
            assert 0.01 < weight.std() < 0.03
    assert torch.equal(small["shared.weight"], small["lm_head.weight"])


def test_an_estimate_times_the_model_with_its_texts():
    data = prepare_data(DataOptions(reader="synthetic", synthetic_users=40, synthetic_items=96))
    facts = DataFacts(data.tables, data.split, item_dim=7, evaluation=EvaluationOptions(num_beams=10), cases=40)
    options = LigerOptions(dense=DenseOptions(hidden_sizes=[8]))
    options.generator.size, options.codes.level_sizes = "tiny", [8, 8, 8]

    estimate = Liger(options).estimate(facts)

    assert set(estimate.seconds) == {"codes", "generator", "evaluation"} and min(estimate.seconds.values()) > 0


LIGER = TINY | {
    "method": "liger",
    "generator.size": "tiny",
    "dense.hidden_sizes": [16],
    "data.cold_share": 0.1,
    "training.epochs": 1,
    "evaluation.baselines": ["popularity"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cost_hf.Run:
    return cost_hf.train(overrides=LIGER, output_dir=tmp_path_factory.mktemp("liger"))


@pytest.mark.trains
def test_a_run_has_an_in_set_and_a_cold_table(run):
    slices = run.results["slices"]["recommender"]["seen_allowed"]["cold_start"]

    assert set(slices) == {"cold", "in_set"} and set(slices["cold"]) == {"cases", "recall@10", "ndcg@10"}
    protocol = run.results["protocol"]
    assert protocol["candidates"] == "10 beams, all items without a training click"
    assert protocol["score"] == "cosine of user and item text / 0.07" and protocol["shares"]["invalid"] == 0
    assert run.results["methods"]["recommender"]["family"] == "hybrid"


@pytest.mark.trains
def test_a_trained_recommender_takes_new_items(run):
    system = cost_hf.Recommender.from_pretrained(run.output_dir)

    system.add_items(["new"], ["space: a rocket for the moon"])

    assert isinstance(system, LigerRecommender)
    history = list(system.catalog.item_ids[:2])
    assert [answer.item_id for answer in system.recommend(history, allowed=["new"])] == ["new"]


@pytest.mark.trains
def test_other_candidates_are_no_reason_to_train_again(run, caplog):
    caplog.set_level(logging.INFO, logger="cost_hf")

    again = cost_hf.train(overrides=LIGER | {"dense.top_k": 5}, output_dir=run.output_dir)

    assert "generator" not in stages_of(caplog.messages)
    assert again.recommender.dense_top_k == 5
    assert read_object(run.output_dir / "recommender" / "recommender.json")["dense_top_k"] == 5
