import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cost_hf import row_groups
from cost_hf.evaluation.ranking import RankedLists, per_user_metrics
from cost_hf.evaluation.results import build_results, write_ranks
from cost_hf.evaluation.statistics import bootstrap_interval, bootstrap_means, interval_of

USERS = [f"u{number}" for number in range(40)]


def make_lists(seed, longest=10):
    generator = np.random.default_rng(seed)
    ranks = generator.integers(1, 15, size=40).astype(float)
    ranks[ranks > longest] = np.nan
    return RankedLists(ranks, ranks.copy(), generator.integers(0, 20, size=(40, longest)).astype(np.int32))


def make_ranked(**names):
    return {(name, seen): lists for name, lists in names.items() for seen in ("seen_allowed", "seen_excluded")}


@pytest.fixture
def results():
    ranked = make_ranked(recommender=make_lists(0), popularity=make_lists(1), markov=make_lists(2, longest=5))
    return build_results(ranked, user_ids=USERS, num_items=20, cutoffs=[5, 10], draws=300)


def test_rows_have_the_promised_shape(results):
    cell = results["rows"]["popularity"]["sid"]["seen_excluded"]["ndcg@10"]

    assert set(cell) == {"value", "low", "high"}
    assert cell["low"] <= cell["value"] <= cell["high"]
    assert set(results["rows"]["popularity"]) == {"item", "sid"}
    assert json.loads(json.dumps(results)) == results


def test_metrics_above_the_longest_list_are_null(results):
    cells = results["rows"]["markov"]["item"]["seen_allowed"]

    assert cells["recall@5"]["value"] is not None
    assert cells["recall@10"] == cells["coverage@10"] == {"value": None, "low": None, "high": None}
    assert results["differences"]["recommender-markov"]["item"]["seen_allowed"]["recall@10"]["value"] is None


def test_differences_are_paired(results):
    found = results["differences"]["recommender-popularity"]["item"]["seen_allowed"]["recall@10"]

    own, other = ((~np.isnan(make_lists(seed).item_rank)).astype(float) for seed in (0, 1))
    expected = bootstrap_interval(own - other, clusters=USERS, draws=300)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_main_row_is_not_compared_with_itself(results):
    assert set(results["differences"]) == {"recommender-popularity", "recommender-markov"}


def test_coverage_stands_in_item_rows_without_bounds(results):
    coverage = results["rows"]["recommender"]["item"]["seen_allowed"]["coverage@5"]

    assert coverage["value"] == len(np.unique(make_lists(0).items[:, :5])) / 20
    assert coverage["low"] is None
    assert "coverage@5" not in results["rows"]["recommender"]["sid"]["seen_allowed"]


def test_adding_a_row_leaves_the_numbers_of_others_alone():
    one = build_results(make_ranked(a=make_lists(0)), user_ids=USERS, num_items=20, cutoffs=[5], draws=50)
    two = build_results(
        make_ranked(b=make_lists(1), a=make_lists(0)), user_ids=USERS, num_items=20, cutoffs=[5], draws=50
    )

    assert two["rows"]["a"] == one["rows"]["a"]
    assert two["differences"] == {}


def test_rows_on_other_cases_are_an_error():
    with pytest.raises(ValueError, match=r"row 'a' \(seen_allowed\) must have one rank per case, expected 3, got 40"):
        build_results(make_ranked(a=make_lists(0)), user_ids=["x", "y", "z"], num_items=20, cutoffs=[5])


def test_cutoffs_above_all_lists_are_an_error():
    with pytest.raises(ValueError, match=r"the lists of all 2 rows are shorter than the cutoffs \[40\]"):
        build_results(make_ranked(a=make_lists(0)), user_ids=USERS, num_items=20, cutoffs=[40])


def test_ranks_file_has_every_case_and_null_beyond_the_list(tmp_path):
    write_ranks(tmp_path / "ranks.parquet", make_ranked(a=make_lists(0)), USERS)

    frame = pd.read_parquet(tmp_path / "ranks.parquet")

    assert list(frame.columns) == ["user_id", "row", "unit", "seen", "rank"]
    assert len(frame) == 4 * 40
    part = frame[(frame["unit"] == "item") & (frame["seen"] == "seen_allowed")]
    assert part["user_id"].tolist() == USERS
    np.testing.assert_array_equal(part["rank"].to_numpy(dtype=float, na_value=np.nan), make_lists(0).item_rank)


def test_equal_ranks_give_equal_bytes(tmp_path):
    for name in ("first", "second"):
        write_ranks(tmp_path / name, make_ranked(a=make_lists(0)), np.array(USERS, dtype=object))

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_values_and_intervals_are_those_of_the_table_of_all_metrics(results):
    columns = {}
    for name, lists in {"recommender": make_lists(0), "popularity": make_lists(1)}.items():
        columns |= {(name, metric): own for metric, own in per_user_metrics(lists.item_rank, [5, 10]).items()}
    means = bootstrap_means(np.stack(list(columns.values()), axis=1), clusters=USERS, draws=300)

    for (name, metric), drawn in zip(columns, means.T, strict=True):
        cell = results["rows"][name]["item"]["seen_allowed"][metric]
        interval = interval_of(columns[name, metric].mean(), drawn)
        assert cell == {"value": interval.value, "low": interval.low, "high": interval.high}


def test_ranks_are_the_same_in_several_row_groups(tmp_path, monkeypatch):
    ranked = make_ranked(recommender=make_lists(0), popularity=make_lists(1))
    write_ranks(tmp_path / "whole.parquet", ranked, USERS)
    monkeypatch.setattr(row_groups, "ROW_GROUP", 70)  # ends within a block, whose length is 40
    write_ranks(tmp_path / "parts.parquet", ranked, USERS)

    whole, parts = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == 5
