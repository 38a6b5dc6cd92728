"""Estimated costs of a recipe on this machine: short measurements of its method, scaled to an idle machine.

Reports show them as ranges, since training may stop early and only a few steps are timed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split
from cost_hf.experiments.check.vectors import CheckVectors, text_options
from cost_hf.experiments.recipe import Recipe, row_recipe
from cost_hf.methods.base import DataFacts, Estimate, Method
from cost_hf.stages import peak_memory_mb

THREAD_GAIN = 0.7  # n threads do n ** 0.7 times the work of one, as small models do


@dataclass(frozen=True)
class RunCosts:
    """Expected seconds of one run on this machine's CPU while it does nothing else, and memory.

    Attributes:
        seconds: by stage: `vectors`, those of the method, `evaluation` of the method, `baselines`: their training and
            evaluation.
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
    most = recipe.vectors.most_width(tables.num_items)
    width = most if recipe.vectors.item_columns is not None and most is not None else vectors.width
    cases = min(recipe.evaluation.max_users or len(split.test), len(split.test))
    facts = DataFacts(tables, split, width, recipe.evaluation, cases)
    found = _method_costs(recipe.system, facts)
    if isinstance(found, str):
        return found
    baselines, missing = _baseline_seconds(recipe, facts)
    threads = torch.get_num_threads()
    encoding = {} if recipe.vectors.item_columns is not None else {"vectors": vectors.encode_seconds}
    seconds = {**encoding, **found.seconds, **baselines}
    return RunCosts(
        {stage: wall_seconds(cpu_seconds, threads) for stage, cpu_seconds in seconds.items()},
        memory_mb=peak_memory_mb() + found.memory_mb,
        threads=threads,
        assumptions=(*found.assumptions, *missing, *_assumptions(recipe, vectors)),
    )


def _method_costs(method: Method[Any], facts: DataFacts) -> Estimate | str:
    try:
        method.options.validate()
    except ValueError as error:
        return str(error)
    return method.estimate(facts)


def _baseline_seconds(recipe: Recipe, facts: DataFacts) -> tuple[dict[str, float], list[str]]:
    """Return the CPU seconds of all baselines of a recipe, and what is said of those that can't be measured.

    Every baseline ranks the test cases that the method does; with many cases, that is most of a run.
    """
    costs = {name: _method_costs(row_recipe(name, recipe).system, facts) for name in recipe.baselines}
    measured = [sum(own.seconds.values()) for own in costs.values() if isinstance(own, Estimate)]
    missing = [f"baseline {name} comes on top ({own})" for name, own in costs.items() if isinstance(own, str)]
    return {"baselines": sum(measured)} if measured else {}, missing


def wall_seconds(cpu_seconds: float, threads: int) -> float:
    """Return the time that work of so many CPU seconds takes on an idle machine."""
    return cpu_seconds / threads**THREAD_GAIN


def _assumptions(recipe: Recipe, vectors: CheckVectors) -> tuple[str, ...]:
    if recipe.vectors.item_columns is not None:
        return (f"the training of item vectors of kind {recipe.vectors.kind} comes on top",)
    found = []
    if vectors.basis == "assumed":
        found.append(f"an encoder like MiniLM ({text_options(recipe).model} is not on this machine)")
    if vectors.basis == "cached":
        found.append("item vectors from the cache")
    if torch.cuda.is_available():
        found.append("no use of the GPU that is here")
    return tuple(found)
