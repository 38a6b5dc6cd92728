"""Collision policy `sinkhorn`: items with the same codes spread over the free codes of the last level.

The uniform semantic mapping of LC-Rec (arXiv 2311.09049) and LETTER (arXiv 2405.07314): at most 20 rounds of balanced
assignment on the last level; what collides then shares a SID. Differences from published code: the item nearest to a
code keeps it, codes that other items hold are closed, and codes need not be filled. As published, every code must get
the same mass, so that the few items of a group go to the codes that tell them apart, however far; here a slack row
takes the mass that no item needs, and items move to near codes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cost_hf.semantic_ids.collisions import (
    CHUNK_DISTANCES,
    group_sizes,
    next_level_distances,
    prefix_keys,
)
from cost_hf.semantic_ids.item_ids import id_ranks

ROUNDS = 20
ITERATIONS = 50
EPSILON = 0.003  # entropy weight for distances scaled to a range of 2; below, float64 would overflow


def spread_last_level(
    codes: np.ndarray, is_new: np.ndarray, x: torch.Tensor, model: Any, *, item_ids: Sequence[str]
) -> tuple[np.ndarray, int]:
    """Give new items that share their codes other last codes; return the codes and how many moved.

    Of a group the item nearest to the code vector stays (ties by item_id, old rows before all new ones). Items for
    which no code is left under their prefix, or none after the last round, keep their codes and collide.

    Args:
        codes: model-level codes of all items, `[N, L]`; rows that are not new never change.
        is_new: rows that may move, bool `[N]`.
        x: vectors of the new items in row order, `[is_new.sum(), E]`.
        model: quantizer with `level_sizes` and `level_distances(x, prefix) -> [n, K]`.
        item_ids: ids of all items, `[N]`.
    """
    sizes = [int(size) for size in model.level_sizes]
    waiting = np.flatnonzero(is_new & (group_sizes(codes, sizes) > 1))
    if not len(waiting):
        return codes, 0
    # in id order, so that no floating-point sum depends on the order of rows
    waiting = waiting[np.argsort(id_ranks([item_ids[row] for row in waiting.tolist()]))]
    names = np.arange(len(waiting))
    keys = prefix_keys(codes[:, :-1], sizes)
    by_prefix = np.argsort(keys[waiting], kind="stable")
    waiting, names = waiting[by_prefix], names[by_prefix]
    parents, counts = np.unique(keys[waiting], return_counts=True)
    is_open = _open_codes(codes, keys, waiting, parents, sizes[-1])
    vector_of = np.cumsum(is_new) - 1  # catalog row → row of x
    spread, ends, first = codes.copy(), np.cumsum(counts), 0
    while first < len(parents):
        # whole prefixes at a time: they do not compete with each other
        begin = ends[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(ends, begin + CHUNK_DISTANCES // sizes[-1], side="right")))
        rows, part = waiting[begin : ends[last - 1]], slice(begin, ends[last - 1])
        distances = next_level_distances(x[vector_of[rows]], codes[rows, :-1], model)
        parent = np.repeat(np.arange(last - first), counts[first:last])
        spread[rows, -1] = _spread(distances, codes[rows, -1], parent, is_open[first:last], names[part])
        first = last
    return spread, int((spread != codes).any(1).sum())


def _open_codes(codes: np.ndarray, keys: np.ndarray, waiting: np.ndarray, parents: np.ndarray, size: int) -> np.ndarray:
    """Return which last codes no row but the waiting ones holds below each parent, bool `[P, K]`."""
    is_open = np.ones((len(parents), size), dtype=bool)
    is_settled = np.ones(len(codes), dtype=bool)
    is_settled[waiting] = False
    at = np.searchsorted(parents, keys[is_settled]).clip(max=len(parents) - 1)
    held = parents[at] == keys[is_settled]
    is_open[at[held], codes[is_settled][held, -1]] = False
    return is_open


def _spread(
    distances: np.ndarray, wanted: np.ndarray, parent: np.ndarray, is_open: np.ndarray, names: np.ndarray
) -> np.ndarray:
    """Return a last code per row: its own for the nearest of a group, balanced ones for the others, `[n]`.

    Args:
        distances: to every code, `[n, K]`; rows of one parent stand together.
        wanted: the rows' own codes, `[n]`.
        parent: row of `is_open` of each row, `[n]`.
        is_open: codes that may be given, `[P, K]`; updated.
        names: rank of each item's id, `[n]`, for ties.
    """
    chosen, waiting, proposed = wanted.copy(), np.arange(len(wanted)), wanted
    for _ in range(1 + ROUNDS):
        can_win = is_open[parent[waiting], proposed]
        rows, slot = waiting[can_win], parent[waiting[can_win]] * is_open.shape[1] + proposed[can_win]
        order = np.lexsort((names[rows], distances[rows, proposed[can_win]], slot))
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = slot[order][1:] != slot[order][:-1]
        winners = order[is_first]
        chosen[rows[winners]] = slot[winners] % is_open.shape[1]
        is_open.reshape(-1)[slot[winners]] = False
        waiting = np.setdiff1d(waiting, rows[winners])
        waiting = waiting[is_open[parent[waiting]].any(axis=1)]
        if not len(waiting):
            break
        proposed = _balanced_codes(distances[waiting], parent[waiting], is_open)
    return chosen


def _balanced_codes(distances: np.ndarray, parent: np.ndarray, is_open: np.ndarray) -> np.ndarray:
    """Return the open code with the largest share in the transport plan of each row's parent, `[n]`.

    Every item has mass 1 (less where items outnumber the open codes), every open code has room for 1; a slack row with
    equal distances fills what is left. All parents are iterated at once.
    """
    present, starts, place, counts = np.unique(parent, return_index=True, return_inverse=True, return_counts=True)
    room = is_open[present]  # [p, K]
    capacity = room.sum(1)
    mass = np.minimum(1.0, capacity / counts)[place]
    slack_mass = np.maximum(0, capacity - counts)
    far = np.maximum.reduceat(distances.max(1), starts) - np.minimum.reduceat(distances.min(1), starts)
    scale = np.maximum(far / 2, np.finfo(np.float32).tiny)[place] * EPSILON
    open_distances = np.where(room[place], distances.astype(np.float64), np.inf)
    logits = (open_distances.min(1, keepdims=True) - open_distances) / scale[:, None]
    kernel, column = np.exp(logits), room.astype(np.float64)
    for _ in range(ITERATIONS):
        row = mass / (kernel * column[place]).sum(1)
        slack = slack_mass / column.sum(1)
        filled = np.add.reduceat(kernel * row[:, None], starts, axis=0) + slack[:, None]
        column = room / np.maximum(filled, np.finfo(np.float64).tiny)  # a far code's sum may underflow
    return (logits + np.log(column, out=np.full_like(column, -np.inf), where=room)[place]).argmax(1)
