"""Training and judging of one variant of `t5_study.py`, in a process of its own."""

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from t5_data import Study
from t5_mechanisms import NextItems, NextItemsCollator, OnePrefixTrainer, start_small
from t5_variants import CPU_VARIANTS, VARIANTS, Variant
from timing import clock
from transformers import TrainerCallback

from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.generators.backbones import Backbone, GeneratorOptions, build_backbone
from cost_hf.generators.collation import PrefixDataset
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.options import TrainingOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.semantic_ids.trie import SidTrie

BEAMS = 50
VALIDATION_BEAMS = 10
WARMUP = 100


class Judge:
    """Ranks validation and test cases, keeps the learning curve and the seconds of training alone."""

    def __init__(self, study: Study, prompts: PromptBuilder, arguments: argparse.Namespace):
        self.study = study
        self.prompts = prompts
        self.cases = {
            "validation": study.targets("validation", arguments.validation_users),
            "test": study.targets("test", arguments.test_users),
        }
        self.trie = SidTrie.from_catalog(study.catalog, popularity=study.popularity)
        self.curve: list[dict[str, float]] = []
        self.validating = 0.0
        self.start = clock()

    def seconds(self) -> float:
        """Return the seconds so far, less those of validations."""
        return clock() - self.start - self.validating

    def validate(self, model: Any) -> dict[str, float]:
        """Return the mean validation metrics and add a point to the curve."""
        seconds = self.seconds()
        begin = clock()
        values = self.values(model, "validation", VALIDATION_BEAMS, 512)
        metrics = {name: float(column.mean()) for name, column in values.items()}
        self.curve.append({"seconds": round(seconds, 1), "ndcg@10": round(metrics["ndcg@10"], 5)})
        self.validating += clock() - begin
        return metrics

    def values(self, model: Any, part: str, beams: int, batch_size: int) -> dict[str, np.ndarray]:
        """Return Recall@10 and NDCG@10 of every case of a part."""
        ranker = BeamRanker(model, self.prompts, self.trie, num_beams=beams)
        settings: dict[str, Any] = {"sid_keys": None, "num_items": len(self.study.catalog), "exclude_seen": False}
        ranked = evaluate_ranker(
            ranker, self.cases[part], top_k=beams, batch_size=batch_size, progress=False, **settings
        )
        return per_user_metrics(ranked.item_rank, cutoffs=[10])


class Budget(TrainerCallback):
    """Learning rate from warm-up linearly to zero at the last step or the last second, whichever comes first."""

    def __init__(self, limit_seconds: float, elapsed: Callable[[], float]):
        self.limit_seconds = limit_seconds
        self.elapsed = elapsed

    def on_step_begin(self, args: Any, state: Any, control: Any, *, optimizer: Any, **_: Any) -> None:
        """Set the learning rate of the coming step."""
        share = min((state.global_step + 1) / WARMUP, 1.0) * max(1.0 - self._progress(state), 0.0)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the training, with a last validation, when the budget is used."""
        if self._progress(state) >= 1.0:
            control.should_training_stop = control.should_evaluate = control.should_save = True

    def _progress(self, state: Any) -> float:
        return max(state.global_step / state.max_steps, self.elapsed() / self.limit_seconds)


def work(arguments: argparse.Namespace) -> None:
    """Train and judge one variant and seed; write its row and the test metrics of every case."""
    name, seed = arguments.worker.rsplit(":", 1)
    variant = (VARIANTS | CPU_VARIANTS)[name]
    study = Study(arguments.prepared)
    on_gpu = torch.cuda.is_available()
    PartialState(cpu=not on_gpu)
    set_seed(int(seed))
    generator = GeneratorOptions(**variant.generator)
    backbone = build_backbone(generator, study.catalog, seed=int(seed))
    prompts = variant.prompts.for_catalog(
        study.catalog, backbone.vocabulary, is_causal=generator.kind == "causal", max_history=generator.max_history
    )
    judge = Judge(study, prompts, arguments)
    with tempfile.TemporaryDirectory() as folder:
        model, history = train(variant, study, backbone, prompts, judge, arguments, Path(folder), seed=int(seed))
    seconds = judge.seconds()
    steps = {entry["step"]: entry["epoch"] for entry in history if "eval_ndcg@10" in entry}
    points = zip(steps.items(), judge.curve, strict=True)
    curve = [{"step": step, "epoch": round(epoch, 2), **point} for (step, epoch), point in points]
    row = {"variant": name, "seed": int(seed), "millions": round(model.num_parameters() / 1e6, 2)}
    row |= {"steps": curve[-1]["step"], "epochs": curve[-1]["epoch"], "seconds": round(seconds, 1)}
    row |= {"validation ndcg@10": max(point["ndcg@10"] for point in curve), "curve": curve}
    np.savez(arguments.out.with_suffix(".npz"), **judge.values(model, "test", BEAMS, 256 if on_gpu else 64))
    arguments.out.write_text(json.dumps(row))


def train(
    variant: Variant,
    study: Study,
    backbone: Backbone,
    prompts: PromptBuilder,
    judge: Judge,
    arguments: argparse.Namespace,
    folder: Path,
    *,
    seed: int,
) -> tuple[Any, list[dict[str, float]]]:
    """Train within the budget and return the best model in eval mode and the trainer's log."""
    generator = GeneratorOptions(**variant.generator)
    options = training_options(variant, study, arguments)
    users = [str(number) for number in range(len(study.train))]
    dataset: Any
    collator: Any
    dataset, collator = training_examples(backbone, [prompts], study.train, users, training=options)
    if variant.target_items > 1:
        prefixes = PrefixDataset(study.train, users, max_history=generator.max_history)
        dataset = NextItems(prefixes, variant.target_items)
        collator = NextItemsCollator(prompts)
    if variant.starts_small:
        start_small(backbone.model)
    handles = add_residual_dropout(backbone.model, generator.scratch_dropout) if prompts.is_causal else []
    parts: dict[str, Any] = {"dataset": dataset, "collator": collator, "groups_by_length": not prompts.is_causal}
    trainer = variant.trainer(backbone.model, options, **parts, directory=folder, seed=seed, validate=judge.validate)
    trainer.add_callback(Budget(60 * arguments.minutes * variant.budget, judge.seconds))
    model = trainer.fit()
    for handle in handles:
        handle.remove()
    model.config.use_cache = True  # Trainer turns it off
    return model, trainer.state.log_history


def training_options(variant: Variant, study: Study, arguments: argparse.Namespace) -> TrainingOptions:
    """Return the options of a variant that makes so many updates with so many validations."""
    options = TrainingOptions(**variant.training, scheduler="constant", patience=None)
    examples = len(study.train)
    if variant.generator["kind"] == "seq2seq":
        examples = sum(map(len, study.train)) - (0 if options.first_items else len(study.train))
    steps = variant.steps or arguments.steps
    per_pass = math.ceil(examples / options.batch_size)
    users_pass = math.ceil(len(study.train) / options.batch_size)
    options.epochs = math.ceil(steps / (users_pass if variant.trainer is OnePrefixTrainer else per_pass))
    options.validate_every = max(round(steps / arguments.validations / per_pass), 1)
    return options
