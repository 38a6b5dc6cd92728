"""Code measures against slow loops, against random codes, and in cases that can be counted by hand."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.evaluation.semantic_ids import (
    category_purity,
    co_click_affinity,
    history_target_overlap,
    level_entropies,
    prefix_groups,
    sid_quality,
)
from tests.evaluation.stand_ins import Cases, leave_one_out

N = 6
CODES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=N, max_size=N)
SEQUENCES = st.lists(st.lists(st.integers(0, N - 1), max_size=6), min_size=1, max_size=6)
CATEGORIES = st.lists(st.sampled_from(["toys", "toys, blocks", "books", "", None]), min_size=N, max_size=N)


def arrays(sequences):
    return [np.array(sequence, dtype=np.int64) for sequence in sequences]


def shares_prefix(codes, first, second, length):
    return tuple(codes[first][:length]) == tuple(codes[second][:length])


def close(values):
    return None if values is None else pytest.approx(values, rel=1e-9, abs=1e-12)


def mean_or_none(values):
    return sum(values) / len(values) if values else None


def plain_purity(codes, categories, length):
    """Return purity and its chance by a loop over all pairs of items."""
    names = [(category or "").split(",")[0] for category in categories]
    items = [item for item in range(N) if names[item]]
    purity, chance = [], []
    for item in items:
        others = [other for other in items if other != item]
        mates = [other for other in others if shares_prefix(codes, item, other, length)]
        if mates:
            purity.append(sum(names[mate] == names[item] for mate in mates) / len(mates))
            chance.append(sum(names[other] == names[item] for other in others) / len(others))
    return mean_or_none(purity), mean_or_none(chance)


@given(CODES, CATEGORIES)
def test_purity_equals_a_loop_over_all_pairs_of_items(codes, categories):
    found = category_purity(prefix_groups(np.array(codes)), categories)

    if len({(category or "").split(",")[0] for category in categories} - {""}) < 2:
        assert found == {"category_purity": None, "category_purity_chance": None}
        return
    for length in (1, 2):
        purity, chance = plain_purity(codes, categories, length)
        assert found["category_purity"][length - 1] == close(purity)
        assert found["category_purity_chance"][length - 1] == close(chance)


def test_codes_that_are_the_category_are_pure_and_items_alone_with_their_prefix_do_not_count():
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]])

    found = category_purity(prefix_groups(codes), ["a", "a", "a", "b", "b", "c"])

    assert found["category_purity"] == [1.0, None]
    assert found["category_purity_chance"] == [close((3 * 2 / 5 + 2 * 1 / 5) / 5), None]


@pytest.mark.parametrize("categories", [None, ["a"] * N, ["", None] * 3], ids=["none", "one", "empty"])
def test_purity_is_null_where_categories_say_nothing(categories):
    assert category_purity(np.zeros((N, 2), dtype=np.int64), categories)["category_purity"] is None


def plain_overlap(codes, train, histories, items, length):
    """Return (observed, chance, last observed, last chance, cases) by a loop over cases and over the clicks drawn."""
    clicks = [item for sequence in train for item in sequence]
    columns = [[], [], [], []]
    for history, item in zip(histories, items, strict=True):
        drawn = [click for click in clicks if click not in history]
        if not history or item in history or not drawn:
            continue
        for place, against in ((0, history), (2, history[-1:])):
            hits = [any(shares_prefix(codes, old, new, length) for old in against) for new in (item, *drawn)]
            columns[place].append(hits[0])
            columns[place + 1].append(sum(hits[1:]) / len(drawn))
    return [mean_or_none(column) for column in columns], len(columns[0])


@given(CODES, SEQUENCES, SEQUENCES, st.integers(0, 99))
def test_overlap_equals_a_loop_over_cases_and_all_drawn_targets(codes, train, histories, seed):
    items = np.random.default_rng(seed).integers(0, N, size=len(histories))

    found = history_target_overlap(prefix_groups(np.array(codes)), arrays(train), Cases(histories, items))

    for length in (1, 2):
        expected, cases = plain_overlap(codes, train, histories, items.tolist(), length)
        if not cases:
            assert found is None
            return
        assert found["cases"] == cases
        keys = ("observed", "chance", "last_observed", "last_chance")
        assert [found[key][length - 1] for key in keys] == close(expected)


def test_overlap_of_a_case_counted_by_hand():
    groups = prefix_groups(np.array([[0], [0], [1], [1], [2], [2]]))
    train = arrays([[0, 1, 1, 2], [3, 4, 5, 5]])

    found = history_target_overlap(groups, train, Cases([[0, 2], [4]], [3, 4]))

    # the second case is a repeat; of 6 clicks outside {0, 2} two are on item 1 and one on item 3
    assert found == {
        "observed": [1.0],
        "chance": [0.5],
        "last_observed": [1.0],
        "last_chance": [close(1 / 6)],
        "cases": 1,
    }


def plain_affinity(codes, train, length):
    """Return (observed, chance) by a loop over all combinations of a first and a second item."""
    pairs = [pair for sequence in train for pair in itertools.pairwise(sequence) if pair[0] != pair[1]]
    random = [(first, second) for first, _ in pairs for _, second in pairs if first != second]
    return [
        mean_or_none([shares_prefix(codes, *pair, length) for pair in chosen]) if chosen else None
        for chosen in (pairs, random)
    ]


@given(CODES, SEQUENCES)
def test_affinity_equals_a_loop_over_all_combinations_of_pairs(codes, train):
    found = co_click_affinity(prefix_groups(np.array(codes)), arrays(train))

    for length in (1, 2):
        observed, chance = plain_affinity(codes, train, length)
        assert found["co_click_shares"]["observed"][length - 1] == close(observed)
        assert found["co_click_shares"]["chance"][length - 1] == close(chance)
        assert found["co_click_affinity"][length - 1] == (close(observed / chance) if chance else None)


def test_over_all_ways_to_deal_the_codes_every_measure_is_its_chance():
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]])
    train, histories = arrays([[0, 1, 0, 2, 3], [0, 2, 4, 5], [1, 2]]), [[0, 1], [2], [3, 5]]
    categories = ["a", "b", "a", "a", "b", "c"]

    pure, affine, near = [], [], []
    for deal in itertools.permutations(range(N)):
        groups = prefix_groups(codes[list(deal)])
        purity, affinity = category_purity(groups, categories), co_click_affinity(groups, train)
        overlap = history_target_overlap(groups, train, Cases(histories, [2, 3, 1]))
        pure.append([purity["category_purity"], purity["category_purity_chance"]])
        affine.append([affinity["co_click_shares"]["observed"], affinity["co_click_shares"]["chance"]])
        near.append([overlap["last_observed"], overlap["last_chance"]])

    for values in (pure, affine, near):
        observed, chance = np.array(values).mean(axis=0)
        np.testing.assert_allclose(observed, chance, rtol=1e-9)


def test_codes_made_of_the_transitions_have_lift_and_their_shuffle_has_none():
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 30)  # [600]
    train = [generator.permutation(30)[:10] + 30 * home for home in generator.integers(0, 20, size=500)]

    made = co_click_affinity(prefix_groups(group[:, None]), train)
    shuffled = co_click_affinity(prefix_groups(generator.permutation(group)[:, None]), train)

    assert made["co_click_shares"]["observed"] == [1.0]
    assert made["co_click_affinity"][0] > 18
    assert shuffled["co_click_affinity"][0] == pytest.approx(1.0, abs=0.1)


@given(CODES)
def test_conditional_entropies_equal_means_over_the_prefixes_and_stay_below_their_maximum(codes):
    found = level_entropies(np.array(codes), [2, 3])

    def entropy(values):
        shares = np.array([values.count(value) for value in set(values)]) / len(values)
        return -(shares * np.log2(shares)).sum()

    heads = [head for head, _ in codes]
    given_head = [
        heads.count(head) / N * entropy([tail for other, tail in codes if other == head]) for head in {*heads}
    ]
    assert found["entropy"] == close([entropy(heads), entropy([tail for _, tail in codes])])
    assert found["conditional_entropy"] == close([entropy(heads), sum(given_head)])
    assert found["entropy_maximum"] == close([1.0, np.log2(3)])
    pairs = zip(found["conditional_entropy"], found["conditional_entropy_maximum"], strict=True)
    assert all(value <= most + 1e-9 for value, most in pairs)


def test_unique_even_codes_reach_every_maximum():
    found = level_entropies(np.array(list(itertools.product(range(4), range(8)))), [4, 8])

    assert found["entropy"] == found["entropy_maximum"] == close([2.0, 3.0])
    assert found["conditional_entropy"] == found["conditional_entropy_maximum"] == close([2.0, 3.0])


def test_a_level_that_repeats_the_prefix_has_entropy_but_none_of_its_own():
    found = level_entropies(np.array([[code, code] for code in range(4)] * 2), [4, 4])

    assert found["entropy"] == close([2.0, 2.0])
    assert found["conditional_entropy"] == close([2.0, 0.0])


def test_quality_is_plain_json_with_one_value_per_level():
    codes = np.random.default_rng(0).integers(0, 3, size=(N, 3))
    train, cases = arrays([[0, 1, 2, 3], [4, 5]]), Cases([[0, 1], [4]], [2, 0])

    quality = sid_quality(codes, level_sizes=[3] * 3, categories=["a", "b", None] * 2, train=train, targets=cases)

    assert json.loads(json.dumps(quality)) == quality
    overlap = quality["history_target_overlap"]
    lists = [quality[key] for key in ("entropy", "conditional_entropy", "category_purity", "co_click_affinity")]
    assert {len(values) for values in [*lists, overlap["observed"], overlap["chance"]]} == {3}


def test_nothing_to_judge_is_null_and_no_error():
    codes = np.arange(N)[:, None]

    quality = sid_quality(codes, level_sizes=[N], categories=None, train=arrays([[0], [1]]), targets=Cases([[0]], [0]))

    assert quality["category_purity"] is None
    assert quality["history_target_overlap"] is None
    assert quality["co_click_affinity"] == [None]
    assert quality["co_click_shares"] == {"observed": [None], "chance": [None], "pairs": 0}


def test_categories_of_another_catalog_are_an_error():
    with pytest.raises(ValueError, match="categories must have one entry per item, 6, got 2"):
        sid_quality(np.arange(N)[:, None], level_sizes=[N], categories=["a", "b"], train=[], targets=Cases([], []))


def test_an_appended_level_is_an_error():
    with pytest.raises(ValueError, match=r"for level_sizes=.*, got int64 .*; pass both with the appended level"):
        sid_quality(np.zeros((N, 2), int), level_sizes=[1], categories=None, train=[], targets=Cases([], []))


def test_on_real_clicks_brands_have_lift_and_the_same_groups_dealt_at_random_have_none(shared_data):
    items, train, targets = leave_one_out(shared_data / "amazon_industrial")
    brands = items["brand"].fillna("").tolist()
    codes = np.unique(brands, return_inverse=True)[1][:, None]
    size = int(codes.max()) + 1

    def quality(rows):
        return sid_quality(codes[rows], level_sizes=[size], categories=brands, train=train, targets=targets)

    own = quality(np.arange(len(codes)))
    dealt = [quality(np.random.default_rng(seed).permutation(len(codes))) for seed in range(20)]

    assert own["category_purity"] == [1.0]
    assert own["co_click_affinity"][0] > 3
    assert own["history_target_overlap"]["observed"][0] > 2 * own["history_target_overlap"]["chance"][0]
    assert np.mean([found["co_click_affinity"] for found in dealt]) == pytest.approx(1.0, abs=0.15)
    purities = np.mean([(found["category_purity"], found["category_purity_chance"]) for found in dealt], axis=0)
    assert purities[0] == pytest.approx(purities[1], rel=0.1)
