import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.evaluation.ranking import RankedLists, per_user_metrics
from cost_hf.evaluation.results import build_results
from cost_hf.evaluation.slices import slice_labels, slice_metrics
from cost_hf.evaluation.statistics import bootstrap_interval
from tests.evaluation.stand_ins import Cases

NUM_ITEMS = 12


def labels_of(histories, items, train, **options):
    train = [np.asarray(sequence, dtype=np.int64) for sequence in train]
    found = slice_labels(Cases(histories, items), train, num_items=NUM_ITEMS, **options)
    return {name: column.tolist() for name, column in found.items()}


def plain_labels(history, item, train):
    """Return the labels of one case by loops over the training clicks; the head apart."""
    clicks = sum(click == item for sequence in train for click in sequence)
    pairs = {pair for sequence in train for pair in itertools.pairwise(sequence)}
    return {
        "target_in_training": "0" if clicks == 0 else "1-5" if clicks <= 5 else "6+",
        "transition": "seen" if history and (history[-1], item) in pairs else "unseen",
        "target": "repeated" if item in history else "new",
        "history": "short" if len(history) <= 5 else "long",
    }


SEQUENCES = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=9), min_size=1, max_size=8)


@given(train=SEQUENCES, histories=SEQUENCES, seed=st.integers(0, 99))
def test_labels_equal_loops_over_all_clicks(train, histories, seed):
    items = np.random.default_rng(seed).integers(0, NUM_ITEMS, size=len(histories)).tolist()

    found = labels_of(histories, items, train)

    for case, (history, item) in enumerate(zip(histories, items, strict=True)):
        assert {name: found[name][case] for name in found if name != "popularity"} == plain_labels(history, item, train)


def test_a_transition_has_a_direction_and_no_gap():
    found = labels_of([[1], [2], [0], [2]], [2, 1, 2, 0], [[0, 1, 2], [0]])

    assert found["transition"] == ["seen", "unseen", "unseen", "unseen"]


def test_the_bounds_of_counts_and_lengths_are_the_published_ones():
    found = labels_of([[9] * 5, [9] * 6, []], [0, 1, 2], [[0] * 5, [1] * 6])

    assert found["target_in_training"] == ["1-5", "6+", "0"]
    assert found["history"] == ["short", "long", "short"]


def test_the_head_is_a_fifth_of_the_clicked_items():
    clicks = [[item] * (20 - item) for item in range(10)]  # items 10 and 11 are never clicked

    found = labels_of([[0]] * NUM_ITEMS, range(NUM_ITEMS), clicks)

    assert found["popularity"] == ["head"] * 2 + ["tail"] * 10


def test_items_that_tie_at_the_bound_are_tail_whatever_their_row():
    found = labels_of([[0]] * 10, range(10), [[0, 0, 0], list(range(1, 10))])

    assert found["popularity"] == ["head"] + ["tail"] * 9


@given(SEQUENCES)
def test_the_head_is_never_more_than_a_fifth(train):
    found = labels_of([[]] * NUM_ITEMS, range(NUM_ITEMS), train)

    clicked = len({item for sequence in train for item in sequence})
    assert found["popularity"].count("head") <= 0.2 * clicked


def test_cold_and_in_set_leave_out_items_that_merely_nobody_clicked():
    found = labels_of([[0]] * 3, [1, 2, 3], [[0, 1]], cold_items=np.array([2]))

    assert found["cold_start"] == ["in_set", "cold", ""]
    assert "cold_start" not in labels_of([[0]], [1], [[0, 1]], cold_items=np.array([], dtype=np.int64))


def make_lists(seed, cases, longest=10):
    ranks = np.random.default_rng(seed).integers(1, 15, size=cases).astype(float)
    ranks[ranks > longest] = np.nan
    return RankedLists(ranks, None, np.zeros((cases, longest), dtype=np.int32))


def make_ranked(cases=60, **longest):
    return {
        (name, seen): make_lists(number + 7 * place, cases, longest[name])
        for number, name in enumerate(longest)
        for place, seen in enumerate(("seen_allowed", "seen_excluded"))
    }


USERS = np.array([f"u{case % 20}" for case in range(60)], dtype=object)
LABELS = {
    "history": np.array(["short", "long", "short"] * 20),
    "cold_start": np.array(["cold", "", "in_set"] * 20),
}


def test_values_are_means_over_the_cases_of_a_label():
    ranked = make_ranked(a=10, b=20)

    found = slice_metrics(ranked, LABELS, user_ids=USERS, draws=20)

    metrics = per_user_metrics(ranked["b", "seen_excluded"].item_rank, [10])
    for name, label in (("history", "short"), ("history", "long"), ("cold_start", "in_set")):
        cell, chosen = found["b"]["seen_excluded"][name][label], LABELS[name] == label
        assert cell["cases"] == chosen.sum()
        for metric in ("recall@10", "ndcg@10"):
            assert cell[metric]["value"] == pytest.approx(metrics[metric][chosen].mean())
    assert set(found["b"]["seen_excluded"]["cold_start"]) == {"cold", "in_set"}
    assert json.loads(json.dumps(found)) == found


def test_intervals_equal_a_loop_that_draws_users_whole():
    ranked = make_ranked(a=10)

    found = slice_metrics(ranked, LABELS, user_ids=USERS, draws=30, seed=4)["a"]["seen_allowed"]["history"]["long"]

    hits = per_user_metrics(ranked["a", "seen_allowed"].item_rank, [10])["recall@10"]
    names = sorted(set(USERS))
    means = []
    for picks in np.random.default_rng(4).integers(0, 20, size=(30, 20)):
        drawn = np.concatenate(
            [np.flatnonzero((names[pick] == USERS) & (LABELS["history"] == "long")) for pick in picks]
        )
        means.append(hits[drawn].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found["recall@10"]["low"], found["recall@10"]["high"]) == pytest.approx((low, high))


def test_a_slice_of_all_cases_has_the_interval_of_the_main_table():
    ranked = make_ranked(a=10)

    found = slice_metrics(ranked, {"all": np.full(60, "every")}, user_ids=USERS, draws=100, seed=2)

    rows = build_results(ranked, user_ids=USERS, num_items=5, cutoffs=[10], draws=100, seed=2)["rows"]
    for metric in ("recall@10", "ndcg@10"):
        expected = rows["a"]["item"]["seen_allowed"][metric]
        assert found["a"]["seen_allowed"]["all"]["every"][metric] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=10)
@given(st.integers(1, 400))
def test_how_many_columns_are_drawn_at_once_changes_no_number(columns):
    ranked = make_ranked(a=10, b=10, c=10)
    expected = slice_metrics(ranked, LABELS, user_ids=USERS, draws=10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.evaluation.slices.COLUMNS_AT_ONCE", columns)
        assert slice_metrics(ranked, LABELS, user_ids=USERS, draws=10) == expected


def test_draws_without_a_case_of_the_slice_are_left_out():
    labels = {"target": np.array(["new"] * 59 + ["repeated"])}
    ranked = make_ranked(a=10)

    found = slice_metrics(ranked, labels, user_ids=np.arange(60), draws=50)["a"]["seen_allowed"]["target"]["repeated"]

    hit = per_user_metrics(ranked["a", "seen_allowed"].item_rank[-1:], [10])["recall@10"][0]
    assert found["recall@10"] == {"value": hit, "low": hit, "high": hit}


def test_lists_shorter_than_the_cutoff_have_null_values_and_still_their_cases():
    found = slice_metrics(make_ranked(a=5, b=10), LABELS, user_ids=USERS, draws=10)

    cell = found["a"]["seen_allowed"]["history"]["short"]
    assert cell["cases"] == 40
    assert cell["ndcg@10"] == {"value": None, "low": None, "high": None}
    assert found["b"]["seen_allowed"]["history"]["short"]["ndcg@10"]["value"] is not None


def test_a_smaller_slice_has_the_wider_interval():
    labels = {"history": np.where(np.arange(2000) < 100, "long", "short")}

    found = slice_metrics(make_ranked(2000, a=10), labels, user_ids=np.arange(2000), draws=300)
    widths = {
        label: cell["recall@10"]["high"] - cell["recall@10"]["low"]
        for label, cell in found["a"]["seen_allowed"]["history"].items()
    }

    assert widths["long"] > 3 * widths["short"]
    short = per_user_metrics(make_lists(0, 2000).item_rank, [10])["recall@10"][100:]
    alone = bootstrap_interval(short, draws=300, seed=1)
    assert widths["short"] == pytest.approx(alone.high - alone.low, rel=0.2)


def test_labels_of_other_cases_are_an_error():
    with pytest.raises(ValueError, match="slice 'history' must have one entry per case, expected 60, got 3"):
        slice_metrics(make_ranked(a=10), {"history": np.array(["short"] * 3)}, user_ids=USERS)
    with pytest.raises(ValueError, match=r"row 'a' \(seen_allowed\) must have one entry per case, expected 60, got 5"):
        slice_metrics(make_ranked(5, a=10), LABELS, user_ids=USERS)
