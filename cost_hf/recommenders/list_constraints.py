"""Constraints on whole lists: a quota of cold items, and at most so many items with one value of a column.

**Cold items.** A trained model ranks items low that it has never seen. TIGER (arXiv 2305.05065) lets at most a share
epsilon of a list be unseen items and leaves open how they are ordered and merged. Here a share of the first r places,
for every r, is reserved for cold items, best first by the model's scores; cold items that the model ranks high anyway
count towards it.

**Diverse lists.** An item is left out where as many items before it as are allowed have its value. The list is that of
filtering the ranking of the whole catalog, and no ranking of that length is made: once a value has all of its items in
the list, the next search denies every item with this value, so a brand that fills the first thousand ranks costs one
more search. Items without a value are not counted.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cost_hf.recommenders.rankers import Ranking
from cost_hf.semantic_ids.item_columns import ColumnGroups, ItemColumns
from cost_hf.semantic_ids.options import whole_number

# (whether cold items alone are searched for, indices of the requests, rows to deny each of them or None)
Search = Callable[[bool, list[int], list[np.ndarray] | None], Ranking]


def num_cold_items(share: float, length: int) -> int:
    """Return how many of the first `length` places a share reserves."""
    return math.floor(share * length + 1e-9)


@dataclass(frozen=True, eq=False)
class ValueLimits:
    """How many items of a list may have the same value of a column.

    Attributes:
        groups: items by their value, one entry a column.
        most: limits of these columns, each 1 or more.
    """

    groups: tuple[ColumnGroups, ...] = ()
    most: tuple[int, ...] = ()

    @classmethod
    def of(cls, diversify: Mapping[str, int] | None, columns: ItemColumns) -> "ValueLimits":
        """Return the limits of a request, by column.

        Raises:
            ValueError: for a column that is not there or holds lists, or a limit below 1.
        """
        if diversify is None:
            return cls()
        if not isinstance(diversify, Mapping) or not diversify:
            raise ValueError(
                f"diversify must map columns to the most items of a list with one value, such as {{'brand': 2}}, got "
                f"{diversify!r:.80}; leave it out to allow any number"
            )
        groups = tuple(columns.groups(name, what="diversify") for name in diversify)
        return cls(groups, tuple(whole_number(most, f"diversify[{name!r}]") for name, most in diversify.items()))

    def first(self, ranked: Iterable[int], length: int) -> list[int]:
        """Return the first `length` rows of a ranking that the limits allow."""
        counts = ValueCounts(self)
        chosen: list[int] = []
        for item in ranked:
            if len(chosen) == length:
                break
            if counts.have_room(item):
                counts.add(item)
                chosen.append(item)
        return chosen


class ValueCounts:
    """How many items of one list have every value."""

    def __init__(self, limits: ValueLimits):
        self.limits = limits
        self._counts: list[Counter[int]] = [Counter() for _ in limits.groups]

    def have_room(self, item: int) -> bool:
        """Return whether the list may hold one more item with the values of this one."""
        parts = zip(self.limits.groups, self.limits.most, self._counts, strict=True)
        return all(counts[int(groups.codes[item])] < most for groups, most, counts in parts)

    def add(self, item: int) -> None:
        """Count an item of the list."""
        for groups, counts in zip(self.limits.groups, self._counts, strict=True):
            if (code := int(groups.codes[item])) >= 0:
                counts[code] += 1

    def full_rows(self) -> np.ndarray:
        """Return the rows of all items with a value that has no room left."""
        parts = zip(self.limits.groups, self.limits.most, self._counts, strict=True)
        return np.concatenate(
            [
                np.empty(0, dtype=np.int64),
                *(groups.rows_of([c for c, n in counts.items() if n >= most]) for groups, most, counts in parts),
            ]
        )


@dataclass
class _Queue:
    """Items that searches found and the list has not taken yet, best first.

    Attributes:
        items: each with whether its place among the others of the queue is proved.
        is_exhausted: whether no search would find another item that the list needs.
        is_proved: whether all items so far have the places that scoring the whole catalog would give them.
    """

    items: deque[tuple[int, bool]] = field(default_factory=deque)
    is_exhausted: bool = False
    is_proved: bool = True


class ConstrainedList:
    """The list of one request; `fill` takes items from what searches have found.

    Args:
        length: items wanted.
        share: of the places that are reserved for cold items.
        limits: of equal values.

    Attributes:
        items: catalog rows, best first.
        scores: of all items that were found; those of a search among all items where one has found the item, since a
            hybrid scores an item by its candidates, which are others among cold items alone.
        searches: number of the search that a score is of.
        num_exact: first positions that are proved.
        bound: highest score that an item could have which no search has returned; -inf where every item is scored.
    """

    def __init__(self, length: int, share: float, limits: ValueLimits):
        self.length = length
        self.share = share
        self.items: list[int] = []
        self.scores: dict[int, float] = {}
        self.searches: dict[int, int] = {}
        self.num_exact = 0
        self.bound = -math.inf
        self._limits = limits
        self._counts = ValueCounts(limits)
        self._queues = {False: _Queue(), True: _Queue(is_exhausted=not num_cold_items(share, length))}
        self._cold_items: set[int] = set()
        self._taken: set[int] = set()
        self._num_cold = 0

    def add(self, is_cold: bool, search: int, ranking: Ranking, line: int) -> None:
        """Add what a search found for this request, in line `line` of its ranking."""
        queue = self._queues[is_cold]
        items = [item for item in ranking.items[line].tolist() if item >= 0]
        scores = ranking.scores[line].tolist()
        num_exact = len(items)
        if ranking.certificate is not None:
            num_exact = int(ranking.certificate.num_exact[line])
            self.bound = max(self.bound, float(ranking.certificate.bound[line]))
        for place, item in enumerate(items):
            queue.items.append((item, queue.is_proved and place < num_exact))
            if not is_cold or item not in self.scores:
                self.scores[item] = scores[place]
                self.searches[item] = search
        if is_cold:
            self._cold_items.update(items)
        queue.is_proved = queue.is_proved and num_exact >= len(items)
        # without limits no item of a list is left out, so the first search finds as many as there are places
        is_useful = any(item not in self._taken and self._counts.have_room(item) for item in items)
        queue.is_exhausted = not is_useful or not self._limits.groups

    def fill(self) -> bool | None:
        """Take items until the list is full, or one is needed that has to be searched for.

        Returns:
            Whether cold items have to be searched for (True) or any (False); None where the list is finished.
        """
        while len(self.items) < self.length:
            is_reserved = num_cold_items(self.share, len(self.items) + 1) > self._num_cold
            for is_cold in (is_reserved, not is_reserved):
                found = self._next(self._queues[is_cold])
                if found is not None:
                    self._take(*found)
                    break
                if not self._queues[is_cold].is_exhausted:
                    return is_cold
            else:
                return None
        return None

    def denied(self) -> np.ndarray:
        """Return the rows that no further search needs to find: those of the list, and of values without room."""
        return np.concatenate([np.array(self.items, dtype=np.int64), self._counts.full_rows()])

    def _next(self, queue: _Queue) -> tuple[int, bool] | None:
        while queue.items:
            item, is_proved = queue.items.popleft()
            if item not in self._taken and self._counts.have_room(item):
                return item, is_proved
        return None

    def _take(self, item: int, is_proved: bool) -> None:
        if is_proved and self.num_exact == len(self.items):
            self.num_exact += 1
        self.items.append(item)
        self._taken.add(item)
        self._counts.add(item)
        self._num_cold += item in self._cold_items


def constrained_lists(
    search: Search, num_requests: int, length: int, *, share: float, limits: ValueLimits
) -> list[ConstrainedList]:
    """Return the lists of requests.

    Args:
        search: ranks items for some of the requests; it is called with all of them first.
        num_requests: B.
        length: items wanted.
        share: of the places that are reserved for cold items; 0 searches for none.
        limits: of equal values.
    """
    lists = [ConstrainedList(length, share, limits) for _ in range(num_requests)]
    every = list(range(num_requests))
    wanted = {False: every, True: every if num_cold_items(share, length) else []}
    searches = 0
    is_first = True
    while any(wanted.values()):
        for is_cold, requests in wanted.items():
            if requests:
                denied = None if is_first else [lists[request].denied() for request in requests]
                ranking = search(is_cold, requests, denied)
                for line, request in enumerate(requests):
                    lists[request].add(is_cold, searches, ranking, line)
                searches += 1
        is_first = False
        needs = [unfinished.fill() for unfinished in lists]
        wanted = {is_cold: [place for place, need in enumerate(needs) if need is is_cold] for is_cold in wanted}
    return lists
