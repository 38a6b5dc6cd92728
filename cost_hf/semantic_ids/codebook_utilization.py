"""Codebook utilization: share of used codes and perplexity of every level, and the share of unique codes.

Perplexity detects a degenerate codebook; the share of used codes does not: one giant cluster and a few outliers can use
every code. Nor does the loss, which can fall while all items get one code.
"""

from collections.abc import Sequence

import numpy as np

from cost_hf.semantic_ids.collisions import group_sizes


def level_utilization(codes: np.ndarray, num_codes: int) -> tuple[float, float]:
    """Return the share of the codes that occur, and the perplexity, of one level.

    Args:
        codes: code of every item on this level, `[N]`.
        num_codes: K.

    Returns:
        share in [0, 1]; perplexity `exp(-sum_k p_k log p_k)` in [1, K], with p_k the share of the items that have k.
    """
    shares = np.bincount(codes, minlength=num_codes) / len(codes)
    used = shares[shares > 0]
    return len(used) / int(num_codes), float(np.exp(-(used * np.log(used)).sum()))


def codebook_utilization(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, float]:
    """Describe codes `[N, L]`: per level m = 1 … L `use_m` (share) and `perplexity_m`; `unique_share`, `largest_group`.

    `unique_share` is the number of distinct code tuples over N, `largest_group` the most items that share one.
    """
    found: dict[str, float] = {}
    for level, (column, size) in enumerate(zip(codes.T, level_sizes, strict=True), start=1):
        found[f"use_{level}"], found[f"perplexity_{level}"] = level_utilization(column, size)
    groups = group_sizes(codes, level_sizes)
    found["unique_share"] = float((1 / groups).sum() / len(groups))
    found["largest_group"] = int(groups.max())
    return found
