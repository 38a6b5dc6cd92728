"""What a training run is made of: its order, its dropout, and how it ends where something breaks."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from transformers import TrainerCallback
from transformers.integrations import integration_utils
from transformers.utils import logging as transformers_logging

from cost_hf.generators import dropout, ranking_trainer
from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import GeneratorTrainer, train_generator
from cost_hf.generators.options import TrainingOptions
from cost_hf.generators.ranking_trainer import LengthGroupedSampler, ShuffledSampler
from tests.recommenders.toys import toy_catalog
from tests.runs import ROOT

pytestmark = pytest.mark.trains
USERS = [(start + np.arange(5)) % 40 for start in range(32)]


class Stopped(BaseException):
    """Stands for whatever ends a run early."""


def backbone_of(kind="causal", dropout=0.1):
    options = GeneratorOptions(kind=kind, size="tiny", max_history=8, dropout=dropout)
    return options, build_backbone(options, toy_catalog(40, (8, 8)), seed=0)


def fit(directory, options, backbone, *, users=USERS, validate=lambda model: {"ndcg@10": 0.5}, **training):
    prompts = backbone.prompts(toy_catalog(40, (8, 8)))
    settings = {"epochs": 2, "batch_size": 16, "warmup_steps": 1, "precision": "fp32", **training}
    return train_generator(
        backbone,
        prompts,
        users,
        ["u"] * len(users),
        generator=options,
        training=TrainingOptions(**settings),
        validate=validate,
        output_dir=directory,
        seed=0,
    )


@pytest.mark.parametrize(
    ("name", "processes"),
    [("multi_gpu", 2), ("multi_gpu_8", 8), ("deepspeed_zero2", 2), ("fsdp", 2), ("fsdp_8", 8)],
)
def test_the_launch_configurations_are_accelerates(name, processes):
    config = load_config_from_file(str(ROOT / "cost_hf" / "recipes" / "accelerate" / f"{name}.yaml"))

    assert config.mixed_precision == "bf16"
    assert config.num_processes == processes


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


@pytest.mark.parametrize(("kind", "order"), [("causal", ShuffledSampler), ("seq2seq", LengthGroupedSampler)])
def test_padded_batches_alone_are_grouped_by_length(tmp_path, monkeypatch, kind, order):
    seen, stock = [], GeneratorTrainer._get_train_sampler

    def sampler_of(self, train_dataset=None):
        seen.append(stock(self, train_dataset))
        return seen[-1]

    monkeypatch.setattr(GeneratorTrainer, "_get_train_sampler", sampler_of)
    fit(tmp_path, *backbone_of(kind), epochs=1)

    assert {type(sampler.sampler) for sampler in seen} == {order}


@pytest.mark.parametrize(
    ("kind", "share", "calls_per_step"),
    [
        ("causal", 0.1, 1 + 2 * 2),
        ("causal", 0.0, 0),
        ("seq2seq", 0.1, 0),  # T5 has modules of its own
    ],
)
def test_every_step_of_a_causal_generator_drops_residuals(tmp_path, monkeypatch, kind, share, calls_per_step):
    shares, stock = [], dropout.drop
    monkeypatch.setattr(dropout, "drop", lambda values, share: shares.append(share) or stock(values, share))
    options, backbone = backbone_of(kind, share)

    trained = fit(tmp_path, options, backbone)

    assert shares == [share] * (calls_per_step * trained.history[-1]["step"])
    assert hooks_of(trained.model) == []


def test_an_interrupted_run_leaves_the_model_without_hooks(tmp_path):
    options, backbone = backbone_of()

    def validate(model):
        assert len(hooks_of(model)) == 1 + 2 * 2 + 1
        raise Stopped

    with pytest.raises(Stopped):
        fit(tmp_path, options, backbone, validate=validate, temperature=0.5)

    assert hooks_of(backbone.model) == []
    assert backbone.model.config.use_cache


def test_a_run_without_examples_leaves_the_model_without_hooks(tmp_path):
    options, backbone = backbone_of()

    with pytest.raises(ValueError, match="holds no example"):
        fit(tmp_path, options, backbone, users=[])

    assert hooks_of(backbone.model) == []


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_loss_that_is_no_number_ends_the_run_before_a_checkpoint(tmp_path, kind):
    options, backbone = backbone_of(kind)
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight[-1, 0] = torch.inf

    with pytest.raises(FloatingPointError, match=r"finite loss, got nan at step \d+; lower the learning rate"):
        fit(tmp_path, options, backbone, validate=lambda model: pytest.fail("a broken model was ranked"))

    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_gradient_that_is_no_number_ends_the_run(tmp_path):
    options, backbone = backbone_of()
    backbone.model.model.norm.weight.register_hook(lambda gradient: gradient * torch.nan)

    with pytest.raises(FloatingPointError, match="finite grad_norm, got nan at step 1"):
        fit(tmp_path, options, backbone, users=USERS[:16], epochs=1)


@pytest.mark.parametrize("process", [0, 1])
def test_every_process_has_random_numbers_of_its_own(tmp_path, monkeypatch, process):
    seeds = []

    def train(self, **_kwargs):
        seeds.append(torch.initial_seed())
        raise Stopped

    state = SimpleNamespace(
        num_processes=2, process_index=process, is_main_process=process == 0, main_process_first=nullcontext
    )
    monkeypatch.setattr(ranking_trainer, "PartialState", lambda: state)
    monkeypatch.setattr(GeneratorTrainer, "train", train)
    with pytest.raises(Stopped):
        fit(tmp_path, *backbone_of())

    assert seeds == [process]  # the first process draws as a run of one process does


def test_accumulated_seq2seq_steps_have_the_mean_loss_and_not_its_sum(tmp_path):
    whole = fit(tmp_path / "whole", *backbone_of("seq2seq", 0.0), epochs=1, batch_size=128)
    parts = fit(tmp_path / "parts", *backbone_of("seq2seq", 0.0), epochs=1, batch_size=16, gradient_accumulation=8)

    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-5)
    assert parts.history[0]["grad_norm"] == pytest.approx(whole.history[0]["grad_norm"], rel=1e-4)


class FakeTracker(TrainerCallback):
    """Keeps what a tracker would send."""

    seen: ClassVar[list] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.seen.append({"run_name": args.run_name, "project": args.project})

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_a_tracker_gets_the_training_log(tmp_path, monkeypatch):
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", FakeTracker)
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["trackio"])
    monkeypatch.setattr(FakeTracker, "seen", [])
    options, backbone = backbone_of()

    trained = fit(tmp_path / "run-0" / "recommender", options, backbone, report_to=["trackio"])

    assert FakeTracker.seen[0] == {"run_name": "run-0/recommender", "project": "cost_hf"}
    logged = [{name: value for name, value in record.items() if name != "step"} for record in trained.history]
    assert FakeTracker.seen[1:] == logged
    assert any(record.get("eval_ndcg@10") == 0.5 for record in FakeTracker.seen)


def test_a_tracker_that_is_not_there_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: [])
    options, backbone = backbone_of()

    with pytest.raises(ValueError, match=r"training.report_to has 'trackio', .* pip install trackio"):
        fit(tmp_path, options, backbone, report_to=["trackio"])
    with pytest.raises(ValueError, match=r"training.report_to takes .*, got 'trackyo'"):
        fit(tmp_path, options, backbone, report_to=["trackyo"])


def test_trackers_are_no_reason_to_train_again():
    assert TrainingOptions(report_to=["trackio"]).content() == TrainingOptions().content()
    assert TrainingOptions(epochs=3).content() != TrainingOptions().content()


def test_a_run_shows_one_bar_and_no_warning_of_no_use(tmp_path, capfd, caplog):
    options, backbone = backbone_of()
    was_enabled = transformers_logging.is_progress_bar_enabled()

    with caplog.at_level("WARNING"):
        fit(tmp_path, options, backbone, epochs=4)

    shown = capfd.readouterr().err
    assert "it/s" in shown
    assert "Writing model shards" not in shown and "Loading weights" not in shown and "mtime" not in shown
    assert not [record for record in caplog.records if "mtime" in record.getMessage()]
    assert transformers_logging.is_progress_bar_enabled() == was_enabled
