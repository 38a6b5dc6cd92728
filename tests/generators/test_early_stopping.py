"""Early stopping and the best checkpoint, where the run is killed around its end or its directory is moved."""

import numpy as np
import pytest
import torch

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import GeneratorTrainer, train_generator
from cost_hf.generators.options import TrainingOptions
from tests.recommenders.toys import toy_catalog

pytestmark = pytest.mark.trains


class Killed(BaseException):
    """Stands for a signal."""


def fit(directory, scores: list[float], **training):
    """Train with made-up NDCG@10 of each validation; the run is killed where the list ends."""
    catalog, options = toy_catalog(40, (8, 8)), GeneratorOptions(size="tiny", max_history=8, dropout=0.1)
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)
    left = list(scores)

    def validate(model):
        if not left:
            raise Killed
        return {"ndcg@10": left.pop(0)}

    trained = train_generator(
        backbone,
        prompts,
        [(start + np.arange(6)) % 40 for start in range(30)],
        ["u"] * 30,
        generator=options,
        training=TrainingOptions(**{"epochs": 4, "batch_size": 16, "warmup_steps": 2, **training}),
        validate=validate,
        output_dir=directory,
        seed=0,
    )
    assert left == []
    return trained.model.state_dict()


def kill_before_the_best_model_comes_back(patch):
    def load_best_model(self):
        raise Killed

    patch.setattr(GeneratorTrainer, "_load_best_model", load_best_model)


@pytest.mark.parametrize("batch_size", [16, 30])  # two steps an epoch, one step an epoch
def test_a_run_killed_behind_its_early_end_does_not_train_on(tmp_path, monkeypatch, batch_size):
    straight = fit(tmp_path / "straight", [0.5, 0.4], patience=1, batch_size=batch_size)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_before_the_best_model_comes_back(patch)
        fit(tmp_path / "killed", [0.5, 0.4], patience=1, batch_size=batch_size)

    resumed = fit(tmp_path / "killed", [], patience=1, batch_size=batch_size)

    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_patience_counts_the_validations_before_a_kill(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, [0.5, 0.4], patience=2)

    fit(tmp_path, [0.3], patience=2)


def test_the_best_checkpoint_is_found_in_a_directory_that_was_moved(tmp_path):
    straight = fit(tmp_path / "straight", [0.9, 0.1, 0.2, 0.3])
    with pytest.raises(Killed):
        fit(tmp_path / "killed", [0.9, 0.1])
    (tmp_path / "killed").rename(tmp_path / "moved")

    resumed = fit(tmp_path / "moved", [0.2, 0.3])

    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
