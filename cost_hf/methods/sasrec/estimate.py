"""What training and evaluating a model of sequences will cost on this machine."""

import torch
from torch import nn

from cost_hf.methods.base import DataFacts, Estimate
from cost_hf.methods.benchmarking import BYTES_PER_WEIGHT, SEEN_SETTINGS, fastest
from cost_hf.methods.sasrec.options import SequenceOptions

POSITIONS = 1_024


def estimate(options: SequenceOptions, facts: DataFacts) -> Estimate:
    """Return the costs from one timed step of the softmax over the catalog."""
    width = options.model.hidden_size
    num_items = facts.tables.num_items
    clicks = sum(map(len, facts.split.train))
    training = options.training.epochs * softmax_seconds(num_items, clicks, width=width)
    evaluation = SEEN_SETTINGS * softmax_seconds(num_items, facts.cases, width=width)
    return Estimate(
        {"training": training, "evaluation": evaluation},
        num_items * width * BYTES_PER_WEIGHT / 2**20,
        [f"{options.training.epochs} epochs"],
    )


def softmax_seconds(num_items: int, positions: int, *, width: int) -> float:
    """Return the CPU seconds of a full softmax over N items at so many positions, with its gradient."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, width, generator=generator, requires_grad=True)
    table = torch.randn(num_items, width, generator=generator, requires_grad=True)
    labels = torch.randint(num_items, (POSITIONS,), generator=generator)

    def step() -> None:
        nn.functional.cross_entropy(hidden @ table.T, labels).backward()

    return fastest(step) * positions / POSITIONS
