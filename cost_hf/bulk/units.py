"""Units of bulk work: one row group of one Parquet file, whose results become one file.

A unit is computed in batches of fixed size from its first row on, so its results do not depend on who computes it or
what is computed besides. Its file appears when it is whole: a unit that is done twice, after a worker was lost, leaves
one file of the same content.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cost_hf.bulk.tasks import BulkTask, Transform
from cost_hf.data.sources import resolve_files
from cost_hf.files import atomic_path, content_digest, file_digest
from cost_hf.row_groups import readable_parquet_errors

HIDDEN = (".", "_")  # begin names that readers of a folder of Parquet files pass over
ROWS_PER_GROUP = 65_536  # of the files that are written


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
        digest: of the file and this number.
    """

    target: str
    rows: int
    missing: int
    digest: str


def plan_units(pattern: str, task: BulkTask, columns: Mapping[str, str]) -> list[Unit]:
    """Return the units of all files that match a pattern.

    Args:
        pattern: path of a Parquet file, or several of them as in `items-*.parquet`.
        task: whose columns they must have.
        columns: name of ours -> name in the files, where these differ.

    Raises:
        ValueError: for no file or row, files of another kind, of one name or of a hidden one, or a missing column.
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
        if path.name.startswith(HIDDEN):
            raise ValueError(
                f"{path} has a name that readers of a folder pass over, as would be those of its results; rename it or "
                "give a pattern that does not match it"
            )
        with readable_parquet_errors(path):
            found = pq.ParquetFile(path)
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
    """Write the results of a unit, also over a file of them that is there.

    Args:
        unit: to compute.
        transform: of a task.
        folder: of the results.
        columns: as for `plan_units`.
        batch_size: rows that the transform gets at once.
    """
    target = Path(folder) / unit.target
    with atomic_path(target) as temporary:
        missing = _write(temporary, unit, transform, columns=columns, batch_size=batch_size)
        digest = result_digest(temporary, missing)
    return UnitResult(unit.target, unit.rows, missing, digest)


def result_digest(path: Path, missing: int) -> str:
    """Return the digest of a file of results and of how many of them are null."""
    return content_digest(missing, file_digest(path))


def _write(path: Path, unit: Unit, transform: Transform, *, columns: Mapping[str, str], batch_size: int) -> int:
    """Read, compute and write batch by batch; memory holds some row groups of results at most.

    Returns:
        Rows without a result.
    """
    results = _results(unit, transform, columns=columns, batch_size=batch_size)
    waiting = [next(results)]
    missing = 0
    with pq.ParquetWriter(path, waiting[0].schema) as writer:
        for result in results:
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                missing += _write_group(writer, waiting)
                waiting = []
            waiting.append(result)
        missing += _write_group(writer, waiting)
    return missing


def _results(unit: Unit, transform: Transform, *, columns: Mapping[str, str], batch_size: int) -> Iterator[pa.Table]:
    """Yield the results of a unit batch by batch; there is at least one."""
    for batch in _batches(unit, batch_size):
        rows = pa.Table.from_batches([batch])
        yield transform(rows.rename_columns(_renamed(rows.column_names, columns)))


def _batches(unit: Unit, batch_size: int) -> Iterator[pa.RecordBatch]:
    with readable_parquet_errors(unit.path):
        yield from pq.ParquetFile(unit.path).iter_batches(batch_size=batch_size, row_groups=[unit.row_group])


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> int:
    """Write results as a row group; return how many of them are null, which their last column says."""
    group = pa.concat_tables(tables)
    writer.write_table(group)
    return int(group.column(group.num_columns - 1).null_count)


def _renamed(names: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return our names of the columns of a file."""
    ours = {theirs: own for own, theirs in columns.items()}
    return [ours.get(name, name) for name in names]
