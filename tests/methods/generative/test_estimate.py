"""From the times of a few batches to the time of an epoch."""

from types import SimpleNamespace

import numpy as np
import pytest

from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.backbones import build_backbone
from cost_hf.methods.generative import estimate as module
from tests.recommenders.toys import toy_catalog


def epoch_seconds(monkeypatch, train, *, kind):
    """Return the estimate for batches of 8 on a machine where every token that a model reads takes a second."""

    def step_of(model, batch):
        return lambda: batch["input_ids"].numel() + (0 if kind == "causal" else batch["labels"].numel())

    monkeypatch.setattr(module, "training_step", step_of)
    monkeypatch.setattr(module, "fastest", lambda step: float(step()))
    fields = {"generator.kind": kind, "generator.size": "tiny", "training.batch_size": 8, "training.first_items": True}
    method = Recipe.load("cost_quickstart", fields).system
    backbone = build_backbone(method.options.generator, toy_catalog(40, (8, 8)), seed=0)
    (prompts,) = backbone.prompts(toy_catalog(40, (8, 8)))
    split = SimpleNamespace(train=train, train_user_ids=[str(user) for user in range(len(train))])
    facts = SimpleNamespace(split=split)
    return module._epoch_seconds(method, backbone, prompts, facts)


def test_empty_histories_take_time_as_well(monkeypatch):
    users = [np.array([row]) for row in range(40)]  # a single item each, learned from nothing

    assert epoch_seconds(monkeypatch, users, kind="seq2seq") == 40 * (1 + 3)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_estimate_of_equal_users_is_the_whole_epochs_work(monkeypatch, kind):
    users = [np.arange(3) for _ in range(40)]
    tokens = {"causal": 1 + 3 * 3, "seq2seq": (1 + 3) + (4 + 3) + (7 + 3)}[kind]  # three levels: one for collisions

    assert epoch_seconds(monkeypatch, users, kind=kind) == pytest.approx(40 * tokens, rel=1e-9)
