"""Clicks after training: counts add up to those of all clicks, in memory and on disk."""

import copy

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError
from cost_hf.methods.counting import counting
from cost_hf.methods.counting.counting import BASELINES, COUNTED, add_clicks, fit_tables
from cost_hf.methods.counting.recommender import CountingRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.new_clicks import NewClicks
from tests.evaluation.stand_ins import pad
from tests.methods.counting.counting_toys import toy_counting, toy_train
from tests.recommenders.toys import TOY_CLICKS, TOY_IDS, TOY_ITEMS, toy_text_recommender

ITEMS = 7
SEQUENCES = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12), max_size=6)
HISTORIES = pad([[0], [3, 1], [2, 2, 6], [5, 4, 0, 1]])
LOG = [["item003", "item007", "item003"], ["item011", "item003"]]
COUNTING = sorted({name for name in COUNTED if name != "markov_text"})


def arrays(sequences) -> list[np.ndarray]:
    return [np.array(rows, dtype=np.int64) for rows in sequences]


def scores_of(name, tables) -> np.ndarray:
    return COUNTED[name].of_tables(tables, ITEMS).scores(HISTORIES)


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def as_log(sequences) -> pd.DataFrame:
    rows = [(f"u{user}", item, place) for user, items in enumerate(sequences) for place, item in enumerate(items)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "position"])


@pytest.mark.parametrize("name", COUNTING)
@given(first=SEQUENCES, second=SEQUENCES)
@settings(max_examples=60, deadline=None)
def test_counts_of_new_users_add_up(name, first, second):
    first, second = arrays(first), arrays(second)

    tables = add_clicks(name, fit_tables(name, first, ITEMS), NewClicks.of_new_users(second), ITEMS)

    expected = fit_tables(name, first + second, ITEMS)
    assert set(tables) == set(expected)
    for table, values in expected.items():
        np.testing.assert_array_equal(tables[table], values)


@pytest.mark.parametrize("name", COUNTING)
@given(sequences=SEQUENCES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_sequences_that_continue_count_as_if_they_had_come_whole(name, sequences, data):
    counted = np.array([data.draw(st.integers(0, len(rows))) for rows in sequences], dtype=np.int64)
    sequences = arrays(sequences)
    before = [rows[:count] for rows, count in zip(sequences, counted, strict=True)]

    tables = add_clicks(name, fit_tables(name, before, ITEMS), NewClicks(sequences, counted), ITEMS)

    for table, values in fit_tables(name, sequences, ITEMS).items():
        np.testing.assert_array_equal(tables[table], values)


@given(sequences=SEQUENCES, data=st.data())
@settings(max_examples=80, deadline=None)
def test_users_with_many_items_give_the_same_scores_however_they_are_counted(sequences, data):
    counted = np.array([data.draw(st.integers(0, len(rows))) for rows in sequences], dtype=np.int64)
    room = data.draw(st.integers(0, ITEMS**2 - 1))
    sequences = arrays(sequences)
    expected = scores_of("item_knn", fit_tables("item_knn", sequences, ITEMS))
    before = [rows[:count] for rows, count in zip(sequences, counted, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "MAX_PAIRS", room)  # of any two users one may be a heavy one
        tables = add_clicks("item_knn", fit_tables("item_knn", before, ITEMS), NewClicks(sequences, counted), ITEMS)

    np.testing.assert_allclose(scores_of("item_knn", tables), expected, rtol=1e-12, atol=1e-14)


def test_a_heavy_user_who_continues_is_not_counted_twice(monkeypatch):
    monkeypatch.setattr(counting, "MAX_PAIRS", 8)
    tables = fit_tables("item_knn", arrays([[0, 1], [0, 1, 2, 3, 4]]), ITEMS)
    assert tables["heavy.indptr"].tolist() == [0, 5]

    new = NewClicks(arrays([[0, 1, 2, 3, 4, 6]]), np.array([5]))
    updated = add_clicks("item_knn", tables, new, ITEMS)

    assert updated["heavy.indptr"].tolist() == [0, 6]
    assert updated["users"].tolist() == [2, 2, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("name", COUNTING)
def test_items_added_since_get_counts(name):
    first, second = arrays([[0, 1, 2], [1, 2]]), arrays([[2, 5, 0], [6, 2]])

    tables = add_clicks(name, fit_tables(name, first, 3), NewClicks.of_new_users(second), ITEMS)

    np.testing.assert_allclose(scores_of(name, tables), scores_of(name, fit_tables(name, first + second, ITEMS)))


def test_pairs_that_were_not_counted_are_not_taken_back():
    tables = fit_tables("item_knn", arrays([[0, 1]]), ITEMS)

    with pytest.raises(ValueError, match="expected clicks that were counted before to be in the counts"):
        add_clicks("item_knn", tables, NewClicks(arrays([[2, 3, 4]]), np.array([2])), ITEMS)


@pytest.mark.parametrize("name", BASELINES)
def test_more_clicks_than_were_counted_can_not_have_been_counted_before(name):
    system = toy_counting(name)
    before, snapshot = system.identity, system.snapshot

    with pytest.raises(ValueError, match=r"counted before to be in the counts, got more of item 'item001' than were"):
        system.update_from([["item001", "item001", "item005"]], counted=[2])

    assert system.identity == before and system.snapshot is snapshot and system.num_new_clicks == 0


@pytest.mark.parametrize("name", BASELINES)
def test_an_updated_recommender_is_that_of_all_clicks(name):
    system = toy_counting(name)
    second = arrays([[3, 7, 3], [11, 3]])

    assert system.update_from(LOG) == 5 == system.num_new_clicks

    clicks = TOY_CLICKS + np.bincount(np.concatenate(second), minlength=TOY_ITEMS)
    tables = fit_tables(name, toy_train() + second, TOY_ITEMS)
    whole = CountingRecommender(name, tables, system.catalog, popularity=clicks, encoder=system.encoder)
    assert system.popularity.tolist() == clicks.tolist()
    assert system.recommend(["item003", "item011"], top_k=20) == whole.recommend(["item003", "item011"], top_k=20)
    assert ids(system.recommend([], on_empty="popularity")) == ids(whole.recommend([], on_empty="popularity"))
    assert system.identity == whole.identity


@pytest.mark.parametrize("form", ["frame", "dataset", "parquet", "csv", "timestamps", "arrays"])
def test_clicks_come_in_any_form(tmp_path, form):
    log = as_log(LOG)
    forms = {"frame": log.sample(frac=1, random_state=0), "dataset": Dataset.from_pandas(log)}
    forms["timestamps"] = log.drop(columns="position").assign(timestamp=[10, 20, 30, 5, 7])
    forms["parquet"] = tmp_path / "log.parquet"
    forms["csv"] = str(tmp_path / "log.csv")
    forms["arrays"] = tuple(np.array(items) for items in LOG)
    log.to_parquet(forms["parquet"])
    log.to_csv(forms["csv"], index=False)
    expected, system = toy_counting("markov"), toy_counting("markov")
    expected.update_from(LOG)

    assert system.update_from(forms[form]) == 5
    assert system.identity == expected.identity


def test_a_marked_part_of_a_log_gives_only_its_context():
    whole, parts, log = toy_counting("item_knn"), toy_counting("item_knn"), toy_counting("item_knn")
    whole.update_from(LOG)
    for system in (parts, log):
        system.update_from([LOG[0][:2], LOG[1]])

    assert parts.update_from(LOG, counted=[2, 2]) == 1
    assert log.update_from(as_log(LOG).assign(counted=[1, 1, 0, 1, 1])) == 1
    assert parts.identity == log.identity == whole.identity


def test_an_item_that_gets_clicks_is_not_cold_any_more():
    system = toy_counting("popularity")
    system.add_items(["new"], ["a text"])
    asked = {"top_k": 4, "cold_share": 0.5, "denied": ["item000"]}
    assert "new" in ids(system.recommend(["item003"], **asked))

    system.update_from([["new"]] * 200)

    assert ids(system.recommend(["item003"], top_k=1)) == ["new"]
    assert not system.snapshot.cold_mask(None).dense(1)[0, -1]


def test_a_text_baseline_breaks_ties_by_the_new_popularity():
    system = toy_counting("text_last")
    system.update_from([["item009"]] * 500)

    assert ids(system.recommend([], on_empty="popularity", top_k=1)) == ["item009"]


@pytest.mark.parametrize("name", BASELINES)
def test_an_unknown_item_is_named_and_nothing_changes(name):
    system = toy_counting(name)
    before, snapshot = system.identity, system.snapshot

    with pytest.raises(KeyError, match=r"1 of 3 item ids are not in the catalog.*'gone'.*or add them first"):
        system.update_from([["item003", "gone"], ["item004"]])

    assert system.identity == before and system.snapshot is snapshot and system.num_new_clicks == 0


@pytest.mark.parametrize(
    ("clicks", "counted", "message"),
    [
        (["item003"], None, "sequence 0 must be a list of item ids, got the string 'item003'"),
        (7, None, "clicks must be a table, the path of one, or a list of sequences of item ids, got 7"),
        ([["item003"]], [2], "one whole number for each of the 1 sequences, from 0 to its length, got"),
        ([["item003"]], [-1], "from 0 to its length"),
        ([["item003"]], [0.5], "from 0 to its length"),
        ([["item003"]], [0, 0], "one whole number for each of the 1 sequences"),
        (as_log(LOG), [0, 0], "counted= belongs to sequences.*give the table a column 'counted'"),
        (as_log(LOG).assign(counted=[0, 1, 0, 0, 0]), None, "expected the first clicks of a user to be those"),
        (as_log(LOG).assign(counted=[1, 1, 0, 0, "maybe"]), None, "counted: expected true or false.*got 'maybe'"),
        (as_log(LOG).drop(columns="user_id"), None, "interactions has no column 'user_id'"),
        (as_log(LOG).drop(columns="position"), None, "neither position nor timestamp"),
    ],
)
def test_what_can_t_be_counted_is_an_error(clicks, counted, message):
    with pytest.raises(ValueError, match=message):
        toy_counting("markov").update_from(clicks, counted=counted)


def test_no_clicks_change_nothing():
    system = toy_counting("markov")
    before = system.identity

    assert system.update_from([]) == 0
    assert system.update_from([["item003", "item004"]], counted=[2]) == 0
    assert system.identity == before


def test_a_trained_kind_says_that_it_learns_by_training():
    system = toy_text_recommender()

    with pytest.raises(ValueError, match="kind 'generator' learns from clicks by training alone; train its run on"):
        system.update_from(LOG)
    assert not system.takes_clicks and toy_counting("markov").takes_clicks


def test_requests_in_flight_keep_their_counts():
    system = toy_counting("markov")
    snapshot, twin = system.snapshot, copy.copy(system)

    system.update_from([["item003", "item000"]] * 50)

    asked = {"top_k": 1}
    assert ids(system.recommend(["item003"], **asked)) == ["item000"]
    assert snapshot.popularity.tolist() == TOY_CLICKS.tolist()
    assert ids(twin.recommend(["item003"], **asked)) == ids(toy_counting("markov").recommend(["item003"], **asked))


@pytest.mark.parametrize("name", BASELINES)
def test_an_updated_recommender_comes_back_from_disk(tmp_path, name):
    system = toy_counting(name)
    system.add_items(["new"], ["football in oslo"])
    system.update_from([["item003", "new", "item007"], ["new", "item003"]])
    system.save_pretrained(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert loaded.recommend(["item003", "new"], top_k=21) == system.recommend(["item003", "new"], top_k=21)
    assert loaded.popularity.tolist() == system.popularity.tolist()
    assert loaded.num_new_clicks == 0
    loaded.remove_items(["item003"])
    loaded.save_catalog(tmp_path)
    loaded.update_from([["new"]])
    loaded.save_pretrained(tmp_path)
    assert Recommender.from_pretrained(tmp_path).popularity[-1] == 3


@pytest.mark.parametrize("name", ["markov", "text_last"])
def test_save_catalog_writes_no_counts_and_says_so(tmp_path, name):
    toy_counting(name).save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)
    loaded.update_from(LOG)
    loaded.add_items(["new"], ["a text"])

    with pytest.raises(ValueError, match=r"holds the counts of other clicks .* save_pretrained to a directory of its"):
        loaded.save_catalog(tmp_path)


@pytest.mark.parametrize("name", ["markov", "text_last"])
def test_no_rollback_to_a_catalog_without_items_that_have_counts(name):
    system = toy_counting(name)
    system.add_items(["new"], ["a text"])
    system.update_from([["new", "item003"]])
    before = ids(system.recommend(["item003"], top_k=21))

    with pytest.raises(ValueError, match="clicks were counted for 21 items, so a catalog of 20 lacks some of them"):
        system.rollback()

    assert ids(system.recommend(["item003"], top_k=21)) == before
    system.remove_items(["new"])
    assert system.rollback().item_ids == ("new",)


def test_logs_with_errors_of_their_own_are_data_errors(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,item003,\nu,item004,7\n")

    with pytest.raises(DataError, match=r"interactions.timestamp: expected a value in every row"):
        toy_counting("markov").update_from(tmp_path / "log.csv")
    assert set(as_log(LOG)["item_id"]) <= set(TOY_IDS)
