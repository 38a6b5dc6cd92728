"""Places kept for items that training never saw."""

import time

import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.recommenders.cold_item_quota import num_cold_items, with_cold_item_quota
from cost_hf.recommenders.rankers import Ranking


def ranking(items: list[int], width: int) -> Ranking:
    padded = [*items, *[-1] * (width - len(items))]
    scores = [-float(place) if item >= 0 else -torch.inf for place, item in enumerate(padded)]
    return Ranking(torch.tensor([padded]), torch.tensor([scores]))


@given(
    st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12),
    st.sets(st.integers(0, 40), max_size=12),
    st.sampled_from([0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]),
)
def test_every_prefix_holds_its_share_and_the_others_keep_their_order(best, cold_items, share):
    width = len(best)
    cold = sorted(cold_items)[: num_cold_items(share, width)]
    listed_cold = [item for item in best if item in cold_items]
    cold = list(dict.fromkeys([*listed_cold, *cold]))[: max(num_cold_items(share, width), 0)]

    found = with_cold_item_quota(ranking(best, width), ranking(cold, max(len(cold), 1)), share).items[0].tolist()

    assert len(found) == width and len({item for item in found if item >= 0}) == sum(item >= 0 for item in found)
    is_cold = [item in cold for item in found]
    for length in range(1, width + 1):
        assert sum(is_cold[:length]) >= min(len(cold), num_cold_items(share, length))
    others = [item for item in found if item not in cold]
    assert others == [item for item in best if item not in cold][: len(others)]


def test_without_a_share_a_cold_item_fills_only_a_free_place():
    before = ranking([3, 1, 2], 5)

    after = with_cold_item_quota(before, ranking([9], 1), 0.0)

    assert torch.equal(after.items, torch.tensor([[3, 1, 2, 9, -1]]))  # a free place is filled, nothing is pushed out


def test_places_are_whole_numbers_despite_rounding():
    assert [num_cold_items(0.1, length) for length in (9, 10, 29, 30)] == [0, 1, 2, 3]


def test_places_are_kept_for_long_lists_in_linear_time():
    length = 20_000
    best = Ranking(torch.arange(length)[None], -torch.arange(length, dtype=torch.float)[None])
    cold = Ranking(best.items[:, length // 2 :], best.scores[:, length // 2 :])

    start = time.process_time()
    merged = with_cold_item_quota(best, cold, 0.5)

    assert time.process_time() - start < 5  # it was minutes
    assert sorted(merged.items[0].tolist()) == list(range(length))
