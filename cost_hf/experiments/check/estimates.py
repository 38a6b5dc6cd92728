"""What a recipe will cost on this machine: short measurements, scaled by its epochs and by the size of the data.

All figures are shown as ranges: training may stop early, and a few timed steps are not the whole of it.
"""

import math
import resource
import sys
from dataclasses import dataclass

import torch

from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split
from cost_hf.experiments.check.benchmark import time_generator, time_quantizer, time_sasrec, wall_seconds
from cost_hf.experiments.check.vectors import CheckVectors
from cost_hf.experiments.recipe import Recipe

RANGE = (0.7, 1.6)  # the bounds of every figure, as shares of the estimate
UNTRAINED_SECONDS = 10.0  # of CPU: residual k-means, categories or random codes
SEEN_SETTINGS = 2  # every test case is ranked with seen items allowed and again without them
BYTES_PER_WEIGHT = 16  # weight, gradient and two moments of AdamW, fp32


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of one run on this machine's CPU while it does nothing else, and memory.

    Attributes:
        vectors, codes, training, judging: seconds of the stages; codes and training (of a generator) are None for a
            recipe of SASRec.
        sasrec: seconds of a SASRec on the same data, for `cost-hf compare`, or as the system of the recipe.
        memory_mb: of the process, at its largest.
        threads: that torch will use.
        assumptions: what the figures rest on.
    """

    vectors: float
    codes: float | None
    training: float | None
    judging: float
    sasrec: float
    memory_mb: float
    threads: int
    assumptions: tuple[str, ...]

    @property
    def run(self) -> float:
        """Seconds of all stages of one run."""
        system = self.sasrec if self.codes is None or self.training is None else self.codes + self.training
        return self.vectors + system + self.judging


def estimate(recipe: Recipe, tables: Tables, split: Split, vectors: CheckVectors) -> Estimate | str:
    """Measure and scale; where the recipe's generator can't be built here, return why."""
    if recipe.method == "sasrec":
        return _dense_estimate(recipe, tables, split, vectors)
    if recipe.generator.backbone is not None:
        return f"the pretrained backbone {recipe.generator.backbone!r} is not loaded for a check"
    room = math.prod(recipe.codes.level_sizes)
    if recipe.catalog.collisions == "append" and room * recipe.catalog.append_size < tables.num_items:
        return f"codes of {list(recipe.codes.level_sizes)} have no room for {tables.num_items:,} items"
    ids = tables.items["item_id"].tolist()
    speed = time_generator(recipe, ids, split)
    training, evaluation = recipe.training, recipe.evaluation
    validations = math.ceil(training.epochs / training.validate_every)
    validated = min(training.validation_users, len(split.validation)) * speed.user_seconds[training.validation_beams]
    codes = UNTRAINED_SECONDS
    if recipe.codes.is_trained:
        codes = recipe.codes.epochs * time_quantizer(recipe, num_items=tables.num_items, item_dim=vectors.width)
    sasrec, threads = _sasrec_seconds(recipe, tables, split), torch.get_num_threads()
    if recipe.codes.needs_collaborative:
        codes += sasrec  # the one that codes are aligned with
    judging = SEEN_SETTINGS * _cases(recipe, split) * speed.user_seconds[evaluation.num_beams]
    return Estimate(
        vectors=wall_seconds(vectors.encode_seconds, threads),
        codes=wall_seconds(codes, threads),
        training=wall_seconds(training.epochs * speed.epoch_seconds + validations * validated, threads),
        judging=wall_seconds(judging, threads),
        sasrec=wall_seconds(sasrec, threads),
        memory_mb=peak_mb() + speed.parameters * BYTES_PER_WEIGHT / 2**20,
        threads=threads,
        assumptions=_assumptions(recipe, vectors),
    )


def _dense_estimate(recipe: Recipe, tables: Tables, split: Split, vectors: CheckVectors) -> Estimate:
    """Return the costs of a recipe whose system is SASRec: no codes, no generator."""
    width, threads = recipe.sasrec.hidden_size, torch.get_num_threads()
    judging = SEEN_SETTINGS * time_sasrec(tables.num_items, _cases(recipe, split), width=width)
    return Estimate(
        vectors=wall_seconds(vectors.encode_seconds, threads),
        codes=None,
        training=None,
        judging=wall_seconds(judging, threads),
        sasrec=wall_seconds(_sasrec_seconds(recipe, tables, split), threads),
        memory_mb=peak_mb() + tables.num_items * width * BYTES_PER_WEIGHT / 2**20,
        threads=threads,
        assumptions=_assumptions(recipe, vectors),
    )


def _cases(recipe: Recipe, split: Split) -> int:
    return min(recipe.evaluation.max_users or len(split.test), len(split.test))


def _sasrec_seconds(recipe: Recipe, tables: Tables, split: Split) -> float:
    """Return the CPU seconds of training the recipe's SASRec."""
    clicks = sum(map(len, split.train))
    return recipe.sasrec.epochs * time_sasrec(tables.num_items, clicks, width=recipe.sasrec.hidden_size)


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
    found = [f"{recipe.sasrec.epochs} epochs of SASRec"]
    if recipe.method != "sasrec":
        found.insert(0, f"all {recipe.training.epochs} epochs (training may stop early)")
    if vectors.basis == "assumed":
        found.append(f"an encoder like MiniLM ({recipe.vectors.model} is not on this machine)")
    if vectors.basis == "cached":
        found.append("item vectors from the cache")
    if torch.cuda.is_available():
        found.append("no use of the GPU that is here")
    return tuple(found)
