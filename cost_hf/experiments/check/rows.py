"""Rows that a run would stop at: all of them in one list, with counts, first lines and the flag for each.

How text files are written is found first (encoding, separator, decimal commas), since nothing can be read before; then
the rows that can't be read; then cells that are missing, unreadable or repeated. Each fault has recipe fields with
which the data can be read; the rest of the check uses them.
"""

import dataclasses
import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cost_hf.data import text_files
from cost_hf.data.cells import is_missing, plain_value
from cost_hf.data.events import event_types
from cost_hf.data.options import DataOptions, csv_option
from cost_hf.data.schema import clean_ids, readable_times
from cost_hf.data.sources import table_files, text_format
from cost_hf.data.text_files import COMMA_NUMBER, SEPARATORS, TextFormat
from cost_hf.experiments.check.dates import guess_date_format
from cost_hf.experiments.check.guess import is_called, session_columns
from cost_hf.reporting.check import flag_value
from cost_hf.reporting.words import plural

TABLES = ("items", "interactions")
MARKS = {mark: name for name, mark in SEPARATORS.items()}
SHOWN = 60  # characters of a value
SHOWN_TYPES = 8  # of events


@dataclass(frozen=True)
class RowFault:
    """Rows of one table that a run would stop at, for one reason.

    Attributes:
        message: the finding with its count and an example, one sentence.
        count: number of rows, lines or cells.
        first: file and line (or row) of the first one.
        fields: recipe fields with which the table can be read, by dotted name.
        note: what to know of the fields; empty where there is nothing.
        severity: `error`, or `warning` where a run would not stop but read something else.
    """

    message: str
    count: int
    first: str
    fields: Mapping[str, Any]
    note: str = ""
    severity: str = "error"


class TableFiles:
    """The files of a table, and where its rows are in them.

    Args:
        table: `items` or `interactions`.
        options: the data section.
    """

    def __init__(self, table: str, options: DataOptions):
        self.table = table
        self.options = options

    @cached_property
    def paths(self) -> list[Path]:
        """The files; none of raw files of known form and of data sets of the Hub."""
        if self.options.reader != "tables":
            return []
        return table_files(self.table, self.options, getattr(self.options, self.table))

    @property
    def texts(self) -> list[Path]:
        """The text files among them."""
        return [path for path in self.paths if text_files.kind_of(path) is not None]

    @property
    def separated(self) -> list[Path]:
        """Those with separators between fields."""
        return [path for path in self.texts if text_files.kind_of(path) in text_files.SEPARATED]

    @property
    def form(self) -> TextFormat:
        """How they are written."""
        return text_format(self.table, self.options)

    def place(self, row: int) -> str:
        """Return file and line of a row of the table, counted from 0 over all files."""
        before = 0
        for path in self.paths:
            lines = self._lines(path)
            if lines is None:
                break
            if row - before < len(lines):
                return f"{path.name} line {lines[row - before]}"
            before += len(lines)
        return f"{self.paths[0].name if len(self.paths) == 1 else self.table} row {row}"

    def _lines(self, path: Path) -> list[int] | None:
        kind = text_files.kind_of(path)
        if kind is None:
            return None
        if kind == ".jsonl":
            bad: list[text_files.BadRow] = []
            text_files.read_jsonl(path, encoding=self.form.encoding, bad_rows=bad)
            lines = (number for number, _ in text_files.read_lines(path, encoding=self.form.encoding))
            return sorted(set(lines) - {row.line for row in bad})
        rows = text_files.table_lines(path, separator=self.form.separator(kind), form=self.form)
        return list(itertools.islice(rows, 1, None))


def find_forms(options: DataOptions) -> tuple[DataOptions, list[RowFault]]:
    """Return the options with encoding and separator of the files filled in, and what is wrong with their lines.

    Raises:
        DataError: for a file that can't be read at all.
    """
    faults: list[RowFault] = []
    for find in (_encoding, _separator):
        for table in TABLES:
            fault = find(TableFiles(table, options))
            if fault is not None:
                faults.append(fault)
                options = with_fields(options, fault.fields)
    for table in TABLES:
        faults += _bad_lines(TableFiles(table, options))
    if any("data.on_bad_row" in fault.fields for fault in faults):
        options = dataclasses.replace(options, on_bad_row="drop")
    return options, faults


def with_fields(options: DataOptions, fields: Mapping[str, Any]) -> DataOptions:
    """Return the data section with fields set by their dotted names; `data.csv` is extended."""
    changes = {name.removeprefix("data."): value for name, value in fields.items()}
    if "csv" in changes:
        changes["csv"] = options.csv | changes["csv"]
    return dataclasses.replace(options, **changes)


def plain_csv(csv: Mapping[str, str]) -> dict[str, str]:
    """Return `data.csv` with what both tables have in common named once.

    Examples:
        >>> plain_csv({"items.sep": ";", "interactions.sep": ";", "items.decimal": ","})
        {'sep': ';', 'items.decimal': ','}
    """
    plain: dict[str, str] = {}
    for key, value in csv.items():
        name = key.rpartition(".")[2]
        is_common = all(csv.get(f"{table}.{name}") == value for table in TABLES)
        plain[name if is_common else key] = value
    return plain


def flag_of(fields: Mapping[str, Any]) -> str:
    """Return fields as flags of the command line."""
    return " ".join(f"--{name} {shlex.quote(flag_value(value))}" for name, value in fields.items())


def _csv_fields(files: TableFiles, name: str, value: str) -> dict[str, Any]:
    """Return the field for one property of a table; other text files of the data keep theirs."""
    others = [TableFiles(table, files.options) for table in TABLES if table != files.table]
    is_alone = not any(other.texts for other in others)
    return {"data.csv": {name if is_alone else f"{files.table}.{name}": value}}


def _encoding(files: TableFiles) -> RowFault | None:
    """Return the encoding of the files of a table, where that is not UTF-8: one for all of them."""
    if csv_option(files.options.csv, files.table, "encoding") is not None:
        return None
    first: tuple[str, bytes] | None = None
    count = others = 0
    is_windows = True
    for path in files.texts:
        with text_files.open_table(path) as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path.name} line {number}"
                if number == 1 and (name := _wide_encoding(line)) is not None:
                    fields = _csv_fields(files, "encoding", name)
                    return RowFault(f"{path.name} is written in {name}, not in UTF-8", 1, place, fields)
                if not _decodes(line, "utf-8"):
                    first = first or (place, line)
                    count += 1
                    is_windows = is_windows and _decodes(line, "cp1252")
                elif not line.isascii():
                    others += 1
    if first is None:
        return None
    name = "cp1252" if is_windows else "latin-1"
    shown = first[1].decode(name).strip()[:SHOWN]
    message = f"{plural(count, 'line')} not in UTF-8; in {name} the first reads {shown!r}"
    note = f"but {plural(others, 'line')} in UTF-8 would be read wrongly: write all of {files.table} alike"
    return RowFault(message, count, first[0], _csv_fields(files, "encoding", name), note if others else "")


def _wide_encoding(line: bytes) -> str | None:
    if line.startswith(text_files.UTF16_STARTS):
        return "utf-16"
    if b"\0" in line:
        return "utf-16-be" if line.startswith(b"\0") else "utf-16-le"
    return None


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _separator(files: TableFiles) -> RowFault | None:
    """Return the separator of the files of a table, where that is another than their names tell."""
    paths = files.separated
    if not paths or csv_option(files.options.csv, files.table, "sep") is not None:
        return None
    expected = files.form.separator(text_files.kind_of(paths[0]) or ".csv")
    header = next((text for _, text in text_files.read_lines(paths[0], encoding=files.form.encoding)), "")
    mark = max((expected, *MARKS), key=header.count)  # the expected one where counts are equal
    if mark == expected:
        return None
    count = sum(mark in text for path in paths for _, text in text_files.read_lines(path, encoding=files.form.encoding))
    message = (
        f"the fields are separated by {MARKS[mark]}, not by {MARKS.get(expected, repr(expected))}, in "
        f"{plural(count, 'line')}"
    )
    return RowFault(message, count, f"{paths[0].name} line 1", _csv_fields(files, "sep", mark))


def _bad_lines(files: TableFiles) -> Iterator[RowFault]:
    bad: list[tuple[Path, text_files.BadRow]] = []
    for path in files.texts:
        rows: list[text_files.BadRow] = []
        if text_files.kind_of(path) == ".jsonl":
            text_files.read_jsonl(path, encoding=files.form.encoding, bad_rows=rows)
        else:
            separator = files.form.separator(text_files.kind_of(path) or ".csv")
            rows = text_files.bad_rows_of(path, separator=separator, form=files.form)
        bad += [(path, row) for row in rows]
    if bad and files.options.on_bad_row == "error":
        path, row = bad[0]
        message = f"{plural(len(bad), 'line')} of {files.table} can't be read: {row.fault:.200}"
        yield RowFault(message, len(bad), f"{path.name} line {row.line}", {"data.on_bad_row": "drop"})


def find_faults(
    items: pd.DataFrame, clicks: pd.DataFrame, options: DataOptions, *, drops_bad_rows: bool
) -> tuple[DataOptions, list[RowFault]]:
    """Return the options with which the rows can be read, and what is wrong with them as they are.

    Args:
        items: catalog with our column names, as it was read.
        clicks: click log, likewise.
        options: the data section.
        drops_bad_rows: whether the user chose to leave bad rows out, so that they are no fault.
    """
    faults = list(_comma_faults({"items": items, "interactions": clicks}, options))
    faults += _id_faults(items, clicks, options, drops_bad_rows=drops_bad_rows)
    faults += _time_faults(clicks, options, drops_bad_rows=drops_bad_rows)
    faults += _event_faults(clicks, options)
    for fault in faults:
        options = with_fields(options, fault.fields)
    return options, faults


def _comma_faults(frames: Mapping[str, pd.DataFrame], options: DataOptions) -> Iterator[RowFault]:
    for table, frame in frames.items():
        files = TableFiles(table, options)
        if not files.separated or csv_option(options.csv, table, "decimal") is not None:
            continue
        names = [str(name) for name in frame if name not in ("item_id", "user_id") and not is_called(name, "title")]
        found = [name for name in names if _has_commas(frame[name])]
        if found:
            cells = frame[found[0]]
            has_comma = cells.str.contains(",", regex=False, na=False)
            row = int(has_comma.to_numpy().argmax())
            count = int(sum(frame[name].str.contains(",", regex=False, na=False).sum() for name in found))
            message = (
                f"{count:,} numbers of {table}.{', '.join(found)} have a decimal comma, like "
                f"{plain_value(cells, row)!r}, and are read as text"
            )
            fields = _csv_fields(files, "decimal", ",")
            yield RowFault(message, count, files.place(row), fields, severity="warning")


def _has_commas(values: pd.Series) -> bool:
    """Return whether a column holds numbers alone, some with a decimal comma."""
    known = values.dropna()
    if known.empty or not all(isinstance(value, str) for value in known):
        return False
    return bool(known.str.fullmatch(COMMA_NUMBER).all() and known.str.contains(",", regex=False).any())


def _id_faults(
    items: pd.DataFrame, clicks: pd.DataFrame, options: DataOptions, *, drops_bad_rows: bool
) -> Iterator[RowFault]:
    frames = {"items": items, "interactions": clicks}
    if not drops_bad_rows:
        for table, frame in frames.items():
            missing = is_missing(frame["item_id"])
            if missing.any():
                count = int(missing.sum())
                message = f"{count:,} of {plural(len(frame), 'row')} of {table} without an item_id"
                place = TableFiles(table, options).place(int(missing.argmax()))
                yield RowFault(message, count, place, {"data.on_bad_row": "drop"})
    present = items.loc[~is_missing(items["item_id"])]
    ids = clean_ids(present, "items", "item_id")
    repeated = ids.duplicated()
    if repeated.any() and options.on_duplicate_item == "error":
        row = int(repeated.index[repeated][0])
        message = (
            f"{plural(int(repeated.sum()), 'row')} of items with the item_id of another one, like {ids.loc[row]!r}"
        )
        place = TableFiles("items", options).place(row)
        first = {"data.on_duplicate_item": "first"}
        yield RowFault(message, int(repeated.sum()), place, first, "or last, if later rows are newer")
    guests = is_missing(clicks["user_id"])
    if guests.any() and options.on_missing_user == "error":
        message = f"{int(guests.sum()):,} of {plural(len(clicks), 'click')} without a user"
        place = TableFiles("interactions", options).place(int(guests.argmax()))
        sessions = session_columns(clicks)
        fields: dict[str, Any] = {"data.on_missing_user": "drop"}
        note = "or --data.on_missing_user session --data.session_gap 30, where the log is of one visitor at a time"
        if sessions:
            fields = {"data.on_missing_user": "session", "data.session_column": sessions[0]}
            note = "or --data.on_missing_user drop"
        yield RowFault(message, int(guests.sum()), place, fields, note)


def _event_faults(clicks: pd.DataFrame, options: DataOptions) -> Iterator[RowFault]:
    if options.event_column is None or options.event_column not in clicks or options.on_unknown_event == "ignore":
        return
    types = event_types(clicks, options.event_column)
    unknown = ~types.isin(options.event_weights) if options.event_weights else types == ""
    if unknown.any() and not unknown.all():
        names = ", ".join(repr(name) for name in types[unknown].unique()[:SHOWN_TYPES])
        count = int(unknown.sum())
        message = f"{count:,} of {plural(len(clicks), 'click')} of types that data.event_weights does not name: {names}"
        place = TableFiles("interactions", options).place(int(unknown.to_numpy().argmax()))
        yield RowFault(message, count, place, {"data.on_unknown_event": "ignore"}, "or give them a weight")


def _time_faults(clicks: pd.DataFrame, options: DataOptions, *, drops_bad_rows: bool) -> Iterator[RowFault]:
    if "timestamp" not in clicks:
        return
    files = TableFiles("interactions", options)
    given = csv_option(options.csv, "interactions", "date_format")
    values = clicks["timestamp"]
    found = guess_date_format(values) if given is None else None
    if found is not None:
        unread = ~readable_times(clicks) if found.text.startswith("%") else values.notna().to_numpy()
        row = int(unread.argmax())
        message = f"{plural(int(unread.sum()), 'time')} written like {plain_value(values, row)!r}"
        note = f"or {', '.join(found.others)}, which reads them as well: check the order of day and month"
        fields = {"data.csv": {"date_format": found.text}}
        yield RowFault(message, int(unread.sum()), files.place(row), fields, note if found.others else "")
        given = found.text
    unread = ~readable_times(clicks, given)
    has_position = "position" in clicks and bool(clicks["position"].notna().any()) and options.order != "timestamp"
    missing = values.isna().to_numpy(dtype=bool)
    if missing.any() and not missing.all() and not has_position:
        unread |= missing
    if unread.any() and not drops_bad_rows:
        row = int(unread.argmax())
        message = (
            f"{int(unread.sum()):,} of {plural(len(clicks), 'click')} without a time that can be read, like "
            f"{plain_value(values, row)!r}"
        )
        yield RowFault(message, int(unread.sum()), files.place(row), {"data.on_bad_row": "drop"})
