"""Parquet files of a catalog, read and written within a memory that its number of items bounds.

Encodings and compression let a file of two kilobytes hold one title of 50 MB for every item. Texts that a file repeats
by numbers are therefore measured before they are written out for every item.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cost_hf.files import DamagedFileError

BYTES = 64 << 20  # that the cells of any catalog may have together,
BYTES_PER_ITEM = 4096  # and so many more for each of its items
SLICE = 1 << 20  # texts that are measured at once
BATCH_ROWS = 1024  # decoded at once: a page of a file may have any size


def write_table(path: str | Path, columns: Mapping[str, pa.Array]) -> None:
    """Write columns of the items of a catalog.

    Raises:
        ValueError: for more bytes than `read_table` reads, or a name that is also that of a field of an object.
    """
    table = pa.table(columns)
    with pa.BufferOutputStream() as sink:
        pq.write_table(table.slice(0, 0), sink)
        shared = _shared_name(pq.ParquetFile(sink.getvalue()).schema)
    if shared is not None:
        raise ValueError(f"two columns or fields of columns have the name {shared!r}; rename one of them")
    most = _most_bytes(table.num_rows)
    if table.nbytes > most:
        raise ValueError(
            f"titles and columns of {table.num_rows} items have {table.nbytes} bytes, expected at most {most}; shorten "
            "their texts, or leave a column out"
        )
    pq.write_table(table, path)


def read_table(path: str | Path, *, rows: int) -> pa.Table:
    """Read what `write_table` wrote.

    Args:
        rows: number of items of the catalog.

    Raises:
        pa.ArrowException, OSError: for a file that is no parquet.
        DamagedFileError: for another number of rows, more bytes than so many items may have, or a name twice.
    """
    most = _most_bytes(rows)
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows != rows:
            raise DamagedFileError(
                f"{path} has {file.metadata.num_rows} rows, expected {rows}, one an item; copy the directory again"
            )
        shared = _shared_name(file.schema)
        if shared is not None:
            raise DamagedFileError(f"{path} has the column {shared!r} twice, expected it once; copy it again")
        extended = next((field for field in file.schema_arrow if _has_extension(field.type)), None)
        if extended is not None:  # its texts can't be read as a dictionary
            raise DamagedFileError(f"{path} has {extended.name!r} of type {extended.type}, which no catalog keeps")
        if _bytes_of_pages(file.metadata) > most or _bytes_of_repeated_texts(path, file, most) > most:
            raise _too_large(path, most)
        return pa.Table.from_batches(_bounded(file.iter_batches(BATCH_ROWS), path, most), file.schema_arrow)


def _bytes_of_pages(metadata: pq.FileMetaData) -> int:
    """Return the bytes of all pages, uncompressed, as the file says; a text that is repeated may be in them once."""
    # the metadata of a column is not asked: where it is damaged, an exception of C++ ends the process
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _has_extension(kind: pa.DataType) -> bool:
    """Return whether a type is, or holds, one that Arrow does not define itself."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extension, inner))


def _shared_name(schema: pq.ParquetSchema) -> str | None:
    """Return a name by which a reader would find two columns, None where there is none.

    A field of an object has the name `column.field`, and `column` finds all of its fields.
    """
    names = [schema.column(place).path for place in range(len(schema))]
    known = set(names)
    for place, name in enumerate(names):
        parts = name.split(".")
        shorter = {".".join(parts[:end]) for end in range(1, len(parts))} & known
        if shorter or name in names[:place]:
            return min(shorter, default=name)
    return None


def _bytes_of_repeated_texts(path: str | Path, file: pq.ParquetFile, most: int) -> int:
    """Return a bound of the bytes of texts that a file holds by numbers; exact where a rough one is above `most`."""
    size = 0
    for place in range(len(file.schema)):
        column = file.schema.column(place)
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
                size += rows * column.length
            elif column.physical_type == "BYTE_ARRAY":
                size += _bytes_of_texts(path, column, group, rows, most - size)
            if size > most:
                return size
    return size


def _bytes_of_texts(path: str | Path, column: pq.ColumnSchema, group: int, rows: int, most: int) -> int:
    """Return such a bound for one column of one row group."""
    name = [column.path]
    with pq.ParquetFile(path, read_dictionary=name) as file:
        if column.max_repetition_level == 0:  # a row has one text at most
            batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=name)
            # all texts of the dictionary are there with the first value
            bound = rows * next(filter(None, (_longest_text(batch.column(0)) for batch in batches)), 0)
            if bound <= most:
                return bound
        (whole,) = file.read_row_group(group, columns=name).itercolumns()
        return sum(_text_bytes(chunk) for chunk in whole.chunks)


def _bounded(batches: Iterator[pa.RecordBatch], path: str | Path, most: int) -> Iterator[pa.RecordBatch]:
    """Yield batches up to so many bytes, whatever the file says of itself."""
    size = 0
    for batch in batches:
        size += batch.nbytes
        if size > most + batch.num_rows * batch.num_columns:  # every batch rounds up
            raise _too_large(path, most)
        yield batch


def _too_large(path: str | Path, most: int) -> DamagedFileError:
    return DamagedFileError(
        f"{path} has texts of more than {most} bytes, the most that so many items may have; it was not written by "
        "cost_hf: don't use the directory"
    )


def _longest_text(array: Any) -> int:
    """Return the bytes of the longest text of a dictionary, in whatever it is nested."""
    return max((pc.max(pc.binary_length(one.dictionary)).as_py() or 0 for one in _dictionaries(array)), default=0)


def _text_bytes(array: Any) -> int:
    """Return the bytes of all texts of a column, as often as they are repeated."""
    size = 0
    for one in _dictionaries(array):
        lengths = pc.binary_length(one.dictionary)
        for start in range(0, len(one), SLICE):
            size += pc.sum(lengths.take(one.indices.slice(start, SLICE))).as_py() or 0
    return size


def _dictionaries(array: Any) -> Iterator[pa.DictionaryArray]:
    if pa.types.is_dictionary(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _dictionaries(part)
    elif isinstance(array, pa.ListArray | pa.LargeListArray | pa.MapArray | pa.FixedSizeListArray):
        yield from _dictionaries(array.values)


def _most_bytes(rows: int) -> int:
    return BYTES + BYTES_PER_ITEM * rows
