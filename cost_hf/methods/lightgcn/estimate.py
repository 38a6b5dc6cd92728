"""What training and evaluating a LightGCN will cost on this machine."""

import math

import torch

from cost_hf.methods.base import DataFacts, Estimate
from cost_hf.methods.benchmarking import SEEN_SETTINGS, fastest, training_step, weights_mb
from cost_hf.methods.lightgcn.options import LightGcnOptions
from cost_hf.methods.lightgcn.training import ClickGraph, build_training_model

CASES = 256


def estimate(options: LightGcnOptions, facts: DataFacts) -> Estimate:
    """Return the costs from one timed step on the real graph."""
    num_items = facts.tables.num_items
    graph = ClickGraph.of(facts.split.train, num_items)
    model = build_training_model(options, graph, seed=0)
    generator = torch.Generator().manual_seed(0)
    size = options.training.batch_size
    batch = {"users": torch.randint(graph.num_users, (size,), generator=generator)}
    batch |= {name: torch.randint(num_items, (size,), generator=generator) for name in ("positives", "negatives")}
    steps = options.training.epochs * math.ceil(sum(map(len, facts.split.train)) / size)
    training = steps * fastest(training_step(model, batch))
    users = torch.randn(CASES, options.model.hidden_size, generator=generator)
    items = torch.randn(num_items, options.model.hidden_size, generator=generator)
    evaluation = SEEN_SETTINGS * facts.cases / CASES * fastest(lambda: users @ items.T)
    return Estimate(
        {"training": training, "evaluation": evaluation},
        weights_mb(model),
        [f"all {options.training.epochs} epochs of LightGCN (training may stop early)"],
    )
