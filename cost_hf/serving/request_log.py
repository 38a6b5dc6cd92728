"""A log of what was shown, written by a thread of its own: no request waits for it or fails by it.

Records wait in a bounded queue; where the disk is slower than the requests, further records are dropped and counted.
Files are rotated by records, bytes and time, and appear under their final names when they are whole (`log_files`); a
killed process loses at most the file in progress. `request_records` describes the schema.
"""

import logging
import os
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from cost_hf.files import readable_os_errors
from cost_hf.serving.log_files import FORMATS, LOG_FILES, LogFile
from cost_hf.serving.request_records import RequestRecord

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 30.0
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class LogOptions:
    """How a request log is written.

    Attributes:
        format: `jsonl` or `parquet`.
        max_records: in a file.
        max_bytes: of a file, about.
        max_seconds: from the first record of a file until it is finished.
        max_waiting: records in the queue; further ones are dropped.
        with_histories: log histories, and item ids that a request allows or denies.

    Raises:
        ValueError: for another format, or a limit below 1.
    """

    format: str = "jsonl"
    max_records: int = 100_000
    max_bytes: int = 64 * 2**20
    max_seconds: float = 3600.0
    max_waiting: int = 10_000
    with_histories: bool = True

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"the format of the request log is {self.format!r}, expected one of {', '.join(FORMATS)}")
        for name in ("max_records", "max_bytes", "max_seconds", "max_waiting"):
            value = getattr(self, name)
            if not value >= 1:
                raise ValueError(f"{name} of the request log is {value!r}, expected at least 1; raise it")


@dataclass(frozen=True)
class LogCounts:
    """Numbers of a request log since it was opened.

    Attributes:
        written: records given to a file, among them those of the file in progress.
        dropped: records that found the queue full or the log closed.
        failed: records of files that could not be written.
        files: finished files.
    """

    written: int = 0
    dropped: int = 0
    failed: int = 0
    files: int = 0


class RequestLog:
    """A request log in a directory; several processes may share it. Use it as a context manager, or `close` it.

    Args:
        directory: made where it is not there.
        options: how it is written.

    Raises:
        OSError: where the directory can't be written to.

    Examples:
        >>> import tempfile
        >>> from datetime import UTC, datetime
        >>> record = RequestRecord(datetime.now(UTC), "r1", "model", "catalog", [("item-3", -0.5)], user_id="u1")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with RequestLog(directory) as log:
        ...         _ = log.add(record)
        ...     log.counts, [path.suffix for path in Path(directory).iterdir()]
        (LogCounts(written=1, dropped=0, failed=0, files=1), ['.jsonl'])
    """

    def __init__(self, directory: str | Path, options: LogOptions | None = None):
        self.directory = Path(directory)
        self.options = LogOptions() if options is None else options
        with readable_os_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self.directory, os.W_OK):
            raise PermissionError(f"{self.directory} can't be written to; give another directory for the request log")
        self._token = secrets.token_hex(4)  # tells processes apart, also those of several machines
        self._waiting: deque[RequestRecord] = deque()
        self._changed = threading.Condition()  # guards the queue, the counts and `_is_closed`
        self._is_closed = False
        self._written = 0
        self._dropped = 0
        self._failed = 0
        self._finished = 0
        self._file: LogFile | None = None  # this and the following belong to the writing thread
        self._opened = 0
        self._deadline = 0.0
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return the directory and the counts."""
        return f"RequestLog({str(self.directory)!r}, {self.counts})"

    @property
    def counts(self) -> LogCounts:
        """Records written, dropped and failed so far."""
        with self._changed:
            return LogCounts(self._written, self._dropped, self._failed, self._finished)

    def add(self, record: RequestRecord) -> bool:
        """Hand a record to the writing thread and return at once; False where it was dropped. Thread-safe."""
        with self._changed:
            if self._is_closed or len(self._waiting) >= self.options.max_waiting:
                self._dropped += 1
                return False
            self._waiting.append(record)
            self._changed.notify()
            return True

    def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Write all records that wait, finish the file and stop; further records are dropped. May be called again.

        Args:
            seconds: to wait for the disk. What is not written by then is left to the thread, which ends with the
                process; a warning says so.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning(
                "the request log in %s was not written within %g s: up to %d records may be lost",
                self.directory,
                seconds,
                len(self._waiting),
            )

    def _run(self) -> None:
        """Write until the log is closed and nothing waits."""
        is_last = False
        while not is_last:
            records, is_last = self._take()
            for record in records:
                self._write(record)
            is_due = is_last or time.monotonic() >= self._deadline
            if self._file is not None and is_due:
                self._finish()
            elif self._file is not None:
                self._flush()

    def _take(self) -> tuple[list[RequestRecord], bool]:
        """Wait for records, for the end of the file's time or for `close`; return what waits, and whether it is all."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                left = None if self._file is None else self._deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            records = list(self._waiting)
            self._waiting.clear()
            return records, self._is_closed

    def _write(self, record: RequestRecord) -> None:
        """Write a record, into a new file where there is none, and finish a file that is full."""
        if time.monotonic() < self._retry_at:
            self._add_counts(failed=1)
            return
        try:
            row = record.row(with_history=self.options.with_histories)
        except Exception as error:  # of this record alone: the file and the records in it stay
            self._add_counts(failed=1)
            logger.warning("a record of request %s could not be logged (%s)", record.request_id, error)
            return
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(row)
        except Exception as error:  # the thread must outlive whatever the disk does
            self._add_counts(failed=1)
            self._abandon(error)
            return
        self._add_counts(written=1)
        if self._file.num_records >= self.options.max_records or self._file.size >= self.options.max_bytes:
            self._finish()

    def _open(self) -> LogFile:
        self._opened += 1
        self._deadline = time.monotonic() + self.options.max_seconds
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"requests-{started}-{self._token}-{self._opened:06d}.{self.options.format}"
        return LOG_FILES[self.options.format](self.directory / name)

    def _flush(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
        except Exception as error:
            self._abandon(error)

    def _finish(self) -> None:
        try:
            if self._file is not None:
                self._file.finish()
                self._file = None
                self._add_counts(files=1)
        except Exception as error:
            self._abandon(error)

    def _abandon(self, error: Exception) -> None:
        """Give up the file in progress after an error, and write nothing for a while: a full disk stays full."""
        lost = 0 if self._file is None else self._file.num_records
        self._add_counts(written=-lost, failed=lost)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        logger.warning(
            "the request log in %s could not be written (%s: %s): %d records are lost; it tries again in %g s",
            self.directory,
            type(error).__name__,
            error,
            lost,
            RETRY_SECONDS,
        )
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _add_counts(self, *, written: int = 0, failed: int = 0, files: int = 0) -> None:
        with self._changed:
            self._written += written
            self._failed += failed
            self._finished += files
