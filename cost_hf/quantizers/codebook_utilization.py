"""Whether a codebook is alive: use, perplexity, unique share, and the error that stops a collapsed run.

Perplexity decides, not use: a giant center and a few outliers use every code. Neither does the loss, which can fall
while all items get one code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_hf.quantizers.errors import CodebookCollapse
from cost_hf.quantizers.options import CodesOptions
from cost_hf.semantic_ids.collisions import group_sizes

COLLAPSE_PATIENCE = 5  # epochs: a poor start recovers by revival, a collapse does not


def code_health(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, float]:
    """Describe codes `[N, L]`: per level m = 1 … L `use_m` (share) and `perplexity_m`; `unique_share`, `largest_group`.

    `unique_share` is the number of distinct code tuples over N, `largest_group` the most items that share one.
    """
    health: dict[str, float] = {}
    for level, (column, size) in enumerate(zip(codes.T, level_sizes, strict=True), start=1):
        shares = np.bincount(column, minlength=size) / len(column)
        used = shares[shares > 0]
        health[f"use_{level}"] = len(used) / size
        health[f"perplexity_{level}"] = float(np.exp(-(used * np.log(used)).sum()))
    groups = group_sizes(codes, level_sizes)
    health["unique_share"] = float((1 / groups).sum() / len(groups))
    health["largest_group"] = int(groups.max())
    return health


def check_collapse(
    records: Sequence[Mapping[str, Any]], level_sizes: Sequence[int], *, num_items: int, options: CodesOptions
) -> None:
    """Raise CodebookCollapse, saying what was seen and what to change, where all `records` show a collapse.

    A record shows one where the first level, or the mean of all, has too little perplexity. Perplexity counts from 1
    (one code for all) to what the codes and items allow; `min_perplexity_share` is of that range.
    """

    def is_collapsed(health: Mapping[str, Any]) -> bool:
        shares = [
            (health[f"perplexity_{level}"] - 1) / max(min(size, num_items) - 1, 1)
            for level, size in enumerate(level_sizes, start=1)
        ]
        return min(shares[0], sum(shares) / len(shares)) < options.min_perplexity_share

    if not all(map(is_collapsed, records)):
        return
    last = records[-1]
    seen = ", ".join(f"{last[f'perplexity_{level}']:.1f} of {size}" for level, size in enumerate(level_sizes, start=1))
    when = f"after epoch {round(last['epoch'])} " if "epoch" in last else ""
    raise CodebookCollapse(
        f"the codebooks collapsed: {when}the perplexities are {seen} codes, expected more than "
        f"{options.min_perplexity_share!r} of the codes (codes.min_perplexity_share); {'; '.join(_advice(options))}"
    )


def _advice(options: CodesOptions) -> list[str]:
    """Return what to change: settings that are not at their safe value first."""
    advice = []
    if options.input_norm != "l2":
        advice.append("set codes.input_norm to l2")
    if not options.is_trained:
        return [*advice, "lower codes.pca_dim", "look for items with the same text", "lower codes.level_sizes"]
    if options.initialization == "none":
        advice.append("set codes.initialization to full")
    if not options.revival or options.revival_share == 0:
        advice.append("set codes.revival to true")
    if options.reduction != "sum":
        advice.append("set codes.reduction to sum")
    advice.append(f"lower codes.learning_rate (now {options.learning_rate!r})")
    return [*advice, "use codes.kind rkmeans, which needs no training"]


def health_records(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of `code_health` in a Trainer log, oldest first."""
    return [dict(record) for record in log_history if "perplexity_1" in record]
