"""Bulk jobs on this machine: whole results, continued jobs, and errors that say what to do."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_hf.bulk.job import FILES, RECORD, run_bulk
from cost_hf.bulk.tasks import EmbedTask, EncodeTask, RecommendTask
from cost_hf.cli import main
from cost_hf.data import VectorOptions
from cost_hf.data.encoders import sentence_encoder
from cost_hf.recommenders.example import TEXTS, example_recommender
from tests.data.encoder_toys import tiny_encoder


@dataclass(frozen=True)
class Doubled:
    """Twice a number; `calls` counts rows, `fails_at` stops the job at a number."""

    name: ClassVar[str] = "double"
    calls: ClassVar[list[int]] = []
    fails_at: ClassVar[int | None] = None

    def content(self):
        return {}

    def check(self, columns):
        if "number" not in columns:
            raise ValueError(f"expected number, got {columns}")

    def load(self):
        return self._doubled

    def _doubled(self, rows):
        numbers = rows["number"].to_pylist()
        if self.fails_at is not None and self.fails_at in numbers:
            raise RuntimeError("killed")
        self.calls.append(len(numbers))
        return pa.table({"number": rows["number"], "double": [n if n is None else 2 * n for n in numbers]})


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(Doubled, "calls", [])


def write(path: Path, columns, *, row_group_size=4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def written(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def numbers(tmp_path) -> str:
    write(tmp_path / "in" / "a.parquet", {"number": list(range(10)), "unused": ["x"] * 10})
    write(tmp_path / "in" / "b.parquet", {"number": [10, None, 12], "unused": ["x"] * 3})
    return str(tmp_path / "in" / "*.parquet")


def test_every_row_has_its_result_in_order(tmp_path):
    summary = run_bulk(Doubled(), numbers(tmp_path), tmp_path / "out", batch_size=3)

    found = written(tmp_path / "out").to_pydict()
    assert found["number"] == [*range(10), 10, None, 12]
    assert found["double"] == [2 * n for n in range(11)] + [None, 24]
    assert summary == {"rows": 13, "rows_without_result": 1, "files": 4}
    assert Doubled.calls == [3, 1, 3, 1, 2, 3]  # batches do not cross row groups
    assert json.loads((tmp_path / "out" / RECORD).read_text())["status"] == "done"


def test_a_stopped_job_computes_what_is_missing(tmp_path, monkeypatch):
    pattern = numbers(tmp_path)
    run_bulk(Doubled(), pattern, tmp_path / "whole")
    monkeypatch.setattr(Doubled, "fails_at", 5)  # in the second unit
    with pytest.raises(RuntimeError, match="killed"):
        run_bulk(Doubled(), pattern, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["a-00000.parquet"]
    monkeypatch.setattr(Doubled, "fails_at", None)
    Doubled.calls.clear()

    summary = run_bulk(Doubled(), pattern, tmp_path / "out")

    assert sum(Doubled.calls) == 9
    assert summary == {"rows": 13, "rows_without_result": 1, "files": 4}
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def with_flipped_bit(place: float):
    """Return what flips a bit of a file at a share of its length."""

    def damaged(path: Path) -> bytes:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        return bytes(content)

    return damaged


@pytest.mark.parametrize(
    "damaged",
    [
        lambda path: b"",
        lambda path: b"PAR1 and no more",
        lambda path: path.read_bytes()[:-20],
        *map(with_flipped_bit, (0.0, 0.02, 0.1, 0.5, 0.9, 0.99, 1.0)),
    ],
)
def test_a_damaged_file_of_results_is_computed_again(tmp_path, caplog, damaged):
    pattern = numbers(tmp_path)
    run_bulk(Doubled(), pattern, tmp_path / "out")
    before = digests(tmp_path / "out")
    path = tmp_path / "out" / "a-00001.parquet"
    path.write_bytes(damaged(path))
    Doubled.calls.clear()

    run_bulk(Doubled(), pattern, tmp_path / "out")

    assert "a-00001.parquet" in caplog.text and "it is computed again" in caplog.text
    assert digests(tmp_path / "out") == before and Doubled.calls == [4]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda lines: [lines[0], lines[1][:-9]],
        lambda lines: [lines[0], lines[1].replace('"missing": 0', '"missing": 1')],
        lambda lines: [lines[0], lines[1].replace("a-00001", "a-00002")],
        lambda lines: [lines[0], "[" * 10],
    ],
    ids=["cut short", "another count", "another file", "no record"],
)
def test_a_file_whose_record_is_damaged_is_computed_again(tmp_path, damaged):
    pattern = numbers(tmp_path)
    summary = run_bulk(Doubled(), pattern, tmp_path / "out")
    whole = (tmp_path / "out" / FILES).read_text()
    lines = whole.splitlines()
    (tmp_path / "out" / FILES).write_text("\n".join([*damaged(lines[:2]), *lines[2:]]))
    Doubled.calls.clear()

    assert run_bulk(Doubled(), pattern, tmp_path / "out") == summary
    assert Doubled.calls == [4]
    assert sorted((tmp_path / "out" / FILES).read_text().splitlines()) == sorted(lines)
    Doubled.calls.clear()
    run_bulk(Doubled(), pattern, tmp_path / "out")
    assert Doubled.calls == []


def test_what_a_killed_start_has_left_does_not_stop_the_job(tmp_path):
    (tmp_path / "out" / f".{RECORD}-0a1b2c3d").mkdir(parents=True)

    summary = run_bulk(Doubled(), numbers(tmp_path), tmp_path / "out")

    assert summary["rows"] == 13 and not list((tmp_path / "out").glob(f".{RECORD}-*"))


def test_long_row_groups_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("cost_hf.bulk.units.ROWS_PER_GROUP", 4)
    path = write(tmp_path / "in.parquet", {"number": [*range(9), None]}, row_group_size=100)

    summary = run_bulk(Doubled(), str(path), tmp_path / "out", batch_size=2)

    file = pq.ParquetFile(tmp_path / "out" / "in-00000.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 2]
    assert summary["rows_without_result"] == 1


@dataclass(frozen=True)
class Watched(Doubled):
    """Doubled, which notes the bytes that Arrow holds at every batch."""

    held: ClassVar[list[int]] = []

    def load(self):
        return self._watched

    def _watched(self, rows):
        self.held.append(pa.total_allocated_bytes())
        return self._doubled(rows)


def peak_of_a_job(folder: Path, *, row_groups: int) -> int:
    """Return the most bytes of Arrow and Python while a job on row groups of 2 MB runs."""
    rows = 2_000 * row_groups
    columns = {"number": list(range(rows)), "unused": [f"{number:01000}" for number in range(rows)]}
    path = write(folder / "in.parquet", columns, row_group_size=2_000)
    del columns
    Watched.held.clear()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        run_bulk(Watched(), str(path), folder / "out", batch_size=500)
        return max(Watched.held) - before + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_row_groups(tmp_path):
    few = peak_of_a_job(tmp_path / "few", row_groups=2)
    many = peak_of_a_job(tmp_path / "many", row_groups=20)

    assert few > 1e6 and many < 1.1 * few


def test_columns_are_renamed(tmp_path):
    path = write(tmp_path / "in.parquet", {"n": [1, 2]})

    run_bulk(Doubled(), str(path), tmp_path / "out", columns={"number": "n"})

    assert written(tmp_path / "out").to_pydict() == {"number": [1, 2], "double": [2, 4]}


def test_another_job_does_not_mix_with_the_results_of_the_first(tmp_path):
    pattern = numbers(tmp_path)
    run_bulk(Doubled(), pattern, tmp_path / "out")

    with pytest.raises(ValueError, match="a job with other batch_size; delete it"):
        run_bulk(Doubled(), pattern, tmp_path / "out", batch_size=7)
    write(tmp_path / "in" / "b.parquet", {"number": [10, 11, 12], "unused": ["changed"] * 3})
    with pytest.raises(ValueError, match="a job with other inputs"):
        run_bulk(Doubled(), pattern, tmp_path / "out")


@dataclass(frozen=True)
class Delayed:
    """A task whose recommender loses an item before it is loaded."""

    name: ClassVar[str] = "delayed"
    task: RecommendTask
    recommender: Any

    def content(self):
        return self.task.content()

    def check(self, columns):
        self.task.check(columns)

    def load(self):
        self.recommender.remove_items(["press"])
        self.recommender.save_catalog(self.task.source)
        return self.task.load()


@dataclass(frozen=True)
class Moving(Doubled):
    """Doubled, at whose load something happens."""

    happens: Callable[[], Any] = print

    def load(self):
        self.happens()
        return self._doubled


def test_input_that_changes_while_a_job_runs_is_an_error(tmp_path):
    pattern = numbers(tmp_path)
    task = Moving(lambda: write(tmp_path / "in" / "b.parquet", {"number": [10, 11, 12], "unused": ["new"] * 3}))

    with pytest.raises(ValueError, match="a job with other inputs; delete it"):
        run_bulk(task, pattern, tmp_path / "out")

    assert json.loads((tmp_path / "out" / RECORD).read_text())["status"] == "running"


def test_a_recommender_that_changes_before_it_is_loaded_is_an_error(tmp_path):
    recommender = example_recommender()
    recommender.save_pretrained(tmp_path / "own")
    path = write(tmp_path / "in.parquet", {"history": [["kettle"]]})
    task = Delayed(RecommendTask(str(tmp_path / "own")), recommender)

    with pytest.raises(ValueError, match="the recommender has changed since the job began"):
        run_bulk(task, str(path), tmp_path / "out")

    assert not list((tmp_path / "out").glob("*.parquet"))


def test_wrong_input_is_named(tmp_path):
    path = write(tmp_path / "in.parquet", {"number": [1]})
    (tmp_path / "full" / "kept").mkdir(parents=True)
    (tmp_path / "no.parquet").write_text("text")
    write(tmp_path / "other" / "in.parquet", {"number": [1]})
    write(tmp_path / "empty.parquet", {"number": pa.array([], pa.int64())})

    with pytest.raises(ValueError, match="no file"):
        run_bulk(Doubled(), str(tmp_path / "nothing-*.parquet"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"no\.parquet is not a valid parquet file"):
        run_bulk(Doubled(), str(tmp_path / "no.parquet"), tmp_path / "out")
    for name in ("_part.parquet", ".part.parquet"):
        with pytest.raises(ValueError, match=f"{name} has a name that readers of a folder pass over"):
            run_bulk(Doubled(), str(write(tmp_path / name, {"number": [1]})), tmp_path / "out")
    with pytest.raises(ValueError, match="have the same name"):
        run_bulk(Doubled(), str(tmp_path / "**" / "in.parquet"), tmp_path / "out")
    with pytest.raises(ValueError, match="hold no rows"):
        run_bulk(Doubled(), str(tmp_path / "empty.parquet"), tmp_path / "out")
    with pytest.raises(ValueError, match="holds 'kept' and no _bulk"):
        run_bulk(Doubled(), str(path), tmp_path / "full")
    with pytest.raises(ValueError, match="engine must be one of local, ray, got 'spark'"):
        run_bulk(Doubled(), str(path), tmp_path / "out", engine="spark")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        run_bulk(Doubled(), str(path), tmp_path / "out", batch_size=0)
    write(tmp_path / "two.parquet", {"number": [1], "n": [2]})
    with pytest.raises(ValueError, match="has two columns 'number' under these names"):
        run_bulk(Doubled(), str(tmp_path / "two.parquet"), tmp_path / "out", columns={"number": "n"})
    with pytest.raises(ValueError, match="expected number"):
        run_bulk(Doubled(), str(path), tmp_path / "out", columns={"other": "number"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommender")
    recommender = example_recommender()
    recommender.save_pretrained(folder)
    return recommender, folder


def test_lists_are_those_of_the_recommender(tmp_path, saved):
    recommender, folder = saved
    histories = [["kettle"], ["teapot", "unknown"], [], None, ["unknown"]]
    path = write(tmp_path / "in.parquet", {"user_id": [1, 2, 3, 4, 5], "history": histories}, row_group_size=2)

    run_bulk(RecommendTask(str(folder), top_k=3), str(path), tmp_path / "out")

    rows = written(tmp_path / "out").to_pylist()
    assert [row["user_id"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["history"] for row in rows] == histories
    assert [row["by_popularity"] for row in rows] == [False, False, True, True, True]
    for row, history in zip(rows, [["kettle"], ["teapot"], [], [], []], strict=True):
        expected = recommender.recommend([history], top_k=3, on_empty="popularity")[0]
        assert row["item_ids"] == [answer.item_id for answer in expected]
        assert np.allclose(row["scores"], [answer.score for answer in expected], rtol=1e-5)


def test_what_is_no_item_id_is_an_error(tmp_path, saved):
    _, folder = saved
    path = write(tmp_path / "in.parquet", {"history": [[1.5]]})

    with pytest.raises(ValueError, match=r"1\.5"):
        run_bulk(RecommendTask(str(folder)), str(path), tmp_path / "out")


def test_a_damaged_page_of_the_input_is_named(tmp_path):
    path = write(tmp_path / "in.parquet", {"number": [1, 2, 3]})
    content = bytearray(path.read_bytes())
    content[4:30] = bytes(26)
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"in\.parquet is not a valid parquet file"):
        run_bulk(Doubled(), str(path), tmp_path / "out")


@pytest.mark.parametrize("user_ids", [[{"a": 1}], [[1]], [b"\xff"], [1.5], [None]])
def test_user_ids_of_any_kind_are_written_as_they_were(tmp_path, saved, user_ids):
    _, folder = saved
    path = write(tmp_path / "in.parquet", {"user_id": user_ids, "history": [["kettle"]]})

    run_bulk(RecommendTask(str(folder)), str(path), tmp_path / "out")

    assert written(tmp_path / "out")["user_id"].to_pylist() == user_ids


def test_conditions_hold_for_every_list(tmp_path, saved):
    _, folder = saved
    path = write(tmp_path / "in.parquet", {"history": [["kettle"], ["teapot"]]})

    run_bulk(RecommendTask(str(folder), where={"price": {"max": 25}}), str(path), tmp_path / "out")

    (first, second) = written(tmp_path / "out")["item_ids"].to_pylist()
    assert set(first) == set(second) == {"teacup", "filter", "press"}


def test_codes_are_those_of_the_recommender(tmp_path, saved):
    path = write(tmp_path / "in.parquet", {"item_id": ["a", "b", "c"], "text": [TEXTS["kettle"], None, "a lamp"]})
    recommender, folder = saved
    with pytest.raises(ValueError, match=r"made of all text columns; name these columns by a template"):
        run_bulk(EncodeTask(str(folder)), str(path), tmp_path / "out")
    templated = example_recommender()
    templated.encoder.options = VectorOptions(template="{text}")
    templated.save_pretrained(tmp_path / "templated")

    with pytest.raises(ValueError, match=r"the template '\{text\}'; leave the template out"):
        run_bulk(EncodeTask(str(tmp_path / "templated"), "{text}"), str(path), tmp_path / "out2")
    run_bulk(EncodeTask(str(folder), "{text}"), str(path), tmp_path / "given")
    summary = run_bulk(EncodeTask(str(tmp_path / "templated")), str(path), tmp_path / "codes")

    found = written(tmp_path / "codes").to_pydict()
    first, third = recommender.encode([TEXTS["kettle"], "a lamp"]).tolist()
    assert found["item_id"] == ["a", "b", "c"]
    assert found["codes"] == [first, None, third]
    texts = recommender.vocabulary.texts(np.array([first, third]))
    assert found["tokens"] == [texts[0], None, texts[1]]
    assert summary["rows_without_result"] == 1
    assert digests(tmp_path / "given") == digests(tmp_path / "codes")


def test_a_changed_recommender_is_another_job(tmp_path):
    path = write(tmp_path / "in.parquet", {"history": [["kettle"]]})
    own = tmp_path / "own"
    example_recommender().save_pretrained(own)
    run_bulk(RecommendTask(str(own)), str(path), tmp_path / "out")
    changed = example_recommender()
    changed.remove_items(["press"])
    changed.save_pretrained(own)

    with pytest.raises(ValueError, match="a job with other options"):
        run_bulk(RecommendTask(str(own)), str(path), tmp_path / "out")


def test_vectors_are_those_of_the_encoder(tmp_path):
    encoder = tiny_encoder(tmp_path / "encoder", ["red", "green", "lamp"])
    options = VectorOptions(model=str(encoder), template="{title}. {brand}")
    rows = {
        "item_id": ["a", "b", "c", "d"],
        "title": ["red lamp", None, "green", " "],
        "brand": [None, None, "lamp", ""],
    }
    path = write(tmp_path / "in.parquet", rows, row_group_size=3)

    summary = run_bulk(EmbedTask(options), str(path), tmp_path / "out", batch_size=2)

    found = written(tmp_path / "out").to_pydict()
    expected = sentence_encoder(options).encode(["red lamp", "green. lamp"])
    assert found["item_id"] == ["a", "b", "c", "d"]
    assert found["vector"][1] is None and found["vector"][3] is None
    assert np.allclose([found["vector"][0], found["vector"][2]], expected, atol=1e-5)
    assert summary["rows_without_result"] == 2


class Spelled:
    """Vectors of texts: the numbers of their characters, padded with blanks."""

    def __init__(self, options):
        pass

    def encode(self, texts):
        return np.array([[float(ord(character)) for character in text.ljust(24)] for text in texts])


def test_the_text_of_a_row_does_not_depend_on_the_rows_of_its_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("cost_hf.data.encoders.sentence_encoder", Spelled)
    rows = {"item_id": list("abcd"), "price": [9.0, 9.5, None, 1e20], "number": [2**53 + 1, None, 7, 8]}
    path = write(tmp_path / "in.parquet", rows)
    task = EmbedTask(VectorOptions(model="made up", template="{price} {number}"))

    tables = []
    for size in (1, 2, 4):
        run_bulk(task, str(path), tmp_path / str(size), batch_size=size)
        tables.append(written(tmp_path / str(size))["vector"].to_pylist())

    assert tables[0] == tables[1] == tables[2]
    texts = ["".join(map(chr, map(int, vector))).strip() for vector in tables[0]]
    assert texts == ["9 9007199254740993", "9.5", "7", "1e+20 8"]


def test_the_commands_write_files(tmp_path, saved, capsys):
    _, folder = saved
    encoder = tiny_encoder(tmp_path / "encoder", ["red", "lamp"])
    items = write(tmp_path / "items.parquet", {"asin": ["a", "b"], "title": ["red lamp", "lamp"]})
    histories = write(tmp_path / "histories.parquet", {"history": [["kettle"], ["press"]]})
    named = ["--input", str(items), "--columns", "{item_id: asin}", "--template", "{title}", "--output"]

    assert main(["embed", str(encoder), *named, str(tmp_path / "vectors")]) == 0
    assert main(["encode", str(folder), *named, str(tmp_path / "codes")]) == 0
    lists = ["--input", str(histories), "--output", str(tmp_path / "lists"), "--top-k", "2"]
    assert main(["recommend", str(folder), *lists]) == 0

    assert "2 rows in 1 file: " in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "vectors")["vector"].map(len).tolist() == [16, 16]
    assert list(pd.read_parquet(tmp_path / "codes")) == ["item_id", "codes", "tokens"]
    assert pd.read_parquet(tmp_path / "lists")["item_ids"].map(len).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"model": "lsa", "template": "{title}"}, "lsa is fitted"), ({"model": "org/encoder"}, "needs a template")],
)
def test_what_has_no_vectors_of_rows_alone_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EmbedTask(VectorOptions(**options))
