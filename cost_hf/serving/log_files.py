"""Files of a request log: written under a name of their own, and renamed when they are whole.

A file in progress ends in `.part`, so no reader of `*.jsonl` or `*.parquet` meets half a file. A process that is killed
leaves it there: lines of jsonl up to the last one can still be read from it, a parquet file without its end can't.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from cost_hf.serving.request_records import options_json

FORMATS = ("jsonl", "parquet")
UNFINISHED = ".part"
ROW_GROUP = 1_000  # records that a parquet file keeps in memory


class LogFile(ABC):
    """One file of a request log that is being written.

    Args:
        path: final name.

    Attributes:
        num_records: written so far.
        is_readable_in_parts: whether an unfinished file can be read.
    """

    is_readable_in_parts: ClassVar[bool]

    def __init__(self, path: Path):
        self.path = path
        self.num_records = 0
        self._unfinished = path.with_name(path.name + UNFINISHED)

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes so far, with those of records in memory."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a record, as `RequestRecord.row` returns it."""
        self._write(row)
        self.num_records += 1

    @abstractmethod
    def flush(self) -> None:
        """Give what was written to the operating system, where the format can be read in parts."""

    def finish(self) -> None:
        """Bring the file to the disk and give it its final name."""
        self._close()
        with self._unfinished.open("rb") as written:
            os.fsync(written.fileno())
        self._unfinished.replace(self.path)

    def abandon(self) -> None:
        """Stop after an error; raises nothing. What can still be read stays under the unfinished name."""
        with suppress(Exception):
            self._close()
        with suppress(OSError):
            if not self.is_readable_in_parts or self._unfinished.stat().st_size == 0:
                self._unfinished.unlink()

    @abstractmethod
    def _write(self, row: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


class JsonlLogFile(LogFile):
    """A line of JSON for every record."""

    is_readable_in_parts = True

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = self._unfinished.open("xb")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def flush(self) -> None:
        """Give the lines to the operating system."""
        self._file.flush()

    def _write(self, row: Mapping[str, Any]) -> None:
        time = row["time"].isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = json.dumps({**row, "time": time}, default=str, allow_nan=False, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")

    def _close(self) -> None:
        self._file.close()


class ParquetLogFile(LogFile):
    """Groups of records, compressed by column."""

    is_readable_in_parts = False

    def __init__(self, path: Path):
        import pyarrow.parquet

        super().__init__(path)
        self._schema = parquet_schema()
        self._pending: list[dict[str, Any]] = []
        self._pending_size = 0
        self._sink = self._unfinished.open("xb")
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    @property
    def size(self) -> int:
        """Bytes so far; of records in memory the length of their text."""
        return self._sink.tell() + self._pending_size

    def flush(self) -> None:
        """Do nothing: a parquet file can be read only when it is whole."""

    def _write(self, row: Mapping[str, Any]) -> None:
        options = options_json(row["options"])
        self._pending.append({**row, "options": options})
        self._pending_size += len(options) + _text_size(row)
        if len(self._pending) >= ROW_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow

        if self._pending:
            self._writer.write_table(pyarrow.Table.from_pylist(self._pending, schema=self._schema))
            self._pending = []
            self._pending_size = 0

    def _close(self) -> None:
        if self._sink.closed:
            return
        try:
            self._write_group()
            self._writer.close()
        finally:
            self._sink.close()


def _text_size(row: Mapping[str, Any]) -> int:
    """Return about how many bytes a record takes without its options."""
    ids: Sequence[str] = [*(row["history"] or ()), *(entry["item_id"] for entry in row["shown"])]
    fields = (row["request_id"], row["user_id"], row["variant"], row["model"], row["catalog"])
    return sum(map(len, ids)) + 12 * len(row["shown"]) + sum(len(text) for text in fields if text) + 8


def parquet_schema() -> Any:
    """Return the pyarrow schema of a log in parquet."""
    import pyarrow as pa

    entry = pa.struct([("item_id", pa.string()), ("rank", pa.int32()), ("score", pa.float64())])
    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("request_id", pa.string()),
            ("user_id", pa.string()),
            ("variant", pa.string()),
            ("model", pa.string()),
            ("catalog", pa.string()),
            ("history", pa.list_(pa.string())),
            ("options", pa.string()),
            ("shown", pa.list_(entry)),
        ]
    )


LOG_FILES: dict[str, type[LogFile]] = {"jsonl": JsonlLogFile, "parquet": ParquetLogFile}
