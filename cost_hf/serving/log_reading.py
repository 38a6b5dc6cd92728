"""Reads request logs: files of both formats, those of several servers, and what a killed process left."""

import gzip
import json
from calendar import timegm
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cost_hf.data.errors import DataError
from cost_hf.data.sources import resolve_files
from cost_hf.files import readable_os_errors
from cost_hf.serving.log_files import UNFINISHED, parquet_schema

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
IN_PARTS = f".jsonl{UNFINISHED}"  # read where it is named, never where a directory is given
MICROSECONDS = 10**6
TEXTS = ("request_id", "model", "catalog")
LABELS = ("user_id", "variant")


@dataclass(frozen=True, eq=False)
class ShownLists:
    """The L lists of a request log, in order of time.

    Attributes:
        times: microseconds since 1970, UTC, int64 `[L]`.
        users: user id, None where the request had none, `[L]`.
        variants: arm of the test, None without one, `[L]`.
        models: digest of the model, `[L]`.
        catalogs: digest of the catalog, `[L]`.
        items: item ids of all lists, one after the other, best first, `[I]`.
        starts: where each list begins in `items`, and I, int64 `[L + 1]`.
    """

    times: np.ndarray
    users: np.ndarray
    variants: np.ndarray
    models: np.ndarray
    catalogs: np.ndarray
    items: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        """Return the numbers of lists and of their items."""
        return f"ShownLists({len(self)} lists, {len(self.items)} items)"

    @property
    def lengths(self) -> np.ndarray:
        """Number of items of each list, int64 `[L]`."""
        return np.diff(self.starts)

    def taken(self, rows: np.ndarray) -> "ShownLists":
        """Return the lists in `rows`, int64, in this order."""
        lengths = self.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        items = self.items[np.repeat(self.starts[rows], lengths) + within]
        return ShownLists(
            times=self.times[rows],
            users=self.users[rows],
            variants=self.variants[rows],
            models=self.models[rows],
            catalogs=self.catalogs[rows],
            items=items,
            starts=starts,
        )


@dataclass
class LogFindings:
    """What was found in the files of a log besides the lists.

    Attributes:
        files: names of the files that were read.
        in_progress: files of a directory that a server has not finished, which were left out.
        damaged: records that could not be read.
        first_damaged: place and fault of the first of them.
    """

    files: list[str] = field(default_factory=list)
    in_progress: int = 0
    damaged: int = 0
    first_damaged: str = ""

    def add_damaged(self, place: str, fault: str) -> None:
        """Count a record that could not be read."""
        if not self.damaged:
            self.first_damaged = f"{place}: {fault}"
        self.damaged += 1


def read_log(sources: Sequence[str | Path]) -> tuple[ShownLists, LogFindings]:
    """Read the lists of a request log.

    Args:
        sources: directories, files or patterns (`logs/2026-03-*.parquet`).

    Raises:
        DataError: where there is no file of a log or no readable record, or a parquet file has another schema.
        OSError: where a file can't be read.
    """
    findings = LogFindings()
    records: list[_Records] = []
    for path in _files(sources, findings):
        findings.files.append(str(path))
        with readable_os_errors(path):
            records.append(_read_parquet(path, findings) if path.suffix == ".parquet" else _read_jsonl(path, findings))
    lists = _joined(records)
    if not len(lists):
        fault = f"; {findings.damaged} records are damaged, the first in {findings.first_damaged}"
        raise DataError(
            f"{', '.join(map(str, sources))} holds no record of a request, expected files as `cost-hf serve` logs them "
            f"({len(findings.files)} files{fault if findings.damaged else ''}); check the path"
        )
    return lists.taken(np.argsort(lists.times, kind="stable")), findings


def _files(sources: Sequence[str | Path], findings: LogFindings) -> list[Path]:
    """Return the files of all sources, each once."""
    found: dict[Path, Path] = {}  # by whole path
    for source in sources:
        path = Path(source)
        if path.is_dir():
            names = sorted(path.iterdir())
            inside = [name for name in names if name.is_file() and name.name.endswith(ENDINGS)]
            unfinished = sum(name.name.endswith(UNFINISHED) for name in names)
            findings.in_progress += unfinished
            if not inside and unfinished:
                raise DataError(
                    f"{str(source)!r} has unfinished files of a log alone ({UNFINISHED}); they are finished when the "
                    "server stops or begins the next one: stop it, or try again later"
                )
            if not inside:
                raise DataError(f"{str(source)!r} has no file of a log ({', '.join(ENDINGS)}); check the directory")
        else:
            inside = resolve_files(str(source), None)
            other = next((name for name in inside if not name.name.endswith((*ENDINGS, IN_PARTS))), None)
            if other is not None:
                raise DataError(
                    f"{str(other)!r} is no file of a log, expected {', '.join(ENDINGS)}; name the right ones"
                )
        for name in inside:
            found.setdefault(name.resolve(), name)
    return list(found.values())


@dataclass
class _Records:
    """Columns of the records of one file."""

    times: list[int] = field(default_factory=list)
    labels: list[tuple[str | None, str | None, str, str]] = field(default_factory=list)  # user, variant, model, catalog
    items: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, time: int, labels: tuple[str | None, str | None, str, str], items: Sequence[str]) -> None:
        self.times.append(time)
        self.labels.append(labels)
        self.items.extend(items)
        self.lengths.append(len(items))


def _joined(parts: Sequence[_Records]) -> ShownLists:
    times = [time for part in parts for time in part.times]
    labels = np.empty((len(times), 4), dtype=object)
    row = 0
    for part in parts:
        for entry in part.labels:
            labels[row] = entry
            row += 1
    lengths = np.array([length for part in parts for length in part.lengths], dtype=np.int64)
    return ShownLists(
        times=np.array(times, dtype=np.int64),
        users=labels[:, 0],
        variants=labels[:, 1],
        models=labels[:, 2],
        catalogs=labels[:, 3],
        items=np.array([item for part in parts for item in part.items], dtype=object),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
    )


def _read_jsonl(path: Path, findings: LogFindings) -> _Records:
    records = _Records()
    for number, line in _lines(path, findings):
        try:
            row = json.loads(line)
            records.add(*_fields(row, datetime.fromisoformat))
        except (ValueError, RecursionError) as error:  # no UTF-8 and no JSON are ValueErrors
            findings.add_damaged(f"{path.name}, line {number}", str(error).partition("\n")[0][:160])
    return records


def _lines(path: Path, findings: LogFindings) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers; a compressed file that is cut ends early."""
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile) as error:
            findings.add_damaged(f"{path.name}, after line {number}", f"{error}")


def _read_parquet(path: Path, findings: LogFindings) -> _Records:
    import pyarrow
    import pyarrow.parquet

    wanted = [name for name in parquet_schema().names if name not in ("history", "options")]
    records = _Records()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            missing = [name for name in wanted if name not in file.schema_arrow.names]
            if missing:
                raise DataError(
                    f"{path} has no column {missing[0]!r}, only {file.schema_arrow.names}; expected a request log as "
                    "`cost-hf serve` writes it"
                )
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    try:
                        records.add(*_fields(row, lambda value: value))
                    except ValueError as error:
                        findings.add_damaged(f"{path.name}, record {len(records.times) + findings.damaged}", str(error))
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{path} is no whole parquet file ({error!s:.160}); copy it again, or move it away to leave it out"
        ) from error
    return records


def _fields(row: Any, read_time: Any) -> tuple[int, tuple[str | None, str | None, str, str], list[str]]:
    """Return time, labels and items of a record; raise ValueError for a wrong field."""
    if not isinstance(row, Mapping):
        raise ValueError(f"expected an object, got a {type(row).__name__}")
    for name in (*TEXTS, "time", "shown"):
        if row.get(name) is None:
            raise ValueError(f"there is no {name!r}")
    for name in (*TEXTS, *LABELS):
        if not isinstance(row.get(name), str | None):
            raise ValueError(f"expected a text as {name!r}, got {row[name]!r:.40}")
    shown = row["shown"]
    if not isinstance(shown, list) or not all(isinstance(entry, Mapping) for entry in shown):
        raise ValueError("expected a list of objects as 'shown'")
    items = [entry.get("item_id") for entry in shown]
    if not all(isinstance(item, str) for item in items):
        raise ValueError("an entry of 'shown' has no item_id")
    try:
        time = read_time(row["time"])
        moment = timegm(time.utctimetuple()) * MICROSECONDS + time.microsecond
        has_offset = time.tzinfo is not None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"expected a time as 'time', got {row['time']!r:.40}") from error
    if not has_offset:
        raise ValueError(f"the time {row['time']!r:.40} has no offset, expected UTC")
    return moment, (row.get("user_id"), row.get("variant"), row["model"], row["catalog"]), items
