"""From the times of a few batches to the time of an epoch."""

from types import SimpleNamespace

import numpy as np
import pytest

from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.options import TrainingOptions
from cost_hf.methods.base import Estimate
from cost_hf.methods.generative import estimate as module
from cost_hf.methods.generative.teacher_method import teacher_method
from tests.recommenders.toys import toy_catalog


def epoch_seconds(monkeypatch, train, *, kind, added=None, **facts):
    """Return the estimate for batches of 8 on a machine where every token that a model reads takes a second."""

    def step_of(model, batch):
        return lambda: batch["input_ids"].numel() + (0 if kind == "causal" else batch["labels"].numel())

    monkeypatch.setattr(module, "training_step", step_of)
    monkeypatch.setattr(module, "fastest", lambda step: float(step()))
    fields = {"generator.kind": kind, "generator.size": "tiny", "training.batch_size": 8, "training.first_items": True}
    fields |= added or {}
    method = Recipe.load("cost_quickstart", fields).system
    backbone = build_backbone(method.options.generator, toy_catalog(40, (8, 8)), seed=0)
    (prompts,) = backbone.prompts(toy_catalog(40, (8, 8)))
    split = SimpleNamespace(train=train, train_user_ids=[str(user) for user in range(len(train))])
    facts = SimpleNamespace(split=split, **facts)
    return module._epoch_seconds(method, backbone, prompts, facts)


@pytest.mark.parametrize("teacher", ["markov", "sasrec_beauty"])
def test_a_teacher_is_fitted_once_a_fold_and_once_to_all(monkeypatch, teacher):
    method = teacher_method(teacher)
    found = Estimate({"a": 2.0, "b": 1.0, "evaluation": 60.0}, 0.0)
    monkeypatch.setattr(type(method), "estimate", lambda self, facts: found)
    facts = SimpleNamespace(split=SimpleNamespace(train=[np.arange(4), np.arange(200)]), cases=10)
    facts.tables = SimpleNamespace(num_items=7)

    seconds = module.teacher_seconds(TrainingOptions(teacher=teacher, teacher_folds=3), facts)

    assert seconds == pytest.approx(4 * 3.0 + 60 / 20 * (4 + 100 + 7))


def test_a_teacher_without_an_estimate_is_named(monkeypatch):
    method = teacher_method("markov")
    monkeypatch.setattr(type(method), "estimate", lambda self, facts: "costs nobody knows")

    assert module.teacher_seconds(TrainingOptions(teacher="markov"), None) == "teacher markov: costs nobody knows"


def test_branches_take_time_as_well(monkeypatch):
    users = [np.arange(3) for _ in range(40)]
    facts = {"tables": SimpleNamespace(num_items=40)}
    fields = {"training.teacher": "markov", "training.teacher_catalog": 0.0, "training.teacher_ends": 0.0}
    taught = epoch_seconds(monkeypatch, users, kind="causal", added=fields, **facts)

    assert taught == pytest.approx(
        40 * (1 + 3 * 3 + 2 * 2), rel=1e-9
    )  # two positions, and two levels of a path at each


def test_empty_histories_take_time_as_well(monkeypatch):
    users = [np.array([row]) for row in range(40)]  # a single item each, learned from nothing

    assert epoch_seconds(monkeypatch, users, kind="seq2seq") == 40 * (1 + 3)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_estimate_of_equal_users_is_the_whole_epochs_work(monkeypatch, kind):
    users = [np.arange(3) for _ in range(40)]
    tokens = {"causal": 1 + 3 * 3, "seq2seq": (1 + 3) + (4 + 3) + (7 + 3)}[kind]  # three levels: one for collisions

    assert epoch_seconds(monkeypatch, users, kind=kind) == pytest.approx(40 * tokens, rel=1e-9)
