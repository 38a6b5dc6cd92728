"""Seconds of a step in the package's trainer and in a bare loop over the same batches."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from timing import clock
from torch.utils.data import DataLoader
from training_parts import Setup, bare_step
from transformers import TrainerCallback

from cost_hf.generators.generator_training import GeneratorTrainer
from cost_hf.generators.options import TrainingOptions


def trainer_seconds(setup: Setup, device: str) -> float:
    """Return the seconds a step takes in GeneratorTrainer, over one epoch of the setup's examples."""
    options = TrainingOptions(epochs=1, batch_size=setup.batch_size, precision="fp32")
    with tempfile.TemporaryDirectory() as directory:
        trainer = GeneratorTrainer(
            setup.model.to(device),
            options,
            dataset=setup.dataset,
            collator=setup.collate,
            groups_by_length=setup.kind == "seq2seq",
            directory=Path(directory),
            seed=0,
            validate=None,
        )
        ticks = StepTicks(setup.steps_per_epoch)
        trainer.add_callback(ticks)
        trainer.train()
    return ticks.seconds_per_step()


def bare_seconds(setup: Setup, device: str) -> float:
    """Return the seconds a step takes in a plain loop over the same batches."""
    sampler = setup.order(is_grouped=setup.kind == "seq2seq")
    loader = DataLoader(setup.dataset, setup.batch_size, sampler=sampler, collate_fn=setup.collate)
    model = setup.model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    ticks = StepTicks(setup.steps_per_epoch)
    for batch in loader:
        loss = model(**{name: values.to(device) for name, values in batch.items()}).loss
        bare_step(model, optimizer, loss)
        ticks.on_step_end()
    return ticks.seconds_per_step()


class StepTicks(TrainerCallback):
    """Notes the time at the end of the first step, which warms up, and of the last: a look at it drains a GPU."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.times: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Count a step."""
        self.done += 1
        if self.done in (1, self.steps):
            self.times.append(clock())

    def seconds_per_step(self) -> float:
        """Return the mean of all steps but the first."""
        return (self.times[-1] - self.times[0]) / (self.steps - 1)
