"""Units of bulk work: one row group of one Parquet file, whose results become one file.

A unit is computed in batches of fixed size from its first row on, so its results do not depend on who computes it or
what is computed besides. Its file appears when it is whole: a unit that is done twice, after a worker was lost, leaves
one file of the same content.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cost_hf.bulk.tasks import BulkTask, Transform
from cost_hf.data.sources import resolve_files
from cost_hf.files import DamagedFileError, atomic_path, readable_load_errors
from cost_hf.row_groups import readable_parquet_errors

logger = logging.getLogger(__name__)

ROWS_PER_GROUP = 65_536  # of the files that are written
ROWS = b"cost_hf_rows"
MISSING = b"cost_hf_rows_without_result"


@dataclass(frozen=True)
class Unit:
    """A row group.

    Attributes:
        path: of the file.
        row_group: its number in the file.
        rows: in it.
        target: name of the file of its results.
    """

    path: str
    row_group: int
    rows: int
    target: str


@dataclass(frozen=True)
class UnitResult:
    """What has been written of a unit.

    Attributes:
        target: name of the file.
        rows: in it.
        missing: rows whose result is null.
    """

    target: str
    rows: int
    missing: int


def plan_units(pattern: str, task: BulkTask, columns: Mapping[str, str]) -> list[Unit]:
    """Return the units of all files that match a pattern.

    Args:
        pattern: path of a Parquet file, or several of them as in `items-*.parquet`.
        task: whose columns they must have.
        columns: name of ours -> name in the files, where these differ.

    Raises:
        ValueError: for no file or row, files of another kind or of one name, or a missing column.
    """
    stems: dict[str, Path] = {}
    units = []
    for path in resolve_files(pattern, None):
        if path.stem in stems:
            raise ValueError(
                f"{stems[path.stem]} and {path} have the same name, from which those of the results are made; rename "
                "one or work on one folder at a time"
            )
        stems[path.stem] = path
        try:
            found = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no Parquet file ({error}); convert it") from error
        names = _renamed(found.schema_arrow.names, columns)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{path} has two columns {repeated[0]!r} under these names; rename or drop one of them")
        task.check(names)
        for group in range(found.num_row_groups):
            rows = found.metadata.row_group(group).num_rows
            if rows:
                units.append(Unit(str(path.resolve()), group, rows, f"{path.stem}-{group:05d}.parquet"))
    if not units:
        raise ValueError(f"the files that match {pattern!r} hold no rows")
    return units


def run_unit(
    unit: Unit, transform: Transform, folder: str | Path, *, columns: Mapping[str, str], batch_size: int
) -> UnitResult:
    """Write the results of a unit, unless its file is there already and undamaged.

    Args:
        unit: to compute.
        transform: of a task.
        folder: of the results.
        columns: as for `plan_units`.
        batch_size: rows that the transform gets at once.
    """
    target = Path(folder) / unit.target
    if target.exists():
        try:
            return read_result(target)
        except DamagedFileError as error:
            logger.warning("%s; it is computed again", error)
    with atomic_path(target) as temporary:
        missing = _write(temporary, unit, transform, columns=columns, batch_size=batch_size)
    return UnitResult(unit.target, unit.rows, missing)


def read_result(path: Path) -> UnitResult:
    """Read a file of results to its end and return what it says of itself.

    Raises:
        OSError: where it can't be opened.
        DamagedFileError: where it is no whole file of results, or a page differs from its checksum.
    """
    with (
        readable_load_errors(path.name, path.parent),
        readable_parquet_errors(path),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        rows = sum(batch.num_rows for batch in file.iter_batches())
        said = file.metadata.metadata
        result = UnitResult(path.name, int(said[ROWS]), int(said[MISSING]))
        if result.rows != rows:
            raise DamagedFileError(f"{path} has {rows} rows, expected {result.rows}, as it says itself")
        return result


def _write(path: Path, unit: Unit, transform: Transform, *, columns: Mapping[str, str], batch_size: int) -> int:
    """Read, compute and write batch by batch; memory holds some row groups of results at most.

    Returns:
        Rows without a result.
    """
    results = _results(unit, transform, columns=columns, batch_size=batch_size)
    waiting = [next(results)]
    missing = 0
    with pq.ParquetWriter(path, waiting[0].schema, write_page_checksum=True) as writer:
        for result in results:
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                missing += _write_group(writer, waiting)
                waiting = []
            waiting.append(result)
        missing += _write_group(writer, waiting)
        writer.add_key_value_metadata({ROWS: str(unit.rows).encode(), MISSING: str(missing).encode()})
    return missing


def _results(unit: Unit, transform: Transform, *, columns: Mapping[str, str], batch_size: int) -> Iterator[pa.Table]:
    """Yield the results of a unit batch by batch; there is at least one."""
    source = pq.ParquetFile(unit.path)
    for batch in source.iter_batches(batch_size=batch_size, row_groups=[unit.row_group]):
        rows = pa.Table.from_batches([batch])
        yield transform(rows.rename_columns(_renamed(rows.column_names, columns)))


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> int:
    """Write results as a row group; return how many of them are null, which their last column says."""
    group = pa.concat_tables(tables)
    writer.write_table(group)
    return int(group.column(group.num_columns - 1).null_count)


def _renamed(names: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return our names of the columns of a file."""
    ours = {theirs: own for own, theirs in columns.items()}
    return [ours.get(name, name) for name in names]
