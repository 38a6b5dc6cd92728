"""Training of ACERec: it learns a rule, repeats itself, resumes, and continues from its weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_object
from cost_hf.methods.acerec import AceRec
from cost_hf.methods.acerec import estimate as module
from cost_hf.methods.acerec.method import ABLATIONS
from cost_hf.methods.acerec.options import AceRecModelOptions, AceRecOptions
from cost_hf.methods.acerec.recommender import DigitScorer
from cost_hf.methods.acerec.training import build_acerec, train_acerec
from cost_hf.methods.base import DataFacts, methods, variants
from cost_hf.methods.sasrec.options import SequenceTrainingOptions
from cost_hf.quantizers.base import CodesOptions
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.acerec.acerec_toys import IDS, ITEMS, SIZES, toy_codes
from tests.methods.sasrec.sasrec_toys import Killed, are_equal, rising_validation, walks
from tests.near_ties import assert_same_list
from tests.runs import tiny_fields

CATALOG = Catalog.from_codes(IDS, toy_codes(), level_sizes=SIZES, collisions="none")
CLICKS = np.bincount(np.concatenate(walks()), minlength=ITEMS)


def options_of(*, epochs=3, **model) -> AceRecOptions:
    sizes = {"num_latents": 2, "hidden_size": 16, "intermediate_size": 32, "max_history": 6} | model
    training = SequenceTrainingOptions(
        epochs=epochs, batch_size=16, learning_rate=1e-2, weight_decay=0.0, warmup_steps=2, validate_every=1
    )
    return AceRecOptions(CodesOptions.of("random", level_sizes=list(SIZES)), AceRecModelOptions(**sizes), training)


def fit(directory, *, stop_after=None, **fields):
    options = options_of(**fields)
    return train_acerec(
        build_acerec(options.model, CATALOG, seed=0),
        walks(),
        CATALOG.codes,
        CLICKS,
        options=options,
        validate=rising_validation(stop_after),
        output_dir=directory,
        seed=0,
    )


@pytest.mark.trains
@pytest.mark.parametrize("ablation", [None, *ABLATIONS])
def test_it_learns_the_next_item_of_a_walk(tmp_path, ablation):
    changes = {} if ablation is None else ABLATIONS[ablation][0]
    fields = {dotted.removeprefix("model."): value for dotted, value in changes.items()}

    trained = fit(tmp_path, epochs=15, **fields)

    starts = np.arange(ITEMS)
    scores = DigitScorer(trained.model, CATALOG.codes).scores((starts[:, None] + np.arange(3)) % ITEMS)
    following = scores[starts, (starts + 3) % ITEMS]
    assert (scores > following[:, None]).sum(1).mean() < ITEMS / 4  # chance gives half of the items


@pytest.mark.trains
def test_a_run_killed_in_its_second_epoch_continues_bit_for_bit(tmp_path):
    straight = fit(tmp_path / "straight")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", stop_after=1)

    resumed = fit(tmp_path / "killed")

    assert are_equal(straight.model, resumed.model)


def test_weights_depend_on_the_seed_alone():
    first = build_acerec(options_of().model, CATALOG, seed=1)
    torch.rand(3)

    assert are_equal(first, build_acerec(options_of().model, CATALOG, seed=1))
    assert not are_equal(first, build_acerec(options_of().model, CATALOG, seed=2))


@pytest.mark.trains
def test_a_run_trains_evaluates_and_serves(tmp_path):
    fields = tiny_fields(
        method="acerec", codes__kind="opq", model__hidden_size=16, model__intermediate_size=16, model__num_latents=2
    )
    fields["codes.level_sizes"] = [8] * 6

    run = cost_hf.train(recipe="cost_quickstart", overrides=fields, seed=0, output_dir=tmp_path)

    results = read_object(tmp_path / "evaluation" / "results.json")
    assert results["rows"]["recommender"]["item"]["seen_allowed"]["recall@10"]["value"] is not None
    assert results["protocol"]["score"].startswith("sum of natural-log probabilities")
    assert len(results["semantic_ids"]["levels"]) == 6 and "group_sizes" not in results["semantic_ids"]
    loaded = Recommender.from_pretrained(tmp_path)
    history = list(loaded.catalog.item_ids[:3])
    assert_same_list(loaded.recommend(history), run.recommender.recommend(history))
    assert loaded.catalog.policy == "none" and loaded.catalog.level_sizes == (8,) * 6


def test_it_is_a_method_with_a_row_for_every_ablation():
    assert methods()["acerec"] is AceRec
    for name, (changes, _) in ABLATIONS.items():
        assert variants()[name].overrides == changes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"codes.kind": "rkmeans"}, r"levels that do not depend on each other \(codes.kind opq, random, simhash"),
        ({"codes.level_sizes": [8] * 3}, "model.num_latents must be at most the number of codes of an item, 3, got 4"),
        ({"model.merger": "mean", "codes.level_sizes": [8] * 6}, "that divides the 6 codes of an item, got 4"),
        ({"model.merger": "max"}, "model.merger must be one of attention, mean"),
        ({"model.hidden_size": 7}, "multiple of model.num_heads=4, got 7"),
        ({"model.dropout": 1.0}, "model.dropout is a share"),
        ({"model.token_temperature": 0.0}, "model.token_temperature must be above 0"),
        ({"model.alignment_weight": -1.0}, "model.alignment_weight must be 0 or above"),
        ({"model.num_latent": 2}, "did you mean 'model.num_latents'"),
    ],
)
def test_options_that_no_run_can_have_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("acerec_industrial", overrides).validate()


@pytest.mark.parametrize("name", ["acerec_industrial", "acerec_beauty"])
def test_the_shipped_recipes_are_valid(name):
    recipe = Recipe.load(name)
    recipe.validate()

    assert recipe.system.options.codes.level_sizes == [256] * 32


def test_the_estimate_scales_a_step_to_all_epochs_and_a_ranking_to_all_cases(monkeypatch):
    monkeypatch.setattr(module, "fastest", lambda work: (work(), 2.0)[1])
    train = [np.arange(4) for _ in range(64)]
    tables = SimpleNamespace(num_items=ITEMS)
    facts = DataFacts(tables, SimpleNamespace(train=train), 6, None, cases=10)

    found = AceRec(options_of(epochs=3)).estimate(facts)

    # 32 users are timed: two such steps an epoch; every case is ranked with and without its seen items
    assert found.seconds == {"training": 3 * 2 * 2.0, "evaluation": pytest.approx(2 * 10 * 2.0 / 32)}
    nobody = DataFacts(tables, SimpleNamespace(train=[np.arange(1)]), 6, None, cases=10)
    assert AceRec(options_of()).estimate(nobody) == "the training part holds no user with two items"
