"""Health of an assignment of semantic IDs, measured without any generator.

Perplexity, not use, tells a degenerate codebook: a giant centre and a few outliers still use every code. Neighbourhoods
are compared by the expected overlap of top lists, ties in random order, so that items which share a SID or a prefix are
neither favoured nor punished by row order. Overlap with prefixes grows by itself when groups are larger: read it beside
the group sizes and collisions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cost_hf.evaluation.similarity import unit_vectors
from cost_hf.semantic_ids.codebook_utilization import level_utilization
from cost_hf.semantic_ids.item_ids import check_codes

CHUNK_ENTRIES = 2**22  # similarities held at once: 32 MiB


def sid_health(
    codes: np.ndarray,
    level_sizes: Sequence[int],
    *,
    vectors: np.ndarray | None = None,
    reconstruction: np.ndarray | None = None,
    neighbours: int = 10,
    max_queries: int = 4096,
    seed: int = 0,
) -> dict[str, Any]:
    """Describe the codes of a catalog.

    Args:
        codes: model-level codes `[N, L]`, without an appended level.
        level_sizes: codes per level, L numbers.
        vectors: item text vectors x `[N, E]`; without them neighbourhoods are left out.
        reconstruction: x_hat of every item `[N, E]`, where the quantizer has a decoder.
        neighbours: length of the compared neighbour lists, lowered to N - 1 for tiny catalogs.
        max_queries: neighbourhoods are measured for a seeded sample of this many items in larger catalogs.
        seed: of that sample.

    Returns:
        JSON-able: `levels` (per level `num_codes`, `use` as a share, `perplexity`), `unique_share` (distinct SIDs / N),
        `collided_share` (items that share theirs), `largest_group`, `group_sizes` (mean size of an item's own
        group per prefix length 1 … L) and, with vectors, `knn_overlap_prefix`, `knn_same_prefix` (share of neighbours
        with the same prefix, per length), with x_hat `knn_overlap_reconstruction`.
    """
    codes = np.asarray(codes, dtype=np.int64)
    check_codes(codes, level_sizes, min_items=1)
    for name, table in (("vectors", vectors), ("reconstruction", reconstruction)):
        if table is not None and len(table) != len(codes):
            raise ValueError(f"{name} must have one row per item, {len(codes)!r}, got {len(table)!r}; use one catalog")
    prefixes = prefix_groups(codes)  # [N, L]
    sizes = np.stack([np.bincount(column)[column] for column in prefixes.T], axis=1)  # [N, L] own group
    full = sizes[:, -1]
    health: dict[str, Any] = {
        "levels": [_level(column, size) for column, size in zip(codes.T, level_sizes, strict=True)],
        "unique_share": float((prefixes[:, -1].max() + 1) / len(codes)),
        "collided_share": float((full > 1).mean()),
        "largest_group": int(full.max()),
        "group_sizes": sizes.mean(axis=0).tolist(),
    }
    if vectors is not None and len(codes) > 1:
        queries = np.sort(np.random.default_rng(seed).permutation(len(codes))[:max_queries])
        width = min(neighbours, len(codes) - 1)
        health |= _neighbourhoods(prefixes, vectors, reconstruction, queries=queries, width=width)
    return health


def _level(codes: np.ndarray, num_codes: int) -> dict[str, float | int]:
    use, perplexity = level_utilization(codes, num_codes)
    return {"num_codes": int(num_codes), "use": use, "perplexity": perplexity}


def prefix_groups(codes: np.ndarray) -> np.ndarray:
    """Return a dense group number per item and prefix length 1 … L, int64 `[N, L]`; equal prefixes, equal numbers."""
    groups = np.zeros(len(codes), dtype=np.int64)
    columns = []
    for column in codes.T:
        _, groups = np.unique(groups * (int(column.max()) + 1) + column, return_inverse=True)
        columns.append(groups)
    return np.stack(columns, axis=1)


def top_neighbours(vectors: np.ndarray, queries: np.ndarray, *, width: int) -> np.ndarray:
    """Return the `width` items nearest by cosine to every query row, without itself, int64 `[Q, width]`."""
    units = unit_vectors(vectors)

    def nearest(rows: np.ndarray) -> np.ndarray:
        scores = units[rows] @ units.T
        scores[np.arange(len(rows)), rows] = -np.inf
        return np.argpartition(-scores, width - 1, axis=1)[:, :width]

    return _by_chunks(nearest, queries, len(units))


def expected_overlap(scores: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the expected share of `neighbours` `[Q, k]` in the top k by `scores` `[Q, N]`, float64 `[Q]`.

    Ties are in random order. Set the score of an item that can't be listed (the query itself) to -inf.
    """
    width = neighbours.shape[1]
    threshold = np.partition(scores, scores.shape[1] - width, axis=1)[:, [scores.shape[1] - width]]
    room = width - (scores > threshold).sum(axis=1)
    level = (scores == threshold).sum(axis=1)
    wanted = np.take_along_axis(scores, neighbours, axis=1)
    above_wanted = (wanted > threshold).sum(axis=1)
    level_wanted = (wanted == threshold).sum(axis=1)
    return (above_wanted + level_wanted * room / level) / width


def _neighbourhoods(
    prefixes: np.ndarray,
    vectors: np.ndarray,
    reconstruction: np.ndarray | None,
    *,
    queries: np.ndarray,
    width: int,
) -> dict[str, Any]:
    true = top_neighbours(vectors, queries, width=width)  # [Q, width]
    lookup = {int(query): place for place, query in enumerate(queries)}

    def overlap_with(score: Callable[[np.ndarray], np.ndarray]) -> float:
        def overlap(rows: np.ndarray) -> np.ndarray:
            scores = score(rows)
            scores[np.arange(len(rows)), rows] = -np.inf
            return expected_overlap(scores, true[[lookup[int(row)] for row in rows]])

        return float(_by_chunks(overlap, queries, len(prefixes)).mean())

    def shared_levels(rows: np.ndarray) -> np.ndarray:
        return sum(
            ((column[rows, None] == column).astype(np.float64) for column in prefixes.T),
            start=np.zeros((len(rows), len(prefixes))),
        )

    found: dict[str, Any] = {
        "knn": width,
        "knn_queries": len(queries),
        "knn_overlap_prefix": overlap_with(shared_levels),
        "knn_same_prefix": [float((column[true] == column[queries][:, None]).mean()) for column in prefixes.T],
    }
    if reconstruction is not None:
        units = unit_vectors(reconstruction)
        found["knn_overlap_reconstruction"] = overlap_with(lambda rows: units[rows] @ units.T)
    return found


def _by_chunks(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int) -> np.ndarray:
    """Apply a row-wise function to blocks of rows whose `[rows, width]` tables stay small."""
    step = max(1, CHUNK_ENTRIES // width)
    return np.concatenate([function(rows[start : start + step]) for start in range(0, len(rows), step)])
