"""Sources: DataFrames, data sets, files, patterns of files, directories, Hub ids and raw files of published data sets.

Reading is separate from checking, so that every source passes the same checks (`read_tables`). Ids are read as text:
a csv that contains "007" keeps its zeros, and strings like "NA" or "null" stay strings, because titles are called that.
A reader of a published data set (amazon, mind, movielens) turns raw files into two frames and counts.
"""

import glob
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from cost_hf.data import text_files
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions, csv_option
from cost_hf.data.text_files import BadRow, TextFormat
from cost_hf.files import readable_os_errors

Source: TypeAlias = Any
"""A DataFrame, a `datasets.Dataset` or `DatasetDict`, or the path of a file that ends as one of `SUFFIXES`, or a
pattern of such paths, like `orders-*.parquet`."""

KINDS = text_files.KINDS
SUFFIXES = (".parquet", ".xlsx", *KINDS, *(kind + ending for kind in KINDS for ending in text_files.COMPRESSED), ".zip")
OURS = ("item_id", "user_id", "position", "timestamp")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_frames(
    options: DataOptions, *, items: Source, interactions: Source, counts: dict[str, int] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read catalog and click log and rename their columns to ours.

    Args:
        options: the data section; its paths are used where no source is passed.
        items: source of the catalog, or None.
        interactions: source of the click log, or None.
        counts: gets the number of rows that were left out by `data.on_bad_row: drop`.

    Raises:
        DataError: for a source that can't be read, or a column mapping that does not fit.
    """
    counts = {} if counts is None else counts
    catalog = _load(options.items if items is None else items, "items", options, counts)
    clicks = _load(options.interactions if interactions is None else interactions, "interactions", options, counts)
    for ours, theirs in options.columns.items():
        if "." not in ours and theirs not in catalog.columns and theirs not in clicks.columns:
            raise DataError(
                f"data.columns.{ours} names {theirs!r}, which neither items {list(map(str, catalog.columns))} nor "
                f"interactions {list(map(str, clicks.columns))} has; correct the name"
            )
    return _rename(catalog, "items", options.columns), _rename(clicks, "interactions", options.columns)


def load_catalog(source: Source, options: DataOptions) -> pd.DataFrame:
    """Read items alone and rename their columns to ours."""
    return _rename(_load(source, "items", options, {}), "items", options.columns)


def load_interactions(source: Source, options: DataOptions) -> pd.DataFrame:
    """Read a click log alone and rename its columns to ours."""
    return _rename(_load(source, "interactions", options, {}), "interactions", options.columns)


def _load(source: Source, table: str, options: DataOptions, counts: dict[str, int]) -> pd.DataFrame:
    if source is None and options.path is None:
        raise DataError(
            f"no source for {table}: expected data.path (a directory or Hub data set) or data.{table} (a file), got "
            f"neither; set one of them or pass {table}= to cost_hf.train"
        )
    if source is None or isinstance(source, (str, Path)):
        files = table_files(table, options, source)
        frame = _read_files(files, table, options, counts) if files else _read_hub(str(options.path), table)
    else:
        frame = _to_frame(source, table)
    return _plain_frame(frame, table, options.columns)


def table_files(table: str, options: DataOptions, source: str | Path | None = None) -> list[Path]:
    """Return the files of a table; none for a data set of the Hub.

    Args:
        table: `items` or `interactions`.
        options: the data section.
        source: path or pattern; by default the files in `data.path`.
    """
    if source is not None:
        return resolve_files(str(source), options.path)
    return _files_in_directory(str(options.path), table)


def _plain_frame(frame: pd.DataFrame, table: str, columns: dict[str, str]) -> pd.DataFrame:
    """Return the frame with rows numbered from 0 and unique column names of type str.

    An index level named like a required column becomes that column.
    """
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{table} has column names of {frame.columns.nlevels} levels, like {frame.columns[0]!r}, expected one "
            "string each; join the levels: frame.columns = frame.columns.map('_'.join)"
        )
    frame = frame.set_axis(frame.columns.map(str), axis=1)
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise DataError(
            f"{table} has more than one column {repeated[0]!r} among {list(frame.columns)}, expected each name once; "
            "rename or drop one of them"
        )
    wanted = {*OURS, *columns.values()} - set(frame.columns)
    levels = [name for name in frame.index.names if name in wanted]
    frame = frame.reset_index(level=levels).reset_index(drop=True)
    for name, values in frame.items():
        if isinstance(values.dtype, pd.SparseDtype):
            frame[name] = np.asarray(values)
        elif values.dtype == object or isinstance(values.dtype, pd.CategoricalDtype):
            _check_characters(values, table)
    return frame


def _check_characters(values: pd.Series, table: str) -> None:
    """Raise `DataError` for the first cell with a lone surrogate."""
    for row, value in enumerate(values):
        if isinstance(value, str) and value.isascii():
            continue
        if isinstance(value, (str, list, tuple, dict)):
            text_files.check_whole_characters(value, f"{table}.{values.name}, row {row}")


def _to_frame(source: Source, table: str) -> pd.DataFrame:
    """Return a copy of a frame or data set; the parts of a DatasetDict are concatenated, with their name in `split`."""
    if isinstance(source, pd.DataFrame):
        return source.copy()
    if isinstance(source, dict) and source:
        parts = {name: _to_frame(part, table) for name, part in source.items()}
        named = [
            part if len(parts) == 1 or "split" in part else part.assign(split=str(name)) for name, part in parts.items()
        ]
        return pd.concat(named, ignore_index=True)
    frame = source.to_pandas() if hasattr(source, "to_pandas") else None
    if not isinstance(frame, pd.DataFrame):
        shown = " ".join(repr(source).split())
        raise DataError(
            f"cannot read {table} from {type(source).__name__} {shown:.80}: expected a DataFrame, a datasets.Dataset "
            f"or the path of a file ({', '.join(SUFFIXES)}); convert it to one of these, as with pandas.DataFrame(rows)"
        )
    return frame


def resolve_file(path: Path, directory: str | None) -> Path:
    """Return the path of a file, in the data directory or else in the working directory."""
    beside = Path(directory) / path if directory is not None else path
    if beside.is_file():
        return beside
    if path.is_file():
        return path
    raise DataError(
        f"no file {str(path)!r}" + (f" in {directory!r} or here" if directory else "") + "; correct the path"
    )


def resolve_files(path: str, directory: str | None) -> list[Path]:
    """Return the file of this path or those that it matches as a pattern, like `orders-*.parquet`, sorted."""
    whole = Path(path)
    folders = [Path()] if directory is None else [Path(directory), Path()]
    if glob.has_magic(path) and not any((folder / whole).is_file() for folder in folders):
        pattern = str(whole.relative_to(whole.anchor))
        for folder in [Path(whole.anchor)] if whole.is_absolute() else folders:
            found = sorted(name for name in folder.glob(pattern) if name.is_file())
            if found:
                return found
    return [resolve_file(whole, directory)]


def table_names(table: str) -> list[str]:
    """Return the possible file names of a table in a directory."""
    return [table + suffix for suffix in SUFFIXES]


def _files_in_directory(directory: str, table: str) -> list[Path]:
    """Return the file of a table in `data.path`; none if that is a data set of the Hub or a clone of one."""
    if Path(directory).is_dir():
        found = [path for name in table_names(table) if (path := Path(directory) / name).is_file()]
        if len(found) > 1:
            raise DataError(
                f"{directory!r} contains {[path.name for path in found]}, expected one of them; "
                f"name the right one with data.{table}"
            )
        if not found and not (Path(directory) / "README.md").is_file():
            raise DataError(
                f"{directory!r} has no {table} file: expected one of {table_names(table)}; "
                f"rename the file, name it with data.{table}, or let `cost-hf check` find it"
            )
        return found
    if HUB_ID.fullmatch(directory) is None:
        raise DataError(f"data.path {directory!r} is neither a directory nor a Hub id (owner/name); correct it")
    return []


def _read_hub(name: str, table: str) -> pd.DataFrame:
    import datasets  # slow to import and needed by this source alone

    try:
        return _to_frame(datasets.load_dataset(name, table), table)
    except (OSError, ValueError) as error:  # not found, no such config, offline (ConnectionError is an OSError)
        raise DataError(
            f"cannot read config {table!r} of data set {name!r} ({type(error).__name__}: {error}); expected a local "
            "directory or a Hub data set with the configs items and interactions; check the name and the network"
        ) from error


def text_format(table: str, options: DataOptions) -> TextFormat:
    """Return how a table is written as text, by `data.csv`."""
    given = {name: csv_option(options.csv, table, name) for name in ("sep", "encoding", "decimal")}
    return TextFormat(**{name: value for name, value in given.items() if value is not None})


def _read_files(paths: Sequence[Path], table: str, options: DataOptions, counts: dict[str, int]) -> pd.DataFrame:
    """Read one table from its files, one after the other; a column of texts gets one type in all of them."""
    kinds = sorted({_kind(path) for path in paths})
    if len(kinds) > 1:
        raise DataError(
            f"the files of {table} are of the kinds {', '.join(kinds)}, expected one; convert them, or name those of "
            f"one kind with data.{table}"
        )
    form = text_format(table, options)
    bad_rows: list[BadRow] | None = [] if options.on_bad_row == "drop" else None
    frames = [_read_file(path, kinds[0], table, form, bad_rows) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise DataError(
                f"{path.name} has the columns {list(map(str, frame.columns))}, expected those of {paths[0].name}, "
                f"{list(map(str, frames[0].columns))}; rename them, or name files of one form with data.{table}"
            )
    if bad_rows:
        counts[f"dropped_unreadable_rows_of_{table}"] = len(bad_rows)
    whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    if kinds[0] not in text_files.SEPARATED:
        return whole
    session = [] if options.session_column is None else [options.session_column]
    return text_files.typed_columns(
        whole,
        source=paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""),
        ids=[*_names(options.columns, "item_id", "user_id"), *session],
        texts=_names(options.columns, "title"),
        times=_names(options.columns, "timestamp"),
        decimal=form.decimal,
    )


def _kind(path: Path) -> str:
    """Return how a file ends, without its compression; for an archive, how the table in it ends."""
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"cannot read {path.name!r}: expected a file ending in {', '.join(SUFFIXES)}; convert it")
    return text_files.kind_of(path) or path.suffix.lower()


def _read_file(path: Path, kind: str, table: str, form: TextFormat, bad_rows: list[BadRow] | None) -> pd.DataFrame:
    if kind == ".parquet":
        return _read_parquet(path)
    if kind == ".xlsx":
        return _read_excel(path, table)
    if kind == ".jsonl":
        frame = text_files.read_jsonl(path, encoding=form.encoding, bad_rows=bad_rows)
    else:
        frame = text_files.read_cells(path, separator=form.separator(kind), form=form, bad_rows=bad_rows)
    if frame.columns.empty:
        raise DataError(f"{path.name} is empty, expected rows; write the table again")
    return frame


def _read_excel(path: Path, table: str) -> pd.DataFrame:
    """Read the sheet that is called like the table, or the only one."""
    try:
        import_module("openpyxl")  # pandas reads workbooks by it
    except ImportError as error:
        raise DataError(
            f"{path.name} is a workbook, which needs openpyxl: pip install 'cost-hf[excel]', or save the sheet as csv"
        ) from error
    try:
        with readable_os_errors(), pd.ExcelFile(path, engine="openpyxl") as book:
            names = list(map(str, book.sheet_names))
            if table not in names and len(names) > 1:
                raise DataError(
                    f"{path.name} has the sheets {names}, expected one, or one called {table!r}; rename the right one"
                )
            name = table if table in names else names[0]
            # cells as they are: pandas would turn the text 007 into the number 7
            sheet = pd.read_excel(book, sheet_name=name, dtype=object, keep_default_na=False, na_values=[""])
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path.name} is not a valid workbook ({error!s:.200}); save it again as .xlsx or csv"
        ) from error
    sheet = sheet.dropna(how="all").reset_index(drop=True)  # rows that were emptied are still part of a sheet
    return sheet.infer_objects()


def _names(columns: dict[str, str], *ours: str) -> list[str]:
    """Return the possible names of our columns in a source, sorted."""
    return sorted({*ours, *(theirs for name, theirs in columns.items() if name.rpartition(".")[2] in ours)})


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        with readable_os_errors():
            names = pyarrow.parquet.read_schema(path).names
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise DataError(
                    f"{path.name} has more than one column {repeated[0]!r} among {names}, expected each name once; "
                    "rename or drop one of them where the file is written"
                )
            return pd.read_parquet(path)
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file can't be opened
            raise
        raise DataError(
            f"{path.name} is not a valid parquet file ({type(error).__name__}: {error!s:.200}); download it again or "
            "rewrite it"
        ) from error


def _rename(frame: pd.DataFrame, table: str, columns: dict[str, str]) -> pd.DataFrame:
    """Rename mapped columns; a plain mapping may apply to either table, a prefixed one must match its own."""
    wanted: dict[str, str] = {}
    for ours, theirs in columns.items():
        prefix, _, name = ours.rpartition(".")
        if prefix not in ("", "items", "interactions"):
            raise DataError(f"data.columns names {ours!r}: expected a column, items.<column> or interactions.<column>")
        if prefix == table and theirs not in frame.columns:
            raise DataError(
                f"{table} has no column {theirs!r} (data.columns.{ours}), only {list(frame.columns)}; correct the name"
            )
        is_general = prefix == "" and f"{table}.{name}" not in columns
        if theirs in frame.columns and (prefix == table or is_general):
            if wanted.get(theirs, name) != name:
                raise DataError(
                    f"data.columns maps both {wanted[theirs]!r} and {name!r} to {theirs!r} of {table}, expected one of "
                    "them; remove the other, or repeat the column in the source under its own name"
                )
            wanted[theirs] = name
    for theirs, name in wanted.items():
        if name != theirs and name in frame.columns and name not in wanted:
            raise DataError(
                f"{table} has both {name!r} and {theirs!r}, which data.columns maps to {name!r}; "
                f"remove one of them or map {name!r} to another name"
            )
    return frame.rename(columns=wanted)


@dataclass(frozen=True, eq=False)
class RawTables:
    """Both tables as a reader returns them, unchecked, and counts of what it found and dropped, by name."""

    items: pd.DataFrame
    interactions: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Summarise the size of the tables."""
        return f"RawTables({len(self.items)} items, {len(self.interactions)} clicks)"


def data_directory(options: DataOptions, *, expected: str) -> Path:
    """Return `data.path` as a directory; `expected` names its files in errors."""
    if options.path is None:
        raise DataError(
            f"data.reader {options.reader} needs data.path, got none; set it to the directory with {expected}"
        )
    directory = Path(options.path)
    if not directory.is_dir():
        raise DataError(
            f"data.path {options.path!r} is not a directory; data.reader {options.reader} expects one with {expected}: "
            "correct the path, or unpack the files there"
        )
    return directory


def refuse_file_options(options: DataOptions) -> None:
    """Raise `DataError` for data.items or data.interactions with a reader that knows its file names."""
    for name in ("items", "interactions"):
        if (value := getattr(options, name)) is not None:
            raise DataError(
                f"data.reader {options.reader} finds its files in data.path by their published names, got "
                f"data.{name}={value!r}; remove that option, or set data.reader: tables for files of your own"
            )


def find_file(directory: Path, name: str) -> Path | None:
    """Return the file of that name, plain or with `.gz` appended; None where neither exists."""
    found = [path for path in (directory / name, directory / f"{name}.gz") if path.is_file()]
    if len(found) > 1:
        raise DataError(
            f"{str(directory)!r} contains {[path.name for path in found]}, expected one of them; move the other away"
        )
    return found[0] if found else None


def names_in(directory: Path) -> list[str]:
    """Return the first names in a directory, for messages."""
    return sorted(path.name for path in directory.iterdir())[:10]


def malformed(path: Path, number: int, expected: str, got: object) -> DataError:
    """Return the error for a line that does not have the published format."""
    return DataError(
        f"{path.name}, line {number}: expected {expected}, got {got!r:.120}; "
        "download the file again or correct the line"
    )
