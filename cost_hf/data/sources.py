"""Sources: whatever a user has (frames, data sets, files, a directory, a Hub id) turned into a DataFrame.

Reading is kept apart from checking so that every source meets the same checks. Ids are read as text from the start:
a csv that says "007" keeps its zeros, and texts like "NA" or "null" stay texts, because titles are called that.
"""

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from cost_hf.data.options import DataOptions
from cost_hf.data.schema import DataError

Source: TypeAlias = Any
"""A DataFrame, a `datasets.Dataset` or `DatasetDict`, or the path of a parquet, csv, tsv or jsonl file."""

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_frames(options: DataOptions, *, items: Source, interactions: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read catalog and click log and rename their columns to ours.

    Args:
        options: the data section; its paths serve where no source is passed in.
        items: source of the catalog, or None.
        interactions: source of the click log, or None.
    """
    catalog = _load(options.items if items is None else items, "items", options)
    clicks = _load(options.interactions if interactions is None else interactions, "interactions", options)
    for ours, theirs in options.columns.items():
        if "." not in ours and theirs not in catalog.columns and theirs not in clicks.columns:
            raise DataError(
                f"data.columns.{ours} names {theirs!r}, which neither items {list(map(str, catalog.columns))} nor "
                f"interactions {list(map(str, clicks.columns))} has; correct the name"
            )
    return _rename(catalog, "items", options.columns), _rename(clicks, "interactions", options.columns)


def load_catalog(path: str | Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read a file of items and rename its columns to ours."""
    frame = _read_file(resolve_file(Path(path), None), columns)
    return _rename(frame.reset_index(drop=True), "items", columns)


def _load(source: Source, table: str, options: DataOptions) -> pd.DataFrame:
    if source is None and options.path is None:
        raise DataError(
            f"no source for {table}: expected data.path (a directory or Hub data set) or data.{table} (a file), got "
            f"neither; set one of them or pass {table}= to cost_hf.train"
        )
    if source is None:
        frame = _read_directory(str(options.path), table, options.columns)
    elif isinstance(source, (str, Path)):
        frame = _read_file(resolve_file(Path(source), options.path), options.columns)
    else:
        frame = _to_frame(source, table)
    return frame.reset_index(drop=True)


def _to_frame(source: Source, table: str) -> pd.DataFrame:
    """Return a copy of a frame or data set; the parts of a DatasetDict are joined and named in a column `split`."""
    if isinstance(source, pd.DataFrame):
        return source.copy()
    if isinstance(source, dict):
        parts = [_to_frame(part, table).assign(**_part_name(name, part, len(source))) for name, part in source.items()]
        return pd.concat(parts, ignore_index=True)
    if hasattr(source, "to_pandas"):
        return source.to_pandas()
    raise DataError(
        f"cannot read {table} from {type(source).__name__} {source!r:.80}: expected a DataFrame, a datasets.Dataset "
        f"or the path of a file ({', '.join(SUFFIXES)}); convert it to one of these"
    )


def _part_name(name: str, part: Any, num_parts: int) -> dict[str, str]:
    return {"split": name} if num_parts > 1 and "split" not in part.column_names else {}


def resolve_file(path: Path, directory: str | None) -> Path:
    """Look for a file in the data directory first, then in the working directory."""
    beside = Path(directory) / path if directory is not None else path
    if beside.is_file():
        return beside
    if path.is_file():
        return path
    raise DataError(
        f"no file {str(path)!r}" + (f" in {directory!r} or here" if directory else "") + "; correct the path"
    )


def _read_directory(directory: str, table: str, columns: dict[str, str]) -> pd.DataFrame:
    if Path(directory).is_dir():
        found = [path for suffix in SUFFIXES if (path := Path(directory) / f"{table}{suffix}").is_file()]
        if len(found) > 1:
            raise DataError(
                f"{directory!r} holds {[path.name for path in found]}, expected one of them; "
                f"name the right one with data.{table}"
            )
        if found:
            return _read_file(found[0], columns)
        if not (Path(directory) / "README.md").is_file():
            raise DataError(
                f"{directory!r} has no {table} file: expected one of {[table + suffix for suffix in SUFFIXES]}; "
                f"rename the file or name it with data.{table}"
            )
    elif HUB_ID.fullmatch(directory) is None:
        raise DataError(f"data.path {directory!r} is neither a directory nor a Hub id (owner/name); correct it")
    return _read_hub(directory, table)


def _read_hub(name: str, table: str) -> pd.DataFrame:
    import datasets  # slow to import and needed by this source alone

    try:
        return _to_frame(datasets.load_dataset(name, table), table)
    except (OSError, ValueError) as error:  # not found, no such config, offline (ConnectionError is an OSError)
        raise DataError(
            f"cannot read config {table!r} of data set {name!r} ({type(error).__name__}: {error}); expected a local "
            "directory or a Hub data set with the configs items and interactions; check the name and the network"
        ) from error


def _read_file(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    suffix = next((suffix for suffix in path.suffixes if suffix in SUFFIXES), None)
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix in (".csv", ".tsv"):
        ids = {"item_id", "user_id"} | {theirs for ours, theirs in columns.items() if ours.endswith("_id")}
        separator = "," if suffix == ".csv" else "\t"
        return pd.read_csv(path, sep=separator, dtype=dict.fromkeys(ids, str), keep_default_na=False, na_values=[""])
    if suffix == ".jsonl":
        return _read_jsonl(path)
    raise DataError(f"cannot read {path.name!r}: expected a file ending in {', '.join(SUFFIXES)}; convert it")


def _read_jsonl(path: Path) -> pd.DataFrame:
    records = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path.name}, line {number + 1}: expected a JSON object, got {line.strip()!r:.80} ({error}); "
                    "write one object a line"
                ) from error
    return pd.DataFrame(records)


def _rename(frame: pd.DataFrame, table: str, columns: dict[str, str]) -> pd.DataFrame:
    """Give mapped columns our names; a plain mapping may concern either table, a prefixed one must fit its own."""
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
            wanted[theirs] = name
    for theirs, name in wanted.items():
        if name != theirs and name in frame.columns and name not in wanted:
            raise DataError(
                f"{table} has both {name!r} and {theirs!r}, which data.columns maps to {name!r}; "
                f"remove one of them or map {name!r} to another name"
            )
    return frame.rename(columns=wanted)
