import json
import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet
import pytest

from cost_hf.serving import log_files
from cost_hf.serving.log_files import UNFINISHED, JsonlLogFile
from cost_hf.serving.request_log import LogOptions, RequestLog
from cost_hf.serving.request_records import MAX_LISTED, RequestRecord, logged_options, user_labels

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def record(number: int = 0, **changes) -> RequestRecord:
    fields = {
        "time": NOON + timedelta(seconds=number),
        "request_id": f"r{number}",
        "model": "m" * 64,
        "catalog": "c" * 64,
        "shown": [("a", 0.5), ("b", float("-inf"))],
        "history": ["x", "y"],
        "options": {"top_k": 2, "where": {"price": {"max": 50}}},
        "user_id": "u1",
        "variant": "control",
    }
    return RequestRecord(**(fields | changes))


def finished(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix != UNFINISHED)


def rows_of(directory: Path) -> list[dict]:
    """Return all records of a directory, `options` as objects."""
    rows: list[dict] = []
    for path in finished(directory):
        if path.suffix == ".jsonl":
            rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        else:
            for row in pyarrow.parquet.read_table(path).to_pylist():
                time_text = row["time"].isoformat(timespec="microseconds").replace("+00:00", "Z")
                rows.append({**row, "time": time_text, "options": json.loads(row["options"])})
    return rows


def wait_until(holds, *, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_a_score_that_an_answer_leaves_out_is_null(tmp_path, format):
    with RequestLog(tmp_path, LogOptions(format=format)) as log:
        log.add(record(shown=[("a", 0.5), ("b", None)]))

    assert [entry["score"] for entry in rows_of(tmp_path)[0]["shown"]] == [0.5, None]


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_a_record_that_cant_be_written_costs_no_other(tmp_path, format, caplog):
    with RequestLog(tmp_path, LogOptions(format=format)) as log:
        for number in range(3):
            log.add(record(number, **({"shown": [("a", "high")]} if number == 1 else {})))

    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r0", "r2"]
    assert (log.counts.written, log.counts.failed) == (2, 1)
    assert "a record of request r1 could not be logged" in caplog.text


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_a_record_comes_back_with_all_its_fields(tmp_path, format):
    cest = timezone(timedelta(hours=2))
    with RequestLog(tmp_path, LogOptions(format=format)) as log:
        assert log.add(record(time=NOON.astimezone(cest)))

    (row,) = rows_of(tmp_path)
    assert row == {
        "time": "2026-03-01T12:00:00.123456Z",
        "request_id": "r0",
        "user_id": "u1",
        "variant": "control",
        "model": "m" * 64,
        "catalog": "c" * 64,
        "history": ["x", "y"],
        "options": {"top_k": 2, "where": {"price": {"max": 50}}},
        "shown": [{"item_id": "a", "rank": 1, "score": 0.5}, {"item_id": "b", "rank": 2, "score": None}],
    }


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_files_are_rotated_by_records_and_all_are_whole_at_the_end(tmp_path, format):
    with RequestLog(tmp_path, LogOptions(format=format, max_records=3)) as log:
        for number in range(8):
            log.add(record(number))

    assert [row["request_id"] for row in rows_of(tmp_path)] == [f"r{number}" for number in range(8)]
    assert len(finished(tmp_path)) == len(list(tmp_path.iterdir())) == 3
    assert log.counts.written == 8 and log.counts.files == 3


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_files_are_rotated_by_bytes(tmp_path, format):
    with RequestLog(tmp_path, LogOptions(format=format, max_bytes=2_000)) as log:
        for number in range(40):
            log.add(record(number, shown=[(f"item-{place}", 0.1) for place in range(50)]))

    assert len(finished(tmp_path)) > 3
    assert len(rows_of(tmp_path)) == 40


def test_a_file_is_finished_when_its_time_is_over_without_another_record(tmp_path):
    with RequestLog(tmp_path, LogOptions(max_seconds=1)) as log:
        log.add(record())
        wait_until(lambda: log.counts.files == 1)

        assert len(rows_of(tmp_path)) == 1


def test_two_logs_share_a_directory(tmp_path):
    with RequestLog(tmp_path) as first, RequestLog(tmp_path) as second:
        first.add(record(1))
        second.add(record(2))

    assert len(finished(tmp_path)) == 2
    assert {row["request_id"] for row in rows_of(tmp_path)} == {"r1", "r2"}


def test_histories_and_item_ids_of_options_can_be_left_out(tmp_path):
    options = {"top_k": 2, "denied": ["x", "y"], "allowed": None, "where": {"brand": ["Alba"]}}
    with RequestLog(tmp_path, LogOptions(with_histories=False)) as log:
        log.add(record(options=options))

    (row,) = rows_of(tmp_path)
    assert row["history"] is None
    assert row["options"] == {"top_k": 2, "denied": {"count": 2}, "allowed": None, "where": {"brand": ["Alba"]}}


def test_long_lists_of_options_are_counted():
    options = {"allowed": [str(number) for number in range(MAX_LISTED + 1)], "denied": ["x"]}

    assert logged_options(options, with_ids=True) == {"allowed": {"count": MAX_LISTED + 1}, "denied": ["x"]}


def test_records_beyond_the_queue_are_dropped_and_counted_without_waiting(tmp_path, monkeypatch):
    is_free = threading.Event()
    write = JsonlLogFile.write

    def wait_and_write(self, row):
        assert is_free.wait(20)
        write(self, row)

    monkeypatch.setattr(JsonlLogFile, "write", wait_and_write)
    with RequestLog(tmp_path, LogOptions(max_waiting=5)) as log:
        accepted = [log.add(record(0))]
        wait_until(lambda: not log._waiting)  # the thread has taken it and is stuck at the disk
        accepted += [log.add(record(number)) for number in range(1, 9)]
        is_free.set()

    assert accepted == [True] * 6 + [False] * 3
    assert log.counts.dropped == 3 and log.counts.written == 6
    assert len(rows_of(tmp_path)) == 6


def test_many_threads_lose_nothing(tmp_path):
    with RequestLog(tmp_path, LogOptions(format="parquet", max_records=37)) as log:

        def add(start: int) -> None:
            for number in range(start, start + 100):
                log.add(record(number))

        threads = [threading.Thread(target=add, args=(100 * each,)) for each in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    names = [row["request_id"] for row in rows_of(tmp_path)]
    assert sorted(names) == sorted(f"r{number}" for number in range(400))
    assert log.counts.written == 400


def test_a_closed_log_drops_and_can_be_closed_again(tmp_path):
    log = RequestLog(tmp_path)
    log.close()
    log.close()

    assert not log.add(record())
    assert log.counts.dropped == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_a_failing_disk_loses_records_but_not_the_log(tmp_path, monkeypatch, caplog, format):
    monkeypatch.setattr("cost_hf.serving.request_log.RETRY_SECONDS", 0.0)
    is_full = threading.Event()
    is_full.set()
    sync = os.fsync

    def fail(descriptor):
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(log_files.os, "fsync", fail)
    with RequestLog(tmp_path, LogOptions(format=format, max_records=2)) as log:
        log.add(record(0))
        log.add(record(1))
        wait_until(lambda: log.counts.failed == 2)
        is_full.clear()
        log.add(record(2))

    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r2"]
    assert log.counts.written == 1 and log.counts.files == 1
    assert "2 records are lost" in caplog.text


def test_a_record_that_can_not_be_written_is_left_out_alone(tmp_path):
    with RequestLog(tmp_path) as log:
        log.add(record(0))
        log.add(record(1, shown=5))
        log.add(record(2, options={"strange": object()}, history=["half \ud800"], shown=[("a", None)]))

    first, last = rows_of(tmp_path)
    assert (first["request_id"], last["request_id"]) == ("r0", "r2")
    assert last["history"] == ["half ?"] and last["shown"][0]["score"] is None
    assert log.counts.failed == 1 and log.counts.written == 2


def _log_and_wait(directory: str, format: str, ready) -> None:
    log = RequestLog(directory, LogOptions(format=format, max_records=3))
    for number in range(5):
        log.add(record(number))
    wait_until(lambda: log.counts.written == 5)
    ready.set()
    time.sleep(60)


@pytest.mark.parametrize("format", log_files.FORMATS)
def test_a_killed_process_loses_at_most_the_file_in_progress(tmp_path, format):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_log_and_wait, args=(str(tmp_path), format, ready))
    process.start()
    assert ready.wait(120)
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r0", "r1", "r2"]
    assert [path.suffix for path in tmp_path.iterdir() if path not in finished(tmp_path)] == [UNFINISHED]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "csv"}, "'csv', expected one of jsonl, parquet"),
        ({"max_waiting": 0}, "max_waiting"),
        ({"max_seconds": 0}, "max_seconds"),
    ],
)
def test_options_out_of_range_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        LogOptions(**changes)


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "log").write_text("")

    with pytest.raises(OSError, match="a file stands where a directory is expected"):
        RequestLog(tmp_path / "log")


@pytest.mark.parametrize(
    ("in_body", "header", "num", "wanted"),
    [
        (None, None, 2, [None, None]),
        (None, "h", 1, ["h"]),
        (None, "h", 2, [None, None]),  # one user can't have asked for both
        ("b", "h", 1, ["b"]),
        (["a", None], "h", 2, ["a", None]),
        (17, None, 1, ["17"]),  # whole numbers stand for their digits, as in tables
        ([17, "u"], None, 2, ["17", "u"]),
    ],
)
def test_user_labels(in_body, header, num, wanted):
    assert user_labels(in_body, header, num) == wanted


@pytest.mark.parametrize(
    ("in_body", "named"),
    [
        ("u", "2 histories, got 1"),
        ([True, 2.5], "got a bool"),
        ([2.5, 1], "got a float"),
        (["", "u"], "0 characters"),
        (["u" * 600, "u"], "600"),
    ],
)
def test_user_labels_that_do_not_fit_are_refused(in_body, named):
    with pytest.raises(ValueError, match=named):
        user_labels(in_body, None, 2)
