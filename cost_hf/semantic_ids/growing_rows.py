"""Tables that grow at their end, version by version, without a copy of what earlier versions hold.

A catalog keeps its last versions, and each of them has the vectors of all its items. Rows never change, so a version
and the one after it may be views of the same memory, in which there is room for more rows.
"""

import threading

import numpy as np

ROOM = 1.125  # rows that there is memory for when a table is moved, as a multiple of those it has then
_lock = threading.Lock()


class _Room(np.ndarray):
    """Memory for rows; the first `used` of them are taken."""

    used = -1


def with_rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return a table `[N, E]` with `[n, E]` more rows at its end; both are views of one memory where that is possible.

    The first rows are copied where others follow on them already, as after a rollback, or where there is no room left:
    a few times while a catalog doubles, however often it grows. Nobody may write to either table afterwards.
    """
    end = len(table) + len(rows)
    with _lock:
        room = table.base
        if not isinstance(room, _Room) or not _begins(room, table) or room.used != len(table) or end > len(room):
            room = _Room((max(end, int(ROOM * len(table))), *table.shape[1:]), dtype=table.dtype)
            room[: len(table)] = table
        room[len(table) : end] = rows
        room.used = end
    grown = np.ndarray((end, *table.shape[1:]), dtype=table.dtype, buffer=room)
    grown.flags.writeable = table.flags.writeable
    return grown


def _begins(room: np.ndarray, table: np.ndarray) -> bool:
    """Tell whether a table is the beginning of the memory that it is a view of."""
    is_first = room.__array_interface__["data"][0] == table.__array_interface__["data"][0]
    return is_first and room.strides == table.strides and room.shape[1:] == table.shape[1:]
