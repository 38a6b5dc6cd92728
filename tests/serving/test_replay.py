"""Replay of a log: which click counts for which list, and what the rates of models are."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from cost_hf.cli import main
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.serving.log_files import FORMATS
from cost_hf.serving.log_reading import read_log
from cost_hf.serving.replay import ReplayOptions, ReplayResult, replay
from cost_hf.serving.request_log import LogOptions, RequestLog
from cost_hf.serving.request_records import RequestRecord

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
A = "a" * 64
B = "b" * 64


def shown(minutes: float, items: str, *, user: str | None = "ann", model: str = A, **changes) -> RequestRecord:
    """Return a record whose items are single letters."""
    fields = {
        "time": START + timedelta(minutes=minutes),
        "request_id": f"{user}-{minutes}",
        "model": model,
        "catalog": "c" * 64,
        "shown": [(item, 1.0) for item in items],
        "user_id": user,
    }
    return RequestRecord(**(fields | changes))


def clicked(*rows: tuple[str, float, str]) -> pd.DataFrame:
    """Return clicks of (user, minutes, item)."""
    table = pd.DataFrame(rows, columns=["user_id", "minutes", "item_id"])
    times = [(START + timedelta(minutes=minutes)).isoformat() for minutes in table.pop("minutes")]
    return table.assign(timestamp=times)


@pytest.fixture
def log_of(tmp_path):
    def write(*records: RequestRecord, format: str = "jsonl") -> str:
        directory = tmp_path / f"log-{format}"
        with RequestLog(directory, LogOptions(format=format)) as log:
            for record in records:
                assert log.add(record)
        return str(directory)

    return write


def row_of(result: ReplayResult, beginning: str) -> dict:
    (row,) = [row for row in result.models if row["name"].startswith(beginning)]
    return row


def value(row: dict, metric: str) -> float:
    return row["rates"][metric]["value"]


@pytest.mark.parametrize("format", FORMATS)
def test_rates_are_those_of_counting_by_hand(log_of, format):
    log = log_of(
        shown(0, "xyz", user="ann"),
        shown(10, "xuv", user="ann"),
        shown(0, "xyz", user="bob", model=B),
        shown(5, "uvw", user="bob", model=B),
        format=format,
    )
    clicks = clicked(
        ("ann", 11, "x"),  # for the second list, which was shown last; next click of both
        ("ann", 12, "z"),  # for the first one
        ("bob", 6, "q"),  # next click of both lists of bob, in neither
        ("bob", 7, "w"),
        ("eve", 1, "x"),  # saw no list
    )
    result = replay(log, clicks)

    ann = row_of(result, "aaaaaaaa")
    bob = row_of(result, "bbbbbbbb")
    assert (ann["lists"], ann["users"], ann["impressions"], ann["clicked"]) == (2, 1, 6, 2)
    assert value(ann, "ctr") == pytest.approx(2 / 6) and value(bob, "ctr") == pytest.approx(1 / 6)
    assert value(ann, "clicked_lists") == 1.0 and value(bob, "clicked_lists") == 0.5
    assert [(entry["rank"], entry["clicked"]) for entry in ann["ranks"]] == [("1", 1), ("2", 0), ("3", 1)]
    assert value(ann, "recall@1") == 1.0 and value(bob, "recall@1") == 0.0
    assert "recall@5" not in ann["rates"] and value(ann, "recall@3") == 1.0  # no list is longer
    assert result.clicks["on_lists"] == 3


def test_offline_metrics_follow_the_rank_of_the_next_click(log_of):
    log = log_of(shown(0, "uvwxy", user="ann"), shown(0, "uvwxy", user="bob"))
    result = replay(log, clicked(("ann", 1, "w"), ("ann", 2, "u"), ("bob", 1, "y")))

    row = result.models[0]
    assert row["cases"] == 2
    assert value(row, "recall@5") == 1.0 and value(row, "recall@1") == 0.0
    assert value(row, "mrr@5") == pytest.approx((1 / 3 + 1 / 5) / 2)
    assert value(row, "ndcg@5") == pytest.approx((1 / 2 + 1 / np.log2(6)) / 2)


def test_several_next_clicks_are_as_many_cases(log_of):
    log = log_of(shown(0, "uvwxy", user="ann"))
    clicks = clicked(("ann", 1, "w"), ("ann", 2, "u"), ("ann", 3, "q"), ("bob", 4, "u"))
    result = replay(log, clicks, options=ReplayOptions(next_clicks=5))

    row = result.models[0]
    assert row["cases"] == 3
    assert value(row, "recall@5") == pytest.approx(2 / 3) and value(row, "recall@1") == pytest.approx(1 / 3)


@pytest.mark.parametrize(("minutes", "counts"), [(-1, 0), (-0.001, 0), (0, 1), (60, 1), (60.001, 0)])
def test_only_clicks_inside_the_window_count(log_of, minutes, counts):
    log = log_of(shown(0, "x"))
    clicks = clicked(("ann", minutes, "x"), ("ann", -30, "far"), ("ann", 120, "far"))
    row = replay(log, clicks, options=ReplayOptions(window_seconds=3600)).models[0]

    assert row["clicked"] == row["cases"] == counts


def test_several_clicks_on_one_impression_are_one(log_of):
    row = replay(log_of(shown(0, "xy")), clicked(("ann", 1, "x"), ("ann", 2, "x"))).models[0]

    assert row["clicked"] == 1 and value(row, "ctr") == 0.5


def test_an_interval_is_one_of_users_and_contains_the_rate(log_of):
    records = [shown(5 * each, "uvwxy", user=f"u{user}") for user in range(30) for each in range(4)]
    # half of the users click on all of their lists, the others on none: lists of a user are alike
    clicks = clicked(*((f"u{user}", 5 * each + 1, "u") for user in range(0, 30, 2) for each in range(4)))
    cell = replay(log_of(*records), clicks).models[0]["rates"]["clicked_lists"]

    assert cell["value"] == 0.5 and cell["low"] < 0.5 < cell["high"]
    assert cell["high"] - cell["low"] > 0.25  # of 120 independent lists it would be 0.18


def test_one_user_has_no_interval(log_of):
    cell = replay(log_of(shown(0, "xy")), clicked(("ann", 1, "x"))).models[0]["rates"]["ctr"]

    assert cell == {"value": 0.5, "low": None, "high": None}


def two_arms(log_of, *, users: int = 40) -> tuple[str, pd.DataFrame]:
    """Return a log in which every list of the new model gets a click, and one in four of the other."""
    records = []
    clicks = []
    for user in range(users):
        is_new = user % 2 == 1
        records.append(
            shown(user, "xyz", user=f"u{user}", model=B if is_new else A, variant="new" if is_new else "old")
        )
        if is_new or user % 8 == 0:
            clicks.append((f"u{user}", user + 1, "y"))
    return log_of(*records), clicked(*clicks, ("u0", users + 10, "far"))


def test_models_are_compared_and_the_difference_tested(log_of):
    log, clicks = two_arms(log_of)
    result = replay(log, clicks, options=ReplayOptions(baseline="old"))

    (claim,) = [claim for claim in result.differences if claim["metric"] == "ctr"]
    assert (claim["a"], claim["b"]) == ("new bbbbbbbb", "old aaaaaaaa") and result.baseline == "old aaaaaaaa"
    assert claim["difference"]["value"] == pytest.approx(1 / 3 - 1 / 12)
    assert claim["difference"]["low"] > 0 and claim["verdict"] == "better"
    assert any("no user saw several models" in caution for caution in result.cautions)


def test_a_baseline_is_found_by_its_digest(log_of):
    log, clicks = two_arms(log_of)

    assert replay(log, clicks, options=ReplayOptions(baseline=B)).baseline == "new bbbbbbbb"
    with pytest.raises(ValueError, match="got 'nwe'; there are old aaaaaaaa, new bbbbbbbb"):
        replay(log, clicks, options=ReplayOptions(baseline="nwe"))


def test_arms_gather_their_models(log_of):
    log = log_of(
        shown(0, "x", user="ann", variant="old"),
        shown(1, "x", user="bob", variant="old", model=B),
        shown(2, "x", user="eve", variant="new"),
    )
    result = replay(log, clicked(("ann", 3, "x")), options=ReplayOptions(by="variant"))

    assert [(row["name"], row["lists"], len(row["models"])) for row in result.models] == [("old", 2, 2), ("new", 1, 1)]


def test_arms_without_a_name_are_refused(log_of):
    with pytest.raises(DataError, match="no record of the log has a variant"):
        replay(log_of(shown(0, "x")), clicked(("ann", 1, "x")), options=ReplayOptions(by="variant"))


def test_users_of_several_models_are_reported(log_of):
    log = log_of(shown(0, "xy", user="ann"), shown(1, "xy", user="ann", model=B), shown(2, "xy", user="bob"))
    result = replay(log, clicked(("ann", 3, "x")))

    assert any("1 of 2 users (50%) saw lists of several models" in caution for caution in result.cautions)


def test_models_of_two_periods_are_reported(log_of):
    log = log_of(shown(0, "x", user="ann"), shown(1, "x", user="bob"), shown(9, "x", user="eve", model=B))
    result = replay(log, clicked(("ann", 10, "x")))

    assert any("never shown at the same time" in caution for caution in result.cautions)


def test_catalogs_are_told_apart(log_of):
    log = log_of(shown(0, "xy"), shown(1, "xy", user="bob", catalog="d" * 64))
    result = replay(log, clicked(("ann", 2, "x"), ("bob", 3, "q")))

    assert [(row["name"], row["clicked"]) for row in result.catalogs] == [
        ("aaaaaaaa / cccccccc", 1),
        ("aaaaaaaa / dddddddd", 0),
    ]


def test_digests_that_begin_alike_are_shown_whole(log_of):
    other = A[:-1] + "b"
    result = replay(log_of(shown(0, "x"), shown(1, "x", model=other)), clicked(("ann", 2, "x")))

    assert {row["name"] for row in result.models} == {A, other}


def test_types_of_events_have_rates_of_their_own_and_targets_are_those_of_the_run(log_of):
    log = log_of(shown(0, "xyz"))
    clicks = clicked(("ann", 1, "y"), ("ann", 2, "x"), ("ann", 3, "y")).assign(kind=["view", "purchase", "view"])
    data = DataOptions(event_column="kind", target_events=["purchase"])
    row = replay(log, clicks, data=data, options=ReplayOptions(cutoffs=(1, 3))).models[0]

    assert value(row, "ctr") == pytest.approx(2 / 3)
    assert value(row, "ctr.view") == value(row, "ctr.purchase") == pytest.approx(1 / 3)
    assert row["cases"] == 1 and value(row, "recall@1") == 1.0


def test_guests_and_lists_without_a_user_are_left_out_and_counted(log_of):
    log = log_of(shown(0, "x"), shown(1, "x", user=None), shown(10_000, "x"))
    clicks = clicked(("ann", 1, "x"), (None, 2, "x"))
    result = replay(log, clicks)

    assert (result.log["without_user"], result.log["outside"], result.log["judged"]) == (1, 1, 1)
    assert result.clicks["without_user"] == 1 and result.clicks["clicks"] == 1


def test_names_of_columns_and_normalised_ids_are_those_of_the_run(log_of):
    log = log_of(shown(0, "x", user="Ann "))
    clicks = clicked(("ann", 1, "x")).rename(columns={"user_id": "customer"})
    data = DataOptions(columns={"user_id": "customer"}, normalize_ids=["strip", "lower"])

    assert replay(log, clicks, data=data).models[0]["clicked"] == 1


def test_fractions_of_a_second_decide_what_was_after(log_of):
    log = log_of(shown(0, "x", time=START + timedelta(milliseconds=500)))
    for milliseconds, counts in ((400, 0), (600, 1)):
        time = (START + timedelta(milliseconds=milliseconds)).isoformat()
        table = pd.DataFrame({"user_id": ["ann"], "item_id": ["x"], "timestamp": [time]})
        rest = clicked(("ann", -9, "q"), ("ann", 9, "q"))

        assert replay(log, pd.concat([table, rest])).models[0]["clicked"] == counts


def test_clicks_in_local_time_are_moved_to_utc(log_of):
    log = log_of(shown(0, "x"))
    # 14:05 in Athens is 12:05 UTC
    local = pd.DataFrame(
        {"user_id": ["ann"] * 2, "item_id": ["x", "q"], "timestamp": ["2026-03-01 14:05:00", "2026-03-01 10:00:00"]}
    )
    options = ReplayOptions(window_seconds=600)

    assert replay(log, local, timezone="Europe/Athens", options=options).models[0]["clicked"] == 1
    assert replay(log, local, options=ReplayOptions(window_seconds=7200)).models[0]["clicked"] == 0
    with pytest.raises(ValueError, match="time zone such as Europe/Berlin, got 'Greece/Athens'"):
        replay(log, local, timezone="Greece/Athens")


@pytest.mark.parametrize(
    "times",
    [
        ["2026-03-01T12:05:00Z", "2026-03-01T14:05:00+02:00", "2026-03-01 07:05:00-0500", "2026-03-01 14:05"],
        [1772366700, 1772366701, 1772366702, 1772366703],
        pd.to_datetime(["2026-03-01T12:05:00Z"] * 4),
        pd.to_datetime(["2026-03-01T14:05:00"] * 4),
    ],
    ids=["text", "seconds", "with zone", "without zone"],
)
def test_a_time_zone_moves_only_times_without_an_offset(log_of, times):
    log = log_of(*(shown(0, "x", user=user) for user in "abcd"))
    clicks = pd.DataFrame({"user_id": list("abcd"), "item_id": "x", "timestamp": times})
    options = ReplayOptions(window_seconds=600)

    assert replay(log, clicks, timezone="Europe/Athens", options=options).models[0]["clicked"] == 4


def test_a_log_that_is_named_twice_is_read_once(log_of, monkeypatch):
    log = log_of(shown(0, "x"))
    monkeypatch.chdir(log)

    result = replay([log, "*.jsonl", "."], clicked(("ann", 1, "x")))

    assert (result.log["files"], result.log["lists"]) == (1, 1)


def test_a_log_without_users_says_how_to_send_them(log_of):
    with pytest.raises(DataError, match=r"none of the 1 lists .* user_id in the body or as header X-User-ID"):
        replay(log_of(shown(0, "x", user=None)), clicked(("ann", 1, "x")))


def test_times_that_do_not_overlap_are_both_named(log_of):
    with pytest.raises(DataError, match=r"shown 2026-03-08 10:40:00 .* clicks are from 2026-03-01 12:01:00"):
        replay(log_of(shown(10_000, "x")), clicked(("ann", 1, "x")))


def test_users_of_another_naming_are_both_named(log_of):
    with pytest.raises(DataError, match=r"no user of the log clicked: the log has users such as 'ann', .* 'A-1'"):
        replay(log_of(shown(0, "x")), clicked(("A-1", 1, "x")))


def test_clicks_without_times_are_refused(log_of):
    clicks = clicked(("ann", 1, "x")).drop(columns="timestamp").assign(position=0)

    with pytest.raises(DataError, match="interactions has no column 'timestamp'"):
        replay(log_of(shown(0, "x")), clicks)


def test_damaged_lines_are_counted_and_the_first_is_named(log_of, tmp_path):
    directory = log_of(shown(0, "x"), shown(1, "x"))
    (path,) = (tmp_path / "log-jsonl").iterdir()
    whole = path.read_text(encoding="utf-8").splitlines()
    without_model = json.loads(whole[0]) | {"model": None}
    without_offset = json.loads(whole[0]) | {"time": "2026-03-01T12:00:00"}
    lines = [whole[0], whole[1][:40], "[1]", json.dumps(without_model), json.dumps(without_offset), "\x00"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    lists, findings = read_log([directory])

    assert len(lists) == 1 and findings.damaged == 5
    assert findings.first_damaged.startswith(f"{path.name}, line 2")


def test_files_are_found_by_pattern_and_read_once_and_what_is_in_progress_is_counted(log_of, tmp_path):
    directory = log_of(shown(0, "x"))
    log_of(shown(1, "x"), format="parquet")
    (path,) = (tmp_path / "log-jsonl").glob("*.jsonl")
    with gzip.open(f"{path}.gz", "wt", encoding="utf-8") as packed:
        packed.write(path.read_text(encoding="utf-8"))
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(path.read_text(encoding="utf-8"))
    lists, findings = read_log([directory, str(path), str(tmp_path / "log-*" / "*.parquet")])

    assert len(lists) == 3 and len(findings.files) == 3 and findings.in_progress == 1
    assert len(read_log([str(unfinished)])[0]) == 1  # where it is named


def test_what_is_no_log_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clicks.csv").write_text("user_id\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    pd.DataFrame({"user_id": ["u"]}).to_parquet(tmp_path / "clicks.parquet")
    (tmp_path / "other.jsonl").write_text('{"level": "info"}\n')
    for name, said in (
        ("missing", "no file .*missing"),
        ("empty", "has no file of a log"),
        ("clicks.csv", "is no file of a log"),
        ("broken.parquet", "is no whole parquet file"),
        ("clicks.parquet", "has no column 'time'"),
        ("other.jsonl", "holds no record of a request.*1 records are damaged.*there is no 'request_id'"),
    ):
        with pytest.raises(DataError, match=said):
            read_log([str(tmp_path / name)])


def test_the_command_reports_and_writes_files(log_of, tmp_path, capsys):
    log, clicks = two_arms(log_of)
    clicks.rename(columns={"user_id": "customer"}).to_csv(tmp_path / "clicks.csv", index=False)
    html = tmp_path / "report.html"
    found = tmp_path / "report.json"
    arguments = ["replay", log, "--clicks", str(tmp_path / "clicks.csv"), "--columns", "{user_id: customer}"]

    assert main([*arguments, "--output", str(html), "--output", str(found), "--window", "2h"]) == 0
    printed = capsys.readouterr().out
    assert "old aaaaaaaa" in printed and "at most 2 h before" in printed and "▲ better" in printed
    assert all(len(line) <= 110 for line in printed.splitlines())
    assert "new bbbbbbbb" in html.read_text(encoding="utf-8")
    assert json.loads(found.read_text(encoding="utf-8"))["log"]["judged"] == 40


def test_the_command_says_by_its_status_that_records_are_damaged(log_of, tmp_path, capsys):
    log = log_of(shown(0, "x"))
    (tmp_path / "log-jsonl" / "more.jsonl").write_text("{\n")
    clicked(("ann", 1, "x")).to_csv(tmp_path / "clicks.csv", index=False)

    assert main(["replay", log, "--clicks", str(tmp_path / "clicks.csv")]) == 3
    assert "1 record of the log is damaged: more.jsonl, line 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--window", "a day"], "a time such as 30min, 24h or 7d"),
        (["--cutoffs", "5,x"], "a whole number of at least 1, got 'x'"),
        (["--output", "report.pdf"], "ending in .json or .html"),
        (["--run", "./nowhere"], "is not there"),
        (["--data", "type"], "names with values as YAML"),
        (["--columns", "[a]"], "a map of names as YAML"),
        (["--clicks", "nowhere.csv"], "does not exist"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(option, named, tmp_path, capsys):
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("")

    assert main(["replay", "log", "--clicks", str(clicks), *option]) == 2
    assert named in capsys.readouterr().err


def test_a_log_that_is_still_written_is_named_as_such(tmp_path):
    (tmp_path / "requests-1.jsonl.part").write_text("")

    with pytest.raises(DataError, match="unfinished files of a log alone"):
        read_log([str(tmp_path)])
