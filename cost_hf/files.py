"""Atomic writes and content digests: what every stage uses to be resumable and every contract to be checkable.

A file appears under its final name only when it is whole, so a killed run never leaves half a file behind.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def content_digest(*parts: Any) -> str:
    """Return the sha256 hex digest of arrays, strings, bytes and JSON-able values, in order.

    Every part is framed by its type, shape and length, so `("ab", "c")` and `("a", "bc")` differ. Arrays are hashed
    in little-endian C order: the digest is the same on every machine.
    """
    state = hashlib.sha256()
    for part in parts:
        kind, payload = _frame(part)
        state.update(f"{kind}:{len(payload)}:".encode())
        state.update(payload)
    return state.hexdigest()


def _frame(part: Any) -> tuple[str, bytes]:
    if isinstance(part, bytes):
        return "bytes", part
    if isinstance(part, str):
        return "str", part.encode()
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            raise TypeError(f"content_digest takes numeric arrays, got dtype {part.dtype}; pass strings as a list")
        array = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
        return f"array{array.dtype.str}{array.shape}", array.tobytes()
    return "json", json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def file_digest(path: str | Path) -> str:
    """Return the sha256 hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (file or directory) that takes its name when the block ends without error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    temporary = scratch / target.name
    try:
        yield temporary
        if target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(directory: str | Path) -> None:
    """Delete what `atomic_path` left below `directory` when it was killed."""
    for path in list(Path(directory).rglob(".*-????????")):
        shutil.rmtree(path, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; raise ValueError for nan and inf."""
    try:
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{Path(path).name} takes finite numbers, got nan or inf ({error}); write null instead"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
