"""Places kept for items that training never saw, and limits of equal values, against filters of whole rankings."""

import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.recommenders.list_constraints import ConstrainedList, ValueLimits, constrained_lists, num_cold_items
from cost_hf.recommenders.rankers import Ranking
from cost_hf.search.certificate import Certificate
from cost_hf.semantic_ids.item_columns import ItemColumns

FREE = ValueLimits()


class WholeRankings:
    """A search that knows whole rankings of the requests, and returns the first `width` items that are not denied."""

    def __init__(self, rankings: list[list[int]], cold_items: set[int] = frozenset(), *, width: int):
        self.rankings = rankings
        self.cold_items = cold_items
        self.width = width
        self.calls = 0

    def __call__(self, is_cold, requests, denied) -> Ranking:
        self.calls += 1
        items = torch.full((len(requests), self.width), -1)
        for line, request in enumerate(requests):
            hidden = set() if denied is None else set(denied[line].tolist())
            found = [item for item in self.rankings[request] if item not in hidden]
            found = [item for item in found if not is_cold or item in self.cold_items][: self.width]
            items[line, : len(found)] = torch.tensor(found, dtype=items.dtype)
        scores = torch.where(items >= 0, -items.double(), -torch.inf)
        return Ranking(items, scores)


@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12),
    st.sets(st.integers(0, 40), max_size=12),
    st.sampled_from([0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]),
)
def test_every_prefix_holds_its_share_and_the_others_keep_their_order(best, cold_items, share):
    ranking = [*best, *sorted(cold_items - set(best))]
    length = len(best)

    found = constrained_lists(WholeRankings([ranking], cold_items, width=length), 1, length, share=share, limits=FREE)
    found = found[0].items

    assert len(found) == len(set(found)) == length
    is_cold = [item in cold_items for item in found]
    for places in range(1, length + 1):
        assert sum(is_cold[:places]) >= min(len(cold_items), num_cold_items(share, places))
    for part in (True, False):
        listed = [item for item in found if (item in cold_items) == part]
        assert listed == [item for item in ranking if (item in cold_items) == part][: len(listed)]


def test_places_are_whole_numbers_despite_rounding():
    assert [num_cold_items(0.1, length) for length in (9, 10, 29, 30)] == [0, 1, 2, 3]


def test_places_are_kept_for_long_lists_in_linear_time():
    length = 20_000
    search = WholeRankings([list(range(length))], set(range(length // 2, length)), width=length)

    start = time.process_time()
    found = constrained_lists(search, 1, length, share=0.5, limits=FREE)[0].items

    assert time.process_time() - start < 5  # it was minutes
    assert sorted(found) == list(range(length))


@st.composite
def limited(draw):
    """Return whole rankings of two requests, columns, limits, cold items, a share and a length."""
    count = draw(st.integers(1, 14))
    values = st.lists(st.none() | st.sampled_from("abc"), min_size=count, max_size=count)
    columns = ItemColumns({name: pa.array(draw(values), pa.string()) for name in ("brand", "kind")})
    names = draw(st.lists(st.sampled_from(["brand", "kind"]), unique=True, min_size=1))
    limits = {name: draw(st.integers(1, 3)) for name in names}
    rankings = [draw(st.permutations(range(count))) for _ in range(2)]
    cold = draw(st.sets(st.integers(0, count - 1)))
    return rankings, columns, limits, cold, draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), draw(st.integers(1, 10))


def filtered(ranking, columns, limits, cold, share, length):
    """Return a list by one loop over the whole ranking for every place."""
    chosen: list[int] = []
    values = {name: columns.arrays[name].to_pylist() for name in limits}

    def has_room(item):
        return all(
            values[name][item] is None or sum(values[name][other] == values[name][item] for other in chosen) < most
            for name, most in limits.items()
        )

    while len(chosen) < length:
        free = [item for item in ranking if item not in chosen and has_room(item)]
        is_reserved = num_cold_items(share, len(chosen) + 1) > sum(item in cold for item in chosen)
        free = [item for item in free if item in cold] or free if is_reserved else free
        if not free:
            break
        chosen.append(free[0])
    return chosen


@given(limited(), st.integers(1, 5))
def test_a_list_equals_the_filtered_ranking_however_short_the_searches_are(case, width):
    rankings, columns, limits, cold, share, length = case
    own = ValueLimits.of(limits, columns)
    # counts of cold items are those that a search for them lists: all of them, for the share to be exact
    search = WholeRankings(rankings, cold, width=max(width, len(cold), 1))

    found = constrained_lists(search, 2, length, share=share, limits=own)

    expected = [filtered(ranking, columns, limits, cold, share, length) for ranking in rankings]
    assert [entry.items for entry in found] == expected
    if not share:
        shortest = WholeRankings(rankings, cold, width=1)
        found = constrained_lists(shortest, 2, length, share=0.0, limits=own)
        assert [entry.items for entry in found] == expected
        assert [own.first(ranking, length) for ranking in rankings] == expected


def test_a_value_that_fills_many_ranks_costs_one_more_search():
    columns = ItemColumns.of({"brand": ["a"] * 10_000 + ["b", "c", None, None]})
    search = WholeRankings([list(range(10_004))], width=5)

    found = constrained_lists(search, 1, 5, share=0.0, limits=ValueLimits.of({"brand": 2}, columns))[0]

    assert found.items == [0, 1, 10_000, 10_001, 10_002] and search.calls == 2
    assert found.scores[10_000] == -10_000


def test_a_search_that_heeds_no_denied_items_ends():
    columns = ItemColumns.of({"brand": ["a"] * 4})

    def search(is_cold, requests, denied):
        return Ranking(torch.tensor([[0, 1, 2]]), torch.zeros(1, 3))

    found = constrained_lists(search, 1, 3, share=0.0, limits=ValueLimits.of({"brand": 1}, columns))

    assert found[0].items == [0]


def test_positions_are_proved_as_far_as_the_searches_prove_them():
    columns = ItemColumns.of({"brand": ["a", "a", "b", "b", "c", "c"]})
    limits = ValueLimits.of({"brand": 1}, columns)

    def proved(first: int, second: int) -> ConstrainedList:
        own = ConstrainedList(3, 0.0, limits)
        for search, (items, count) in enumerate((([0, 1, 2], first), ([4, 5], second))):
            certificate = Certificate(torch.tensor([count]), torch.tensor([-7.0 + search]), torch.tensor([9]))
            own.add(False, search, Ranking(torch.tensor([items]), torch.zeros(1, len(items)), certificate), 0)
            own.fill()
        return own

    assert proved(3, 2).items == [0, 2, 4]
    assert [proved(*counts).num_exact for counts in ((3, 2), (3, 0), (2, 2), (0, 2))] == [3, 2, 1, 0]
    assert proved(3, 2).bound == -6.0


@pytest.mark.parametrize(
    ("diversify", "message"),
    [
        ({"brnad": 2}, "diversify names the column 'brnad', which the catalog does not have; did you mean 'brand'"),
        ({"brand": 0}, r"diversify\['brand'\]"),
        ({"brand": 1.5}, r"diversify\['brand'\]"),
        ({"tags": 1}, "expected one value an item"),
        ({}, "diversify must map columns"),
        (["brand"], "diversify must map columns"),
    ],
)
def test_limits_that_fit_no_column_are_refused(diversify, message):
    columns = ItemColumns.of({"brand": np.array(["a", "b"]), "tags": [["x"], ["y"]]})

    with pytest.raises(ValueError, match=message):
        ValueLimits.of(diversify, columns)
