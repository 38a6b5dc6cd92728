"""Parquet files written row group by row group, so that a table need not be in memory as a whole."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cost_hf.files import DamagedFileError, atomic_path, first_line, readable_os_errors

ROW_GROUP = 2**20  # rows, as pyarrow groups those of a table that it is given whole


def row_groups(num_rows: int) -> Iterator[slice]:
    """Yield the rows of every group of a table; a table without rows has one group without any."""
    for start in range(0, max(num_rows, 1), ROW_GROUP):
        yield slice(start, min(start + ROW_GROUP, num_rows))


def write_row_groups(path: str | Path, tables: Iterable[pa.Table]) -> None:
    """Write a file atomically, with one row group for every table; their bytes are those of the tables written as one.

    Args:
        path: of the file.
        tables: at least one, of one schema, each made when it is written; all but the last have `ROW_GROUP` rows.
    """
    waiting = iter(tables)
    first = next(waiting)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, first.schema) as writer:
        for table in chain([first], waiting):
            writer.write_table(table)


@contextmanager
def readable_parquet_errors(path: str | Path) -> Iterator[None]:
    """Raise OSError for a parquet file that can't be opened, and `DamagedFileError` for one that can't be read."""
    with readable_os_errors(), Path(path).open("rb"):
        pass  # raises the error of the operating system, if any
    try:
        yield
    except DamagedFileError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DamagedFileError(f"{path} is not a valid parquet file ({first_line(error)}); copy it again") from error
