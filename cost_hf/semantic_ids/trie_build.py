"""One sort from SIDs to the arrays of a trie."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cost_hf.semantic_ids.item_ids import id_ranks

KEY_BITS = 63


def subset(values: np.ndarray | Tensor | None, rows: np.ndarray | None) -> np.ndarray | None:
    """Return `values` `[N]` at `rows`; all of them, or none, where there are none of either."""
    if values is None:
        return None
    array = np.asarray(values)
    return array if rows is None else array[rows]


def sort_rows(
    codes: np.ndarray,
    level_sizes: Sequence[int],
    *,
    priority: np.ndarray | None,
    item_ids: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows in SID order, `[N]`, and their SIDs packed into one integer each, in that order.

    Where code and row numbers fit into 63 bits they are sorted as one integer: sorting values is several times as
    fast as sorting an index. Wider SIDs are sorted column by column and have no packed form (None).
    """
    bits = [_bits(size) for size in level_sizes]
    row_bits = _bits(len(codes))
    if sum(bits) + row_bits > KEY_BITS:
        rows = np.lexsort(codes.T[::-1])
        is_repeated = ~(codes[rows][1:] != codes[rows][:-1]).any(1)
        return _order_ties(rows, is_repeated, priority, item_ids), None
    packed = np.zeros(len(codes), dtype=np.int64)
    for level, width in enumerate(bits):
        packed <<= width
        packed |= codes[:, level]
    packed <<= row_bits
    packed |= np.arange(len(codes))
    packed.sort()
    rows = packed & ((1 << row_bits) - 1)
    packed >>= row_bits
    return _order_ties(rows, packed[1:] == packed[:-1], priority, item_ids), packed


def build_levels(
    keys: np.ndarray | None, codes: np.ndarray, rows: np.ndarray, level_sizes: Sequence[int]
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray | None]:
    """Return node codes per level, child starts per level, and item starts of the leaves (None where SIDs are unique).

    Args:
        keys: packed SIDs in SID order, or None.
        codes: SIDs of all catalog rows.
        rows: catalog rows in SID order.
    """
    node_codes, starts = [], []
    parents = np.zeros(1, dtype=np.int64)  # positions, in SID order, where the nodes of the depth above begin
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[0] = True
    shifts = np.cumsum([0, *(_bits(size) for size in level_sizes[:0:-1])])[::-1]
    for level, size in enumerate(level_sizes):
        column = codes[rows, level] if keys is None else keys >> shifts[level]
        is_first[1:] |= column[1:] != column[:-1]
        begins = np.flatnonzero(is_first)
        starts.append(np.append(np.searchsorted(begins, parents), len(begins)))
        values = column[begins] if keys is None else column[begins] & ((1 << _bits(size)) - 1)
        node_codes.append(values.astype(_code_type(size)))
        parents = begins
    is_unique = len(parents) == len(rows)
    return node_codes, starts, None if is_unique else np.append(parents, len(rows))


def _order_ties(
    rows: np.ndarray, is_repeated: np.ndarray, priority: np.ndarray | None, item_ids: Sequence[str] | None
) -> np.ndarray:
    """Order the rows of each SID by descending priority, then item id; `is_repeated[i]` says i + 1 has the SID of i."""
    if not is_repeated.any():
        return rows
    group = np.concatenate([[0], np.cumsum(~is_repeated)])
    places = np.flatnonzero(np.append(False, is_repeated) | np.append(is_repeated, False))
    tied = rows[places]
    names = tied if item_ids is None else id_ranks([item_ids[row] for row in tied.tolist()])
    weight = np.zeros(len(tied)) if priority is None else -np.asarray(priority, dtype=np.float64)[tied]
    ordered = rows.copy()
    ordered[places] = tied[np.lexsort((names, weight, group[places]))]
    return ordered


def _bits(size: int) -> int:
    return max(int(size) - 1, 1).bit_length()


def _code_type(size: int) -> type[np.generic]:
    if size <= 1 << 8:
        return np.uint8
    return np.int16 if size <= 1 << 15 else np.int32
