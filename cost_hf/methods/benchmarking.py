"""Short measurements of the real parts of a method on this machine: a few steps each, on batches of real lengths.

Speeds differ more between machines and models than any table could tell, and a few seconds of the real thing are enough
to tell minutes from hours. All figures are CPU seconds of one thread, the fastest of a few repetitions, because a wall
clock on a busy machine measures the work of others.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from cost_hf.semantic_ids.catalog import Catalog

BUDGET_SECONDS = 1.0  # of one measurement, beyond its first repetition
BYTES_PER_WEIGHT = 16  # weight, gradient and two moments of AdamW, fp32
SEEN_SETTINGS = 2  # every test case is ranked with seen items allowed and again without them


def training_step(model: nn.Module, batch: Mapping[str, Any]) -> Callable[[], None]:
    """Return a function that makes one step of AdamW on a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def fastest(work: Callable[[], object]) -> float:
    """Return the CPU seconds, in one thread, of the fastest of a few calls; the first one only warms up."""
    times: list[float] = []
    with one_thread():
        work()
        while not times or (sum(times) < BUDGET_SECONDS and len(times) < 5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return min(times)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def weights_mb(model: nn.Module) -> float:
    """Return the memory of a model in training, in MiB: weights, gradients and the moments of AdamW."""
    return sum(weight.numel() for weight in model.parameters()) * BYTES_PER_WEIGHT / 2**20


def with_noise(catalog: Catalog, width: int) -> Catalog:
    """Return a catalog with item vectors of seeded noise, for estimates of costs."""
    noise = np.random.default_rng(0).normal(size=(len(catalog), width)).astype(np.float32)
    return catalog.with_vectors(list(catalog.item_ids), noise)
