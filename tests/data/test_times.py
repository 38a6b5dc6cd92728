"""Order in time: full precision, then the part that the source gives, then the hash."""

import datetime
import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import DataError, DataOptions, read_tables, split_interactions

ITEMS = pd.DataFrame({"item_id": list("abcdef"), "title": ["Red", "Green", "Blue", "Gold", "Grey", "Pink"]})


def read(times, *, seed=0, **columns):
    clicks = pd.DataFrame({"user_id": "u", "item_id": ITEMS["item_id"].head(len(times)), "timestamp": times} | columns)
    options = DataOptions(seed=seed, split="source" if "split" in columns else "leave_one_out")
    return read_tables(options, items=ITEMS, interactions=clicks)


ISO = ["2024-01-01T10:00:00.900", "2024-01-01T10:00:00.100Z", "2024-01-01T11:00:00.5+01:00"]
MOMENTS = pd.to_datetime(ISO, utc=True, format="ISO8601")


@pytest.mark.parametrize(
    "times",
    [
        ISO,
        MOMENTS,
        MOMENTS.tz_convert("Europe/Berlin"),
        MOMENTS.as_unit("ms"),
        list(MOMENTS.to_pydatetime()),
        [1704103200.9, 1704103200.1, 1704103200.5],
        ["1704103200.9", "1704103200.1", "1704103200.5"],
        [Decimal("1704103200.9"), Decimal("1704103200.1"), Decimal("1704103200.5")],
        pd.array([1704103200.9, 1704103200.1, 1704103200.5], dtype="Float64"),
    ],
    ids=["ISO", "dates", "zoned", "milliseconds", "objects", "floats", "texts", "decimals", "nullable"],
)
@pytest.mark.parametrize("seed", range(3))
def test_clicks_within_a_second_keep_their_order(times, seed):
    tables = read(times, seed=seed)

    assert tables.interactions["item_id"].tolist() == ["b", "c", "a"]
    assert tables.interactions["timestamp"].tolist() == [1704103200] * 3
    assert tables.counts["tied_timestamps"] == 0


def test_nanoseconds_and_far_or_early_dates_are_told_apart():
    times = np.array(["2024-01-01T00:00:00.000000002", "2024-01-01T00:00:00.000000001"], dtype="datetime64[ns]")
    assert read(times).interactions["item_id"].tolist() == ["b", "a"]
    far = np.array(["3000-01-01", "0900-01-01"], dtype="datetime64[s]")
    assert read(far).interactions["item_id"].tolist() == ["b", "a"]
    assert read([-0.25, -0.75, -1.5]).interactions["timestamp"].tolist() == [-2, -1, -1]


@pytest.mark.parametrize("kind", [str, Decimal])
def test_numbers_beyond_the_digits_of_a_float_keep_their_order(kind):
    tables = read([kind(text) for text in ("1700000000.000000003", "1700000000.000000001", "1699999999.999999999")])

    assert tables.interactions["item_id"].tolist() == ["c", "b", "a"]
    assert tables.interactions["timestamp"].tolist() == [1699999999, 1700000000, 1700000000]


def test_fractions_of_a_csv_keep_all_their_digits(tmp_path):
    lines = ["user_id,item_id,when", "u,a,1700000000.000000002", "u,b,1700000000.000000001", "u,c,-1.5"]
    (tmp_path / "c.csv").write_text("\n".join(lines))

    options = DataOptions(columns={"timestamp": "when"})
    found = read_tables(options, items=ITEMS, interactions=tmp_path / "c.csv").interactions

    assert found["item_id"].tolist() == ["c", "b", "a"]
    assert found["timestamp"].tolist() == [-2, 1700000000, 1700000000]


def test_times_that_a_short_float_has_rounded_are_refused():
    with pytest.raises(DataError, match=r"row 1: expected seconds below 16777216, which are exact as float32"):
        read(np.array([1, 1_700_000_000], dtype=np.float32))
    assert read(np.array([2, 1], dtype=np.float32)).interactions["item_id"].tolist() == ["b", "a"]


def test_fractions_are_part_of_the_source():
    first, other, again = (read(times).source_digest for times in ([1.5, 2], [1.25, 2], [1.5, 2]))

    assert first == again != other
    assert first != read([1, 2]).source_digest


@pytest.mark.parametrize(
    "times",
    [
        [True, False],
        pd.to_timedelta([1, 2], unit="s"),
        pd.period_range("2024-01", periods=2, freq="M"),
        [1.0, float("inf")],
        ["1.5", "2024-01-01"],
        [[1], [2]],
        [1_700_000_000_000, 1_700_000_000_001],
        ["now", "today"],
        ["2024-01-01", "now"],
        [10**400, 1],
        [1 + 1j, 2 + 1j],
    ],
    ids=[
        "truth",
        "durations",
        "periods",
        "infinite",
        "mixed",
        "lists",
        "milliseconds",
        "moment of reading",
        "date and moment",
        "huge",
        "complex",
    ],
)
def test_what_is_no_time_is_refused(times):
    with pytest.raises(DataError, match=r"interactions\.timestamp, row \d: expected epoch seconds"):
        read(times)


def test_days_without_times_never_put_a_later_part_first():
    day = [datetime.date(2024, 1, number) for number in (1, 1, 2, 2, 2)]
    parts = ["train", "train", "train", "valid", "test"]

    for seed, order in itertools.product(range(8), itertools.permutations(range(2, 5))):
        rows = [0, 1, *order]
        tables = read([day[row] for row in rows], seed=seed, split=[parts[row] for row in rows])
        split = split_interactions(tables, DataOptions(split="source", seed=seed))

        assert [len(history) for history in split.validation.histories] == [3]
        assert [len(history) for history in split.test.histories] == [4]
        assert split.counts["train_interactions"] == 3
        assert split.test.histories[0][3] == split.validation.items[0]


PARTS = st.lists(st.tuples(st.sampled_from("uv"), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=14)


@given(rows=PARTS, seed=st.integers(0, 3), by_position=st.booleans(), shuffled=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_no_history_holds_a_click_of_a_later_part_at_the_same_time(rows, seed, by_position, shuffled):
    shuffled.shuffle(rows)
    rows = [*rows, ("w", 0, 0), ("w", 1, 1), ("w", 2, 2)]
    names = [f"i{number}" for number in range(len(rows))]
    items = pd.DataFrame({"item_id": names, "title": [f"word{name}" for name in names]})
    clicks = pd.DataFrame(rows, columns=["user_id", "timestamp", "part"]).assign(item_id=names)
    clicks["split"] = clicks["part"].map({0: "train", 1: "valid", 2: "test"})
    if by_position:
        clicks["position"] = clicks.groupby("user_id").cumcount()
    options = DataOptions(split="source", seed=seed)

    split = split_interactions(read_tables(options, items=items, interactions=clicks), options)

    part, time = clicks["part"].to_numpy(), clicks["timestamp"].to_numpy()
    assert all((part[history] < 2).all() for history in split.validation.histories)
    if not by_position:
        for targets in (split.validation, split.test):
            for history, item in zip(targets.histories, targets.items, strict=True):
                is_tied = time[history] == time[item]
                assert (part[history][is_tied] <= part[item]).all()
                assert (time[history] <= time[item]).all()
    assert all((part[rows] == 0).all() for rows in split.train)


def test_parts_do_not_decide_where_the_split_does_not_ask():
    times, parts = [1, 1, 1, 1], ["test", "valid", "train", "train"]
    clicks = pd.DataFrame({"user_id": "u", "item_id": list("abcd"), "timestamp": times})

    plain = read_tables(DataOptions(), items=ITEMS, interactions=clicks)
    marked = read_tables(DataOptions(), items=ITEMS, interactions=clicks.assign(split=parts))

    assert plain.interactions["item_id"].tolist() == marked.interactions["item_id"].tolist()


def test_positions_that_are_no_whole_numbers_are_refused():
    short = np.array([2**24, 1], dtype=np.float32)
    for positions in (
        [2.0**53, 1],
        short,
        [10**400, 1],
        [1j, 2],
        np.array([2**64 - 1, 1], dtype=np.uint64),
        pd.to_datetime([2, 1]),
        [True, False],
    ):
        with pytest.raises(DataError, match=r"interactions\.position"):
            read([1, 2], position=positions)
