"""Collision policy `min_cost`: every item gets codes of its own at the least total distance.

The idea is the zero-collision reassignment (ZCR) of CollisionGenRec (CIKM 2026): the last level is assigned anew, the
levels before it stay. What is minimized here, and how exactly:

1. Last level, exact: all new items of a prefix that has a collision get different last codes such that the sum of their
   `level_distances` at that level is the least possible (linear assignment of items to the codes that no old row
   holds). An item that does not collide itself may move if that lowers the sum.
2. Levels before it, exact one at a time, greedy from the first level to the last: where more items have a prefix than
   there are full codes below it, only the excess leaves. Which items leave, and for which other code of that level with
   room, is the choice with the least sum of distances at that level (transportation problem, solved by successive
   shortest paths). Items of prefixes with room never leave them. An item that left gets the nearest codes of the later
   levels. The cost of the later levels does not enter this choice, so the sum over all levels is not a proven minimum.

Items are taken in item_id order, so neither sums nor ties depend on the order of rows.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from cost_hf.semantic_ids.collisions import (
    CHUNK_DISTANCES,
    full_catalog,
    group_sizes,
    next_level_distances,
    open_codes,
    prefix_chunks,
    prefix_keys,
    report_full_prefixes,
)
from cost_hf.semantic_ids.item_ids import id_ranks

RESOLUTION = 2.0**32  # of the largest distance: whole numbers of fp64, whose sums along a path are exact


def resolve_at_min_cost(
    codes: np.ndarray, is_new: np.ndarray, x: torch.Tensor, model: Any, *, item_ids: Sequence[str]
) -> tuple[np.ndarray, int]:
    """Give new items codes that no other item has; return the codes and the number of items that moved.

    Args:
        codes: model-level codes of all items, `[N, L]`; rows that are not new never change and are all different.
        is_new: rows that may move, bool `[N]`.
        x: vectors of the new items in row order, `[is_new.sum(), E]`.
        model: quantizer with `level_sizes` and `level_distances(x, prefix) -> [n, K]`.
        item_ids: ids of all items, `[N]`.

    Raises:
        ValueError: if the catalog has more items than the codes can represent.
    """
    sizes = [int(size) for size in model.level_sizes]
    capacity = int(np.prod(sizes, dtype=object))
    if len(codes) > capacity:
        raise full_catalog(len(codes) - capacity, len(codes), model, capacity=1)
    if not (is_new & (group_sizes(codes, sizes) > 1)).any():
        return codes, 0
    rows = np.flatnonzero(is_new)
    order = np.argsort(id_ranks([item_ids[row] for row in rows.tolist()]))
    rows = rows[order]
    vectors = x[torch.from_numpy(order).to(x.device)]
    resolved = codes.copy()
    for level in range(len(sizes) - 1):
        _relieve_prefixes(resolved, rows, vectors, model, level=level)
    _assign_last_level(resolved, rows, vectors, model)
    report_full_prefixes(resolved, codes, model)
    return resolved, int((resolved != codes).any(1).sum())


def _relieve_prefixes(codes: np.ndarray, rows: np.ndarray, x: torch.Tensor, model: Any, *, level: int) -> None:
    """Move items, in place, to other codes of `level` until no prefix has more items than full codes below it.

    Args:
        codes: of all items, `[N, L]`.
        rows: those that may move, `[n]`, in item_id order.
        x: their vectors, `[n, E]`.
        model: the quantizer.
        level: of the codes that change; later ones of moved items become the nearest.
    """
    sizes = [int(size) for size in model.level_sizes]
    capacity = int(np.prod(sizes[level + 1 :], dtype=object))
    keys = prefix_keys(codes[:, : level + 1], sizes)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if counts.max() <= capacity:
        return
    is_crowded = (counts > capacity)[inverse]
    parent_keys = prefix_keys(codes[:, :level], sizes)
    for parent in np.unique(parent_keys[is_crowded]):
        below = parent_keys == parent
        room = capacity - np.bincount(codes[below, level], minlength=sizes[level])
        members = np.flatnonzero((below & is_crowded)[rows])
        home = codes[rows[members], level]
        distances = _distances(x, codes, rows, members, level, model)
        chosen = cheapest_moves(distances, home, room)
        moved = members[chosen != home]
        codes[rows[moved], level] = chosen[chosen != home]
        for later in range(level + 1, len(sizes)):
            codes[rows[moved], later] = _distances(x, codes, rows, moved, later, model).argmin(1)


def _distances(
    x: torch.Tensor, codes: np.ndarray, rows: np.ndarray, members: np.ndarray, level: int, model: Any
) -> np.ndarray:
    """Return the distances of `rows[members]` to the codes of a level under their prefixes, `[m, K]`."""
    step = max(1, CHUNK_DISTANCES // int(model.level_sizes[level]))
    parts = [members[first : first + step] for first in range(0, len(members), step)]
    return np.concatenate([next_level_distances(x[part], codes[rows[part], :level], model) for part in parts])


def _assign_last_level(codes: np.ndarray, rows: np.ndarray, x: torch.Tensor, model: Any) -> None:
    """Give the items of every prefix with a collision different last codes at the least total distance, in place.

    Args:
        codes: of all items, `[N, L]`; no prefix has more items than last codes.
        rows: those that may move, `[n]`, in item_id order.
        x: their vectors, `[n, E]`.
        model: the quantizer.
    """
    sizes = [int(size) for size in model.level_sizes]
    keys = prefix_keys(codes[:, :-1], sizes)
    collides = group_sizes(codes, sizes)[rows] > 1
    members = np.flatnonzero(np.isin(keys[rows], keys[rows[collides]]))
    members = members[np.argsort(keys[rows[members]], kind="stable")]
    parents, counts = np.unique(keys[rows[members]], return_counts=True)
    is_open = open_codes(codes, keys, rows[members], parents, sizes[-1])
    for chunk, part in prefix_chunks(counts, sizes[-1]):
        chunk_members = members[part]
        distances = next_level_distances(x[chunk_members], codes[rows[chunk_members], :-1], model)
        ends = np.cumsum(counts[chunk])
        for end, count, is_open_below in zip(ends, counts[chunk], is_open[chunk], strict=True):
            free = np.flatnonzero(is_open_below)
            _, assigned = linear_sum_assignment(distances[end - count : end][:, free])
            codes[rows[chunk_members[end - count : end]], -1] = free[assigned]


def cheapest_moves(distances: np.ndarray, home: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the code of every item after the excess of crowded codes has left them at the least total distance.

    A transportation problem by successive shortest paths: each path from a crowded code to one with room moves one item
    along each of its steps, and the paths together are an optimum (integral minimum-cost flow). The time is that of one
    path for every item of the excess.

    Args:
        distances: of the items of crowded codes to all codes, `[n, K]`.
        home: the items' own codes, `[n]`.
        room: how many more items each code takes, `[K]`; negative for the crowded ones, which are the codes in `home`.

    Returns:
        `[n]`; the items that leave a crowded code are as many as its excess, and none joins another crowded code.
    """
    items = np.arange(len(distances))
    largest = max(float(distances.max()), float(np.finfo(np.float32).tiny))
    own = np.rint(distances[items, home].astype(np.float64) * (RESOLUTION / largest))
    cost = np.rint(distances.astype(np.float64) * (RESOLUTION / largest))
    cost[:, room < 0] = np.inf
    cost[items, home] = own
    room = room.copy()
    code = home.copy()
    steps = {start: _Steps(cost, code, start) for start in np.flatnonzero(room < 0).tolist()}
    while (room < 0).any():
        path = _shortest_path({start: step.added for start, step in steps.items()}, room)
        moved = [int(steps[start].item[end]) for start, end in pairwise(path)]
        code[moved] = path[1:]
        room[path[0]] += 1
        room[path[-1]] -= 1
        for place, start in enumerate(path):
            if start not in steps:
                steps[start] = _Steps(cost, code, start)
                continue
            if place < len(moved):
                steps[start].leave(cost, code, moved[place])
            if place > 0:
                steps[start].join(cost, moved[place - 1])
    return code


class _Steps:
    """The cheapest moves of the items of one code to each other code.

    Attributes:
        start: the code.
        added: what the move to each code adds to the sum, `[K]`; infinite where no item may go.
        item: the item that moves, `[K]`.
    """

    def __init__(self, cost: np.ndarray, code: np.ndarray, start: int) -> None:
        self.start = start
        self.added = np.full(cost.shape[1], np.inf)
        self.item = np.full(cost.shape[1], -1)
        self._search(cost, code, np.arange(cost.shape[1]))

    def leave(self, cost: np.ndarray, code: np.ndarray, item: int) -> None:
        """Search again for the codes whose cheapest move was that of an item that left."""
        self._search(cost, code, np.flatnonzero(self.item == item))

    def join(self, cost: np.ndarray, item: int) -> None:
        """Take an item that came into account."""
        offered = cost[item] - cost[item, self.start]
        is_cheaper = offered < self.added
        self.added[is_cheaper] = offered[is_cheaper]
        self.item[is_cheaper] = item

    def _search(self, cost: np.ndarray, code: np.ndarray, ends: np.ndarray) -> None:
        members = np.flatnonzero(code == self.start)
        if not len(members):
            self.added[ends] = np.inf
            self.item[ends] = -1
            return
        offered = cost[members[:, None], ends] - cost[members, self.start][:, None]
        nearest = offered.argmin(0)
        self.added[ends] = offered[nearest, np.arange(len(ends))]
        self.item[ends] = members[nearest]


def _shortest_path(steps: dict[int, np.ndarray], room: np.ndarray) -> list[int]:
    """Return the codes along the cheapest path from a crowded code to one with room (Bellman and Ford)."""
    reached = np.where(room < 0, 0.0, np.inf)
    before = np.full(len(room), -1)
    changed = np.flatnonzero(room < 0)
    has_steps = np.isin(np.arange(len(room)), list(steps))
    while len(changed):
        offers = reached[changed, None] + np.stack([steps[int(start)] for start in changed])
        nearest = offers.argmin(0)
        offered = offers[nearest, np.arange(len(room))]
        is_closer = offered < reached
        reached[is_closer] = offered[is_closer]
        before[is_closer] = changed[nearest[is_closer]]
        changed = np.flatnonzero(is_closer & has_steps)
    path = [int(np.where(room > 0, reached, np.inf).argmin())]
    while before[path[0]] >= 0:
        path.insert(0, int(before[path[0]]))
    return path
