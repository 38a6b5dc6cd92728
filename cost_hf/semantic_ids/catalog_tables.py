"""Parquet files of a catalog, read and written within a memory that its number of items bounds.

Encodings and compression let a file of two kilobytes hold one title of 50 MB for every item. Texts are therefore read
as the file holds them, each once, and written out for every item only where their sum is bounded.
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
BATCH_ROWS = 1024  # decoded at once: a page of a file may have any size


def write_table(path: str | Path, columns: Mapping[str, pa.Array]) -> None:
    """Write columns of the items of a catalog.

    Raises:
        ValueError: for more bytes than `read_table` reads.
    """
    table = pa.table(columns)
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
        DamagedFileError: for another number of rows, or more bytes than so many items may have.
    """
    with pq.ParquetFile(path) as plain:
        schema = plain.schema_arrow
        leaves = [plain.schema.column(number) for number in range(len(plain.schema))]
        if plain.metadata.num_rows != rows:
            raise DamagedFileError(
                f"{path} has {plain.metadata.num_rows} rows, expected {rows}, one an item; copy the directory again"
            )
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        batches = list(_bounded(file.iter_batches(BATCH_ROWS), _most_bytes(rows), path))
    encoded = pa.Table.from_batches(batches) if batches else schema.empty_table()
    return encoded.cast(schema).combine_chunks()


def _bounded(batches: Iterator[pa.RecordBatch], most: int, path: str | Path) -> Iterator[pa.RecordBatch]:
    size = 0
    for batch in batches:
        size += sum(_num_bytes(column) for column in batch.columns)
        if size > most:
            raise DamagedFileError(
                f"{path} has texts of more than {most} bytes, the most that so many items may have; it was not written "
                "by cost_hf: don't use the directory"
            )
        yield batch


def _num_bytes(array: Any) -> int:
    """Return how many bytes an array has when every value is written out."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 * len(array) + _num_bytes(array.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_num_bytes, array.flatten()))
    return array.nbytes


def _most_bytes(rows: int) -> int:
    return BYTES + BYTES_PER_ITEM * rows
