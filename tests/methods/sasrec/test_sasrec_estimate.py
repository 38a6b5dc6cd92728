"""Costs of models of sequences: what a timed step reads, and how its seconds are scaled."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import DataFacts
from cost_hf.methods.sasrec import estimate as module
from cost_hf.options import ItemFacts

ITEMS = 50
EPOCHS = 3


def facts_of(train, *, cases=10):
    return DataFacts(SimpleNamespace(num_items=ITEMS), SimpleNamespace(train=train), 6, None, cases=cases)


def method_of(recipe, **fields):
    overrides = {dotted.replace("__", "."): value for dotted, value in fields.items()}
    return Recipe.load(recipe, overrides | {"training.epochs": EPOCHS}).system


@pytest.mark.parametrize(
    ("recipe", "fields", "copies"),
    [
        ("sasrec_beauty", {}, 1),
        ("hstu_beauty", {}, 1),
        ("coserec_beauty", {}, 3),
        ("coserec_beauty", {"augmentation__weight": 0.0}, 1),
        ("cadirec_beauty", {}, 1),
    ],
)
def test_training_takes_a_second_for_every_row_that_a_step_reads(monkeypatch, recipe, fields, copies):
    monkeypatch.setattr(module, "training_step", lambda model, batch: lambda: float(len(batch["histories"])))
    monkeypatch.setattr(module, "fastest", lambda work: work() if isinstance(work(), float) else 0.0)
    users = [np.arange(4) for _ in range(100)]

    found = method_of(recipe, **fields).estimate(facts_of(users))

    assert found.seconds["training"] == pytest.approx(EPOCHS * copies * 100, rel=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {"model__inputs": "both"},
        {"model__loss": "binary", "model__similarity": "dot"},
        {"model__loss": "sampled_softmax", "model__inputs": "text"},
        {"model__loss": "auto"},
    ],
)
@pytest.mark.parametrize("recipe", ["sasrec_beauty", "hstu_beauty", "coserec_beauty", "cadirec_beauty"])
def test_real_steps_are_timed_with_all_that_a_model_reads(monkeypatch, recipe, fields):
    calls = []
    monkeypatch.setattr(module, "fastest", lambda work: calls.append(work()) or 1.0)

    found = method_of(recipe, **fields).estimate(facts_of([np.arange(4), np.arange(7)], cases=10))

    assert len(calls) == 2  # a training step and a ranking
    assert found.seconds["evaluation"] == pytest.approx(2 * 10 / 2)  # twice all cases, two users in a second
    assert found.memory_mb > 0


def advice_of(method, items=1_000_000):
    return method.advice(ItemFacts(pd.DataFrame(index=range(items)), num_fitted=items))


@pytest.mark.parametrize(("recipe", "megabytes"), [("sasrec_beauty", "1,220"), ("hstu_beauty", "1,708")])
def test_a_catalog_whose_full_softmax_takes_too_much_is_told_the_loss_to_take(recipe, megabytes):
    (advice,) = advice_of(method_of(recipe))

    assert advice.remedy == "--model.loss auto"
    assert f"the softmax over all 1,000,000 items, which takes about {megabytes} MB" in advice.message


def test_advice_on_a_part_names_it():
    (advice,) = advice_of(
        Recipe.load("cost_default", {"method": "fusion", "fusion.parts": ["markov", "sasrec_ce"]}).system
    )

    assert advice.message.startswith("part sasrec_ce: a training step computes the softmax")
    assert advice.remedy == "--model.loss auto in a recipe of the part"


@pytest.mark.parametrize("loss", ["auto", "sampled_softmax", "binary"])
def test_losses_that_suit_every_catalog_need_no_advice(loss):
    assert advice_of(method_of("sasrec_beauty", model__loss=loss)) == []


@pytest.mark.parametrize(("inputs", "told"), [("ids", 0), ("text", 1)])
def test_advice_counts_the_network_over_texts(inputs, told):
    assert len(advice_of(method_of("sasrec_beauty", model__inputs=inputs), items=100_000)) == told


def test_users_of_typical_length_are_timed():
    lengths = np.array([2] * 200 + [30] * 100 + [50] * 5)

    assert set(lengths[module._typical(lengths)]) == {30}


def test_without_a_sequence_there_is_no_estimate():
    found = method_of("sasrec_beauty").estimate(facts_of([np.arange(1)]))

    assert found == "the training part holds no user with two items"
