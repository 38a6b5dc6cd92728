"""Collision policies: one more level, the next-nearest free code, or balanced codes of the last level.

All rules give the same result for any row order, because ties are broken by item id, and none changes a row that has
its codes already. The suffix rule is TIGER's (arXiv 2305.05065, section 3.1); reassignment to a free code follows the
idea of LC-Rec and LETTER, but in rounds over all items at once and until nothing collides. There is no Python loop over
items.

Policy `sinkhorn` is the uniform semantic mapping of LC-Rec (arXiv 2311.09049) and LETTER (arXiv 2405.07314): at most 20
rounds of balanced assignment on the last level; items that still collide share a SID. Differences from published code:
the item nearest to a code keeps it, codes of other items are closed, and codes need not be filled. As published, every
code must get the same mass, so that the few items of a group go to the codes that distinguish them, however far; here a
slack row absorbs the mass that no item needs, and items move to near codes.

Policy `min_cost` is in `min_cost.py`.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from cost_hf.semantic_ids.item_ids import id_ranks

logger = logging.getLogger(__name__)
KEY_BITS = 63  # of an int64 that packs codes
CHUNK_DISTANCES = 1 << 24  # distances computed at a time: 64 MB
ROUND_DISTANCES = 1 << 20  # distances read again in every round: 4 MB, which stay in a cache


def prefix_keys(codes: np.ndarray, level_sizes: Sequence[int]) -> np.ndarray:
    """Return a key per row of `[N, l]`, int64 `[N]`; keys of two rows are equal if and only if their codes are."""
    keys = np.zeros(len(codes), dtype=np.int64)
    capacity = 1
    for level in range(codes.shape[1]):
        if capacity * int(level_sizes[level]) >= 1 << KEY_BITS:
            keys = np.unique(keys, return_inverse=True)[1].astype(np.int64)
            capacity = int(keys.max(initial=0)) + 1
        keys = keys * int(level_sizes[level]) + codes[:, level]
        capacity *= int(level_sizes[level])
    return keys


def append_suffixes(
    keys: np.ndarray, item_ids: Sequence[str], *, taken_keys: np.ndarray, taken_suffixes: np.ndarray
) -> np.ndarray:
    """Return the suffix of every new item, `[n]`: the lowest free one of its group, in item_id order.

    Args:
        keys: group of each new item, `[n]`; equal codes have equal keys.
        item_ids: ids of the new items, `[n]`.
        taken_keys, taken_suffixes: groups and suffixes that are in use (or reserved for removed items), `[m]` each.
    """
    suffixes = _rank_in_group(keys, item_ids)
    shared = np.isin(taken_keys, keys)
    if not shared.any():
        return suffixes
    groups, inverse = np.unique(np.concatenate([keys, taken_keys[shared]]), return_inverse=True)
    new = inverse[: len(keys)]
    old = inverse[len(keys) :]
    used = taken_suffixes[shared]
    order = np.lexsort((used, old))
    old = old[order]
    used = used[order]
    # the j-th free number is j + t, where t counts the taken numbers that have at most j free ones below them
    first = np.searchsorted(old, np.arange(len(groups)))
    free_below = used - (np.arange(len(used)) - first[old])
    span = int(max(free_below.max(), suffixes.max(initial=0))) + 1
    upto = np.searchsorted(old * span + free_below, new * span + suffixes, side="right")
    return suffixes + (upto - first[new])


def group_sizes(codes: np.ndarray, level_sizes: Sequence[int]) -> np.ndarray:
    """Return the size of every row's group of equal codes, `[N]`."""
    _, inverse, counts = np.unique(prefix_keys(codes, level_sizes), return_inverse=True, return_counts=True)
    return counts[inverse]


def resolve_collisions(
    codes: np.ndarray,
    is_new: np.ndarray,
    x: torch.Tensor,
    model: Any,
    *,
    capacity: int,
    item_ids: Sequence[str],
) -> tuple[np.ndarray, int]:
    """Move new items until no codes have more than `capacity` items; return the codes and the number of moved items.

    In a group that is too large the items nearest to the code vector stay (ties by item_id, old rows before all new
    ones); the others get the nearest code with free capacity: another last code or, if all of those are full, another
    code one level up.

    Args:
        codes: model-level codes of all items, `[N, L]`; rows that are not new never change.
        is_new: rows that may move, bool `[N]`.
        x: vectors of the new items in row order, `[is_new.sum(), E]`.
        model: quantizer with `level_sizes` and `level_distances(x, prefix) -> [n, K]`.
        capacity: items that may share codes: 1 to `reassign`, the appended level's size to `append`.
        item_ids: ids of all items, `[N]`.

    Raises:
        ValueError: if the catalog has more items than the codes can represent.
    """
    sizes = [int(size) for size in model.level_sizes]
    wanted = codes
    waiting = np.flatnonzero(is_new & (group_sizes(codes, sizes) > capacity))
    if not len(waiting):
        return codes, 0
    # in id order, so that no floating-point sum depends on the order of rows
    waiting = waiting[np.argsort(id_ranks([item_ids[row] for row in waiting.tolist()]))]
    codes = codes.copy()
    assigned = np.ones(len(codes), dtype=bool)
    assigned[waiting] = False
    vector_of = np.cumsum(is_new) - 1  # catalog row → row of x
    for top in reversed(range(len(sizes))):
        for level in range(top, len(sizes)):
            placed = _place(codes, assigned, waiting, level, x[vector_of[waiting]], model, capacity)
            if level == top:
                rest = waiting[~placed]
                waiting = waiting[placed]
        assigned[waiting] = True
        waiting = rest
        if not len(waiting):
            report_full_prefixes(codes, wanted, model)
            return codes, int((codes != wanted).any(1).sum())
    raise full_catalog(len(waiting), len(codes), model, capacity=capacity)


def full_catalog(num_waiting: int, num_items: int, model: Any, *, capacity: int) -> ValueError:
    """Return the error for a catalog in which `num_waiting` items find no code that has fewer than `capacity` items."""
    sizes = [int(size) for size in model.level_sizes]
    other = "collisions='append'" if capacity == 1 else "a larger append_size"
    return ValueError(
        f"the catalog is full: {num_waiting} of {num_items} items found no free code among {sizes} with {capacity} "
        f"items each; build it again with {_more_room(model, 'larger level_sizes')} or {other}"
    )


def _more_room(model: Any, usual: str) -> str:
    """Return what leaves more room for new items: a quantizer whose sizes are chosen says so by `more_room`."""
    return str(getattr(model, "more_room", usual))


def report_full_prefixes(codes: np.ndarray, wanted: np.ndarray, model: Any) -> None:
    """Log how many items found all last codes of their prefix taken."""
    elsewhere = int((codes[:, :-1] != wanted[:, :-1]).any(1).sum())
    if elsewhere:
        logger.warning(
            "%d items found no free code below their first %d codes and got those of another prefix, which is less "
            "near; %s leaves more room in a new training",
            elsewhere,
            codes.shape[1] - 1,
            _more_room(model, "a larger last level"),
        )


def prefix_chunks(counts: np.ndarray, num_codes: int, *, most: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Yield slices of prefixes and of their items, so that the distances of a chunk to `num_codes` codes fit memory.

    Prefixes stay whole, because their items do not compete with those of others.

    Args:
        counts: number of items of each prefix, `[P]`; items are sorted by prefix.
        num_codes: K of the level.
        most: distances of a chunk of several prefixes, `CHUNK_DISTANCES` by default.
    """
    rows = (CHUNK_DISTANCES if most is None else most) // num_codes
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        begin = ends[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(ends, begin + rows, side="right")))
        yield slice(first, last), slice(begin, ends[last - 1])
        first = last


def _place(
    codes: np.ndarray,
    assigned: np.ndarray,
    waiting: np.ndarray,
    level: int,
    x: torch.Tensor,
    model: Any,
    capacity: int,
) -> np.ndarray:
    """Assign the nearest code of `level` with free capacity to waiting rows, in place; return which got one, `[n]`.

    Waiting rows are in the order of their ids, which decides ties.
    """
    if not len(waiting):
        return np.zeros(0, dtype=bool)
    sizes = [int(size) for size in model.level_sizes]
    below = capacity * int(np.prod(sizes[level + 1 :], dtype=object))
    keys = prefix_keys(codes[:, :level], sizes)
    placed = np.zeros(len(waiting), dtype=bool)
    by_prefix = np.argsort(keys[waiting], kind="stable")
    parents, counts = np.unique(keys[waiting], return_counts=True)
    room = np.full((len(parents), sizes[level]), below, dtype=object if below >= 1 << KEY_BITS else np.int64)
    at = np.searchsorted(parents, keys[assigned]).clip(max=len(parents) - 1)
    held = parents[at] == keys[assigned]
    np.subtract.at(room, (at[held], codes[assigned][held, level]), 1)
    for chunk, members in prefix_chunks(counts, sizes[level]):
        part = by_prefix[members]
        distances = next_level_distances(x[part], codes[waiting[part], :level], model)
        for few, rows in prefix_chunks(counts[chunk], sizes[level], most=ROUND_DISTANCES):
            parent = np.repeat(np.arange(few.stop - few.start), counts[chunk][few])
            chosen = _nearest_with_room(distances[rows], parent, room[chunk][few], part[rows])
            found = part[rows][chosen >= 0]
            codes[waiting[found], level] = chosen[chosen >= 0]
            placed[found] = True
    return placed


def _nearest_with_room(distances: np.ndarray, parent: np.ndarray, room: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return a code per row, -1 if its parent has no capacity; in each round the nearest proposers of a code win.

    Args:
        distances: to every code, `[n, K]`.
        parent: row of `room` of each item, `[n]`.
        room: free capacity per parent and code, `[P, K]`; updated.
        names: rank of each item's id, `[n]`, for ties.
    """
    num_codes = distances.shape[1]
    chosen = np.full(len(distances), -1, dtype=np.int64)
    room = room.reshape(-1)
    penalty = np.where(room > 0, 0, np.inf).astype(np.float32)  # adding it is cheaper than masking
    waiting = np.arange(len(distances))
    open_distances = distances.copy()  # of the waiting rows; infinite where a code is full
    while len(waiting):
        open_distances += penalty.reshape(-1, num_codes)[parent[waiting]]
        code = open_distances.argmin(1)
        least = open_distances[np.arange(len(code)), code]
        slot = parent[waiting] * num_codes + code
        order = np.lexsort((names[waiting], least, slot))
        sorted_slots = slot[order]
        begins = np.flatnonzero(np.append(True, sorted_slots[1:] != sorted_slots[:-1]))
        rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
        winners = order[rank < room[sorted_slots]]
        chosen[waiting[winners]] = code[winners]
        np.subtract.at(room, slot[winners], 1)
        penalty[slot[winners]] = np.where(room[slot[winners]] > 0, 0, np.inf)
        stays = np.isfinite(least)
        stays[winners] = False
        waiting = waiting[stays]
        open_distances = open_distances[stays]
    return chosen


@torch.no_grad()
def next_level_distances(x: torch.Tensor, prefix: np.ndarray, model: Any) -> np.ndarray:
    """Return the distances of vectors `[n, E]` to the codes that may follow a prefix `[n, l]`, fp32 `[n, K]`."""
    device = getattr(model, "device", x.device)
    distances = model.level_distances(x.to(device), torch.from_numpy(np.ascontiguousarray(prefix)).to(device))
    least, most = distances.aminmax() if distances.numel() else (distances.new_zeros(()),) * 2  # NaN is passed on
    if not (least.isfinite() and most.isfinite()):
        raise ValueError(
            f"{type(model).__name__}.level_distances returned values that are not finite at level {prefix.shape[1]}; "
            "check the item vectors for NaN and very large numbers"
        )
    return distances.detach().to("cpu", torch.float32).numpy()


def _rank_in_group(keys: np.ndarray, item_ids: Sequence[str]) -> np.ndarray:
    """Return 0, 1, 2 … in item_id order within each group of equal keys, `[n]`."""
    order = np.argsort(keys, kind="stable")
    is_next = np.append(False, keys[order][1:] == keys[order][:-1]) if len(keys) else np.zeros(0, dtype=bool)
    shared = order[is_next | np.append(is_next[1:], False)] if len(keys) else order
    # ids are compared only within groups: most items are alone
    names = id_ranks([item_ids[row] for row in shared.tolist()])
    shared = shared[np.lexsort((names, keys[shared]))]
    begins = np.append(True, keys[shared][1:] != keys[shared][:-1])[: len(shared)]
    starts = np.maximum.accumulate(np.where(begins, np.arange(len(shared)), 0))
    ranks = np.zeros(len(keys), dtype=np.int64)
    ranks[shared] = np.arange(len(shared)) - starts
    return ranks


ROUNDS = 20
ITERATIONS = 50
EPSILON = 0.003  # entropy weight for distances scaled to a range of 2; below, float64 would overflow


def spread_last_level(
    codes: np.ndarray, is_new: np.ndarray, x: torch.Tensor, model: Any, *, item_ids: Sequence[str]
) -> tuple[np.ndarray, int]:
    """Assign other last codes to new items that share their codes; return the codes and the number of moved items.

    Of a group the item nearest to the code vector stays (ties by item_id, old rows before all new ones). Items without
    a free code under their prefix, or without one after the last round, keep their codes and collide.

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
    waiting = waiting[by_prefix]
    names = names[by_prefix]
    parents, counts = np.unique(keys[waiting], return_counts=True)
    is_open = open_codes(codes, keys, waiting, parents, sizes[-1])
    vector_of = np.cumsum(is_new) - 1  # catalog row → row of x
    spread = codes.copy()
    for chunk, members in prefix_chunks(counts, sizes[-1]):
        rows = waiting[members]
        distances = next_level_distances(x[vector_of[rows]], codes[rows, :-1], model)
        parent = np.repeat(np.arange(chunk.stop - chunk.start), counts[chunk])
        spread[rows, -1] = _spread(distances, codes[rows, -1], parent, is_open[chunk], names[members])
    return spread, int((spread != codes).any(1).sum())


def open_codes(codes: np.ndarray, keys: np.ndarray, waiting: np.ndarray, parents: np.ndarray, size: int) -> np.ndarray:
    """Return which last codes below each parent are used by waiting rows only or free, bool `[P, K]`.

    Args:
        codes: of all rows, `[N, L]`.
        keys: prefix of every row, `[N]`.
        waiting: rows that may move.
        parents: distinct prefixes in ascending order, `[P]`.
        size: K.
    """
    is_open = np.ones((len(parents), size), dtype=bool)
    if len(parents) == 0:
        return is_open
    is_assigned = np.ones(len(codes), dtype=bool)
    is_assigned[waiting] = False
    at = np.searchsorted(parents, keys[is_assigned]).clip(max=len(parents) - 1)
    held = parents[at] == keys[is_assigned]
    is_open[at[held], codes[is_assigned][held, -1]] = False
    return is_open


def _spread(
    distances: np.ndarray, wanted: np.ndarray, parent: np.ndarray, is_open: np.ndarray, names: np.ndarray
) -> np.ndarray:
    """Return a last code per row: its own for the nearest of a group, balanced ones for the others, `[n]`.

    Args:
        distances: to every code, `[n, K]`; rows of one parent are adjacent.
        wanted: the rows' own codes, `[n]`.
        parent: row of `is_open` of each row, `[n]`.
        is_open: codes that may be assigned, `[P, K]`; updated.
        names: rank of each item's id, `[n]`, for ties.
    """
    chosen = wanted.copy()
    waiting = np.arange(len(wanted))
    proposed = wanted
    for _ in range(1 + ROUNDS):
        can_win = is_open[parent[waiting], proposed]
        rows = waiting[can_win]
        slot = parent[waiting[can_win]] * is_open.shape[1] + proposed[can_win]
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

    Every item has mass 1 (less if items outnumber the open codes), every open code has capacity 1; a slack row with
    equal distances fills the rest. All parents are iterated at once.
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
    kernel = np.exp(logits)
    column = room.astype(np.float64)
    for _ in range(ITERATIONS):
        row = mass / (kernel * column[place]).sum(1)
        slack = slack_mass / column.sum(1)
        filled = np.add.reduceat(kernel * row[:, None], starts, axis=0) + slack[:, None]
        column = room / np.maximum(filled, np.finfo(np.float64).tiny)  # a far code's sum may underflow
    return (logits + np.log(column, out=np.full_like(column, -np.inf), where=room)[place]).argmax(1)
