"""A catalog on disk: `<stem>.safetensors` (codes, removed flags, one JSON header) and `<stem>.parquet` (ids, titles).

Saving the same catalog twice gives the same bytes: the header is a single JSON string, because safetensors writes
several metadata entries in an order that changes from process to process.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    check_fields,
    content_digest,
    read_tensor_metadata,
    read_tensors,
)
from cost_hf.row_groups import readable_parquet_errors, row_groups, write_row_groups
from cost_hf.semantic_ids.catalog_tables import read_table, write_table
from cost_hf.semantic_ids.item_ids import item_id_list
from cost_hf.semantic_ids.vocabulary import level_name, parse_sids

FORMAT = "cost_hf.catalog.1"
# names in tables for others
TEXT = "text"
PREFIX = "column_"
HEADER = {
    "level_sizes": list[int],
    "model_levels": int,
    "policy": str,
    "quantizer_digest": str,
    "text_digest": str | None,
    "moved": int,
    "has_parallel_levels": bool,  # only in files of catalogs where it is true
    "ids_digest": str,
}


def write_catalog(
    directory: str | Path,
    stem: str,
    *,
    item_ids: Sequence[str],
    titles: Sequence[str | None] | None,
    codes: np.ndarray,
    removed: np.ndarray,
    vectors: np.ndarray | None,
    header: dict[str, Any],
) -> None:
    """Write both files atomically; the parquet first, so that a reader that finds the tensors finds the ids."""
    columns = {"item_id": pa.array(list(item_ids), pa.string())}
    if titles is not None:
        columns["title"] = pa.array(list(titles), pa.string())
    with atomic_path(Path(directory) / f"{stem}.parquet", durable=True) as path:
        write_table(path, columns)
    narrow = np.int16 if max(header["level_sizes"]) <= 1 << 15 else np.int32
    tensors = {"codes": np.ascontiguousarray(codes, dtype=narrow), "removed": removed.astype(np.uint8)}
    if vectors is not None:
        tensors["vectors"] = np.ascontiguousarray(vectors, dtype=np.float32)
    metadata = {**header, "format": FORMAT, "ids_digest": content_digest(list(item_ids))}
    if not header["has_parallel_levels"]:
        del metadata["has_parallel_levels"]
    with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
        save_file(tensors, path, metadata={"catalog": json.dumps(metadata, sort_keys=True)})


def read_catalog(directory: str | Path, stem: str) -> dict[str, Any]:
    """Read both files into the fields of a catalog.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that is not a catalog, or two files that do not belong together.
    """
    paths = [Path(directory) / f"{stem}.{kind}" for kind in ("safetensors", "parquet")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"a catalog is {paths[0].name} and {paths[1].name}; {path} does not exist")
    header = _read_header(paths[0])
    tensors = read_tensors(paths[0])
    if set(tensors) - {"vectors"} != {"codes", "removed"}:
        raise DamagedFileError(
            f"{paths[0]} holds {sorted(tensors)}, expected codes, removed and, in some catalogs, vectors; copy it again"
        )
    item_ids, titles = read_item_columns(paths[1], rows=len(np.atleast_1d(tensors["codes"])))
    found = content_digest(list(item_ids))
    if found != header.pop("ids_digest"):
        raise ValueError(
            f"{paths[0]} and {paths[1]} belong to different catalogs (ids digest {found}); save both again"
        )
    header["level_sizes"] = tuple(header["level_sizes"])
    removed = removed_flags(tensors["removed"], rows=len(item_ids), source=paths[0])
    vectors = item_vectors(tensors.get("vectors"), rows=len(item_ids), source=paths[0])
    return {
        **header,
        "item_ids": item_ids,
        "titles": titles,
        "codes": tensors["codes"],
        "removed": removed,
        "vectors": vectors,
    }


def _read_header(path: Path) -> dict[str, Any]:
    text = read_tensor_metadata(path).get("catalog", "{}")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: its header is not valid JSON ({error}); copy it again") from error
    found = header.pop("format", None) if isinstance(header, dict) else None
    if found is None:
        raise ValueError(f"{path} has no {FORMAT!r} header; write it with Catalog.save")
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found!r:.80}, this version reads {FORMAT!r}; use the cost_hf release that wrote it"
        )
    header = {"has_parallel_levels": False} | header
    check_fields(header, HEADER, source=path)
    if set(header) != set(HEADER):
        raise DamagedFileError(f"{path}: its header has {sorted(header)}, expected {sorted(HEADER)}; copy it again")
    return header


def read_item_columns(path: str | Path, *, rows: int) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
    """Read the columns `item_id` and, where there is one, `title` of a catalog's parquet file.

    Args:
        rows: number of items of the catalog.

    Raises:
        OSError: for a file that can't be opened.
        DamagedFileError: for a file that is not parquet, damaged, or has other columns or another number of rows.
    """
    with readable_parquet_errors(path):
        table = read_table(path, rows=rows)
        columns = {name: table[name].to_pylist() for name in table.column_names}
    wrong = {table[name].type for name in columns} - {pa.string(), pa.large_string()}
    if set(columns) not in ({"item_id"}, {"item_id", "title"}) or wrong or None in columns["item_id"]:
        names = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        raise DamagedFileError(
            f"{path} holds the columns {names}, expected item_id and title as text, with an id in every "
            "row; copy it again"
        )
    return tuple(columns["item_id"]), tuple(columns["title"]) if "title" in columns else None


def removed_flags(flags: np.ndarray, *, rows: int, source: str | Path) -> np.ndarray:
    """Return removed flags as bool `[N]`; raise `DamagedFileError` unless they are one 0 or 1 per row."""
    if flags.shape != (rows,) or flags.dtype != np.uint8 or flags.max(initial=0) > 1:
        found = int(flags.max(initial=0)) if flags.dtype == np.uint8 else flags.dtype
        raise DamagedFileError(
            f"{source} holds removed flags {flags.shape} up to {found}, expected {rows} of 0 or 1 (uint8); copy it "
            "again"
        )
    return flags.astype(bool)


def item_vectors(vectors: np.ndarray | None, *, rows: int, source: str | Path) -> np.ndarray | None:
    """Return item vectors as they were read; raise `DamagedFileError` unless they are finite float32 `[rows, E]`."""
    if vectors is not None and (
        vectors.ndim != 2 or len(vectors) != rows or vectors.dtype != np.float32 or not np.isfinite(vectors).all()
    ):
        raise DamagedFileError(
            f"{source} holds vectors {vectors.dtype} {vectors.shape}, expected finite float32 [{rows}, E]; copy it "
            "again"
        )
    return vectors


def write_items_table(path: str | Path, catalog: Any, *, has_codes: bool = True) -> None:
    """Write ids, titles and columns of the items that are not removed, atomically; SIDs, too, where there are any.

    A column of the catalog with a name of the table, or `text`, as published tables name what vectors are made from,
    begins with `column_`.

    Args:
        path: of the parquet file.
        catalog: of the items.
        has_codes: whether the table has `sid` and `code_1` … `code_L`.
    """
    rows = np.flatnonzero(~catalog.removed)
    write_row_groups(path, (_items_table(catalog, rows[group], has_codes=has_codes) for group in row_groups(len(rows))))


def _items_table(catalog: Any, rows: np.ndarray, *, has_codes: bool) -> pa.Table:
    """Return some rows of a table of items."""
    table = {"item_id": pa.array([catalog.item_ids[row] for row in rows], pa.string())}
    if catalog.titles is not None:
        table["title"] = pa.array([catalog.titles[row] for row in rows], pa.string())
    if has_codes:
        codes = catalog.codes[rows]
        table["sid"] = _sid_column(codes)
        table |= {f"code_{level + 1}": pa.array(codes[:, level], pa.int64()) for level in range(codes.shape[1])}
    for name, array in catalog.columns.taken(rows).arrays.items():
        while name in (*table, TEXT):
            name = f"{PREFIX}{name}"
        table[name] = array
    return pa.table(table)


def _sid_column(codes: np.ndarray) -> pa.Array:
    """Return SIDs `[n, L]` as lists of token texts; no text is made twice."""
    tokens: list[str] = []
    places = np.empty(codes.shape, dtype=np.int64)
    for level in range(codes.shape[1]):
        used, number = np.unique(codes[:, level], return_inverse=True)
        places[:, level] = len(tokens) + number
        tokens += [f"<s_{level_name(level)}_{code}>" for code in used.tolist()]
    texts = pa.array(tokens, pa.string()).take(pa.array(places.ravel()))
    ends = np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), texts)


def read_reference(source: str | Path | pd.DataFrame, item_ids: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
    """Return ids and codes `[N, L]` of published identifiers, in the order of `item_ids`, by default of the file.

    Raises:
        ValueError: for missing columns, repeated ids, items without identifier, or malformed tokens.
    """
    frame = source if isinstance(source, pd.DataFrame) else _read_frame(source)
    missing = {"item_id", "sid"} - set(frame.columns)
    if missing:
        raise ValueError(f"published identifiers need the columns item_id and sid, got {list(frame.columns)}")
    names = item_id_list(frame["item_id"], name="item_id")
    known = {item: row for row, item in enumerate(names)}
    if len(known) != len(frame):
        repeated = next(item for row, item in enumerate(names) if known[item] != row)
        raise ValueError(f"item id {repeated!r} has several identifiers; keep one row per item")
    ids = list(known) if item_ids is None else list(item_ids)
    if not ids:
        raise ValueError("expected at least one item with an identifier, got none; check the file and item_ids")
    absent = [item for item in ids if item not in known]
    if absent:
        raise ValueError(f"{len(absent)} of {len(ids)} items have no identifier, first {absent[0]!r}; drop them first")
    sids = [_tokens_of(sid, row) for row, sid in enumerate(frame["sid"].tolist())]
    return ids, parse_sids([sids[known[item]] for item in ids])


def _read_frame(path: str | Path) -> pd.DataFrame:
    with readable_parquet_errors(path):
        return pq.read_table(path, partitioning=None).to_pandas()


def _tokens_of(sid: Any, row: int) -> list[str]:
    if not isinstance(sid, list | tuple | np.ndarray) or not all(isinstance(token, str) for token in sid):
        raise ValueError(f"row {row}: expected an identifier as a list of tokens like <a_17>, got {sid!r:.80}")
    return list(sid)
