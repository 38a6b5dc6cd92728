"""Counts of clicks with weights: what they are by definition, and the same as plain counts where all weights are 1."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError
from cost_hf.methods.counting import counting
from cost_hf.methods.counting.counting import COUNTED, PAIR_UNIT, add_clicks, fit_tables
from cost_hf.recommenders.new_clicks import NewClicks
from tests.evaluation.stand_ins import pad
from tests.methods.counting.counting_toys import toy_counting

ITEMS = 7
PAIRS = st.lists(st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 5)), max_size=12), max_size=6)
COUNTING = sorted({name for name in COUNTED if name != "markov_text"})
HISTORIES = pad([[0], [3, 1], [2, 2, 6], [5, 4, 0, 1]])


def parts(users):
    """Return the items and the weights of users as arrays."""
    rows = [np.array([item for item, _ in user], dtype=np.int64) for user in users]
    return rows, [np.array([weight for _, weight in user], dtype=np.int64) for user in users]


@pytest.mark.parametrize("name", COUNTING)
@given(users=PAIRS)
@settings(max_examples=60, deadline=None)
def test_weights_of_one_are_bit_for_bit_no_weights(name, users):
    rows, _ = parts(users)
    ones = [np.ones(len(part), dtype=np.int64) for part in rows]

    plain = fit_tables(name, rows, ITEMS)
    weighted = fit_tables(name, rows, ITEMS, weights=ones)

    assert plain.keys() == weighted.keys()
    for table, values in plain.items():
        assert values.dtype == weighted[table].dtype, table
        np.testing.assert_array_equal(values, weighted[table], err_msg=table)


@pytest.mark.parametrize("name", COUNTING)
@given(users=PAIRS, cut=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_counts_of_continued_users_add_up(name, users, cut):
    rows, weights = parts(users)
    counted = np.array([min(cut, len(part)) for part in rows], dtype=np.int64)
    first = fit_tables(name, [part[:cut] for part in rows], ITEMS, weights=[part[:cut] for part in weights])

    found = add_clicks(name, first, NewClicks(rows, counted, weights), ITEMS)

    expected = fit_tables(name, rows, ITEMS, weights=weights)
    for table, values in expected.items():
        np.testing.assert_array_equal(values, found[table], err_msg=table)


def test_a_transition_has_the_weight_of_the_click_that_it_leads_to():
    tables = fit_tables("markov", [np.array([0, 1, 2])], 3, weights=[np.array([1, 0, 5])])
    markov = COUNTED["markov"].of_tables(tables, 3)

    assert (markov.following / PAIR_UNIT).toarray().tolist() == [[0, 0, 2.5], [0, 0, 5], [0, 0, 0]]
    assert (markov.counts.tolist(), markov.clicks.tolist()) == ([1, 0, 5], [1, 1, 1])


def test_item_knn_is_the_cosine_of_the_strongest_events():
    rows = [np.array([0, 0, 1]), np.array([0, 1]), np.array([1, 2])]
    weights = [np.array([1, 5, 3]), np.array([1, 1]), np.array([5, 0])]
    knn = COUNTED["item_knn"].of_tables(fit_tables("item_knn", rows, 3, weights=weights), 3)
    table = np.array([[5, 3, 0], [1, 1, 0], [0, 5, 0]], dtype=np.float64)

    scores = knn.scores(np.array([[0]])) - counting.POPULARITY_WEIGHT * knn.counts

    lengths = np.maximum(np.linalg.norm(table, axis=0), 1)
    expected = table[:, 0] @ table / (lengths[0] * lengths)
    np.testing.assert_allclose(scores[0, 1:], expected[1:], rtol=1e-12)


def test_users_with_very_many_items_are_weighted_too(monkeypatch):
    rows = [np.arange(6), np.array([0, 1]), np.array([1, 3])]
    weights = [np.array([1, 2, 3, 1, 5, 1]), np.array([3, 1]), np.array([1, 5])]
    whole = COUNTED["item_knn"].fit(rows, ITEMS, weights=weights).scores(HISTORIES)

    monkeypatch.setattr(counting, "MAX_PAIRS", 10)
    knn = COUNTED["item_knn"].fit(rows, ITEMS, weights=weights)

    assert knn.heavy.shape[0] == 1
    np.testing.assert_allclose(knn.scores(HISTORIES), whole, rtol=1e-12, atol=1e-12)


def test_the_scale_of_the_weights_changes_no_list():
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, ITEMS, 9) for _ in range(12)]
    weights = [generator.integers(1, 5, 9) for _ in range(12)]
    for name in COUNTING:
        scores = [
            COUNTED[name].fit(rows, ITEMS, weights=[factor * part for part in weights]).scores(HISTORIES)
            for factor in (1, 3)
        ]
        np.testing.assert_array_equal(*(part.argsort(axis=1, kind="stable") for part in scores), err_msg=name)


def test_a_log_with_a_column_of_weights_is_counted_with_them():
    recommender = toy_counting("popularity")
    item, other = recommender.catalog.item_ids[:2]
    before = recommender.popularity[:2].copy()
    clicks = pd.DataFrame({"user_id": ["u", "u"], "item_id": [item, other], "position": [0, 1], "event_weight": [5, 0]})

    recommender.update_from(clicks)

    assert (recommender.popularity[:2] - before).tolist() == [5, 0]
    assert recommender.tables["counts"][0] == before[0] + 5


def test_a_weight_that_is_no_whole_number_is_refused():
    recommender = toy_counting("popularity")
    item = recommender.catalog.item_ids[0]
    clicks = pd.DataFrame({"user_id": ["u"], "item_id": [item], "position": [0], "event_weight": [0.5]})

    with pytest.raises(DataError, match=r"event_weight: expected a whole number.*got 0.5"):
        recommender.update_from(clicks)
