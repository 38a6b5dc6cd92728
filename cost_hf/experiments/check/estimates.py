"""What a recipe will cost on this machine: its method's short measurements, scaled to an idle machine.

All figures are shown as ranges: training may stop early, and a few timed steps are not the whole of it.
"""

import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split
from cost_hf.experiments.check.vectors import CheckVectors
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import DataFacts

RANGE = (0.7, 1.6)  # the bounds of every figure, as shares of the estimate
THREAD_GAIN = 0.7  # n threads do n ** 0.7 times the work of one, as small models do


@dataclass(frozen=True)
class RunCosts:
    """Expected seconds of one run on this machine's CPU while it does nothing else, and memory.

    Attributes:
        seconds: by stage: `vectors`, those of the method, `evaluation`.
        memory_mb: of the process, at its largest.
        threads: that torch will use.
        assumptions: what the figures rest on.
    """

    seconds: Mapping[str, float]
    memory_mb: float
    threads: int
    assumptions: tuple[str, ...]

    @property
    def run(self) -> float:
        """Seconds of all stages of one run."""
        return sum(self.seconds.values())


def estimate(recipe: Recipe, tables: Tables, split: Split, vectors: CheckVectors) -> RunCosts | str:
    """Measure and scale; where the recipe's method can't be measured here, return why."""
    cases = min(recipe.evaluation.max_users or len(split.test), len(split.test))
    found = recipe.system.estimate(DataFacts(tables, split, vectors.width, recipe.evaluation, cases))
    if isinstance(found, str):
        return found
    threads = torch.get_num_threads()
    seconds = {"vectors": vectors.encode_seconds, **found.seconds}
    return RunCosts(
        {stage: wall_seconds(cpu_seconds, threads) for stage, cpu_seconds in seconds.items()},
        memory_mb=peak_mb() + found.memory_mb,
        threads=threads,
        assumptions=(*found.assumptions, *_assumptions(recipe, vectors)),
    )


def wall_seconds(cpu_seconds: float, threads: int) -> float:
    """Return the time that work of so many CPU seconds takes on an idle machine."""
    return cpu_seconds / threads**THREAD_GAIN


def duration(seconds: float) -> str:
    """Return an honest range in words: `under a minute`, `4–8 minutes`, `2–4 hours`."""
    low, high = (seconds * share for share in RANGE)
    if high <= 60:
        return "under a minute"
    if high <= 90 * 60:
        return _span(low / 60, high / 60, "minutes")
    return _span(low / 3600, high / 3600, "hours")


def memory(megabytes: float) -> str:
    """Return a range of gigabytes in words."""
    low, high = (megabytes / 1024 * share for share in (1.0, 2.0))
    return f"{low:.1f}–{high:.1f} GB" if high < 3 else f"{low:.0f}–{math.ceil(high)} GB"


def peak_mb() -> float:
    """Return the highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _span(low: float, high: float, unit: str) -> str:
    step = 5 if high > 20 else 1
    first, last = max(1, step * math.floor(low / step)), step * math.ceil(high / step)
    return f"{first}–{last} {unit}"


def _assumptions(recipe: Recipe, vectors: CheckVectors) -> tuple[str, ...]:
    found = []
    if vectors.basis == "assumed":
        found.append(f"an encoder like MiniLM ({recipe.vectors.model} is not on this machine)")
    if vectors.basis == "cached":
        found.append("item vectors from the cache")
    if torch.cuda.is_available():
        found.append("no use of the GPU that is here")
    return tuple(found)
