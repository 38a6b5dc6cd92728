"""Atomic writes, checked reads, content digests and locks: what keeps every directory whole.

A file appears under its final name only when it is whole, so a killed run or a full disk never leaves half a file
behind. What is read back is checked against a recorded digest wherever a record exists.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

LOCK = ".lock"  # in a directory with several possible writers; it is empty and is never published
LOCK_SECONDS = 60.0
COPY_ERROR = re.compile(r"\[Errno (\d+)\]")  # as shutil.copytree collects them
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as Rust writes them
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
TORCH_CUT_SHORT = re.compile(r"inline_container.*unexpected pos")  # torch.save names no errno on a full disk
# of a file of JSON or text that is read at once; JSON takes up to twenty times its size in memory
MAX_JSON_BYTES = 128 << 20
# names that may be joined to a directory: no separator, no leading dot, so no path leaves the directory
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class DamagedFileError(ValueError):
    """A file differs from its directory's record, or can't be read at all; the message names the file."""


class LockedError(OSError):
    """Another process is writing to a directory."""


def content_digest(*parts: Any) -> str:
    """Return the sha256 hex digest of arrays, strings, bytes and JSON-able values, in order.

    Every part is framed by its type, shape and length, so `("ab", "c")` and `("a", "bc")` differ. Arrays are hashed
    in little-endian C order: the digest is the same on every machine.
    """
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, JoinedRows):
            state.update(f"array<i8({part.size},):{8 * part.size}:".encode())
            for array in part.blocks:
                state.update(np.ascontiguousarray(array, dtype="<i8").data)
            continue
        if isinstance(part, ListedParts):
            sizes = [len(piece) for piece in part.pieces()]
            state.update(f"json:{sum(sizes) + max(0, len(sizes) - 1) + len('[]')}:[".encode())
            for number, piece in enumerate(part.pieces()):
                state.update(b"," if number else b"")
                state.update(piece)
            state.update(b"]")
            continue
        kind, payload = _frame(part)
        state.update(f"{kind}:{len(payload)}:".encode())
        state.update(payload)
    return state.hexdigest()


@dataclass(frozen=True)
class JoinedRows:
    """Flat int64 arrays that `content_digest` takes for their concatenation, which may be too long to make.

    Attributes:
        size: of all blocks together.
        blocks: are read once.
    """

    size: int
    blocks: Iterable[np.ndarray]


@dataclass(frozen=True)
class ListedParts:
    """Parts of a list that `content_digest` takes for the list, which may be too long to make.

    Attributes:
        pieces: returns the compact JSON of the parts without the brackets, in pieces that are joined by commas; called
            twice.
    """

    pieces: Callable[[], Iterable[bytes]]


def _frame(part: Any) -> tuple[str, bytes | memoryview]:
    if isinstance(part, bytes):
        return "bytes", part
    if isinstance(part, str):
        return "str", part.encode()
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            raise TypeError(f"content_digest takes numeric arrays, got dtype {part.dtype}; pass strings as a list")
        array = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
        return f"array{array.dtype.str}{array.shape}", array.reshape(-1).view(np.uint8).data
    return "json", json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def file_digest(path: str | Path) -> str:
    """Return the sha256 hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(directory: str | Path, *, excluded: Iterable[str] = ()) -> dict[str, str]:
    """Return relative path → sha256 of every file below a directory, sorted.

    Locks and what an interrupted write left behind are not counted. Symbolic links are not followed; one is an error,
    since what it points to can change under the record.

    Args:
        excluded: glob patterns of relative paths to leave out.
    """
    root = Path(directory)
    digests: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.name == LOCK or any(is_scratch(part) for part in name.parts):
            continue
        if any(name.match(pattern) for pattern in excluded):
            continue
        if path.is_symlink():
            raise DamagedFileError(f"{path} is a symbolic link, expected a file; put the file itself there")
        if path.is_file():
            digests[name.as_posix()] = file_digest(path)
    return digests


def check_file_digests(directory: str | Path, expected: Mapping[str, str], *, follows_links: bool = False) -> None:
    """Raise `DamagedFileError` for the first recorded file that is missing, a link, or has other bytes.

    Args:
        follows_links: take a link for the file that it leads to, in the directory or in the Hub's cache of it.

    Raises:
        OSError: for a file that can't be read.
    """
    root = Path(directory)
    for name, digest in expected.items():
        path = root / name
        if not is_inside(name):
            raise DamagedFileError(f"the record of {root} names {name!r:.80}, which leads out of it; copy it again")
        if (path.is_symlink() and not follows_links) or not path.is_file():
            raise DamagedFileError(f"{path} is missing, expected a file with sha256 {digest}; copy the directory again")
        if follows_links:
            refuse_link_out(path, root)
        with readable_os_errors():
            found = file_digest(path)
        if found != digest:
            raise DamagedFileError(
                f"{path} has sha256 {found}, expected {digest}; it was changed or damaged: copy the directory again"
            )


def is_inside(name: str) -> bool:
    """Return whether a relative path stays below the directory that it is joined to."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def link_out_of(path: Path, directory: Path) -> Path | None:
    """Return where a path in a directory really is, if a link leads out of it; None where none does.

    A snapshot in the Hub's cache (`models--org--name/snapshots/<commit>`) is links into the `blobs` beside it.
    """
    found = path.resolve()
    root = directory.resolve()
    stores = [parent.parent / "blobs" for parent in (root, *root.parents) if parent.name == "snapshots"]
    return None if found.is_relative_to(root) or found.parent in stores else found


def refuse_link_out(path: Path, directory: Path) -> None:
    """Raise `DamagedFileError` for a path in a directory from which a link leads out of it.

    The errors about its content, and copies, would show files that whoever made the directory can't read.
    """
    found = link_out_of(path, directory)
    if found is not None:
        raise DamagedFileError(
            f"{path} is a link out of the directory, to {found}; put the file itself there or remove it"
        )


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (file or directory) that takes its name when the block ends without error.

    What is there already stays untouched until the new content is whole. Permissions follow the umask, whatever the
    writing library sets.

    Args:
        durable: bring the new content to the disk before the old one goes, so that a power failure leaves one of them;
            for what can't be made again.

    Raises:
        OSError: with a message that names the path, where the parent can't be written to or a file is in the way.
    """
    target = Path(path)
    with readable_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            error.filename = str(target.parent)  # rather than a name that nobody has given
            raise
        temporary = scratch / target.name
        old = scratch / "old"
        try:
            yield temporary
            _follow_umask(temporary, scratch)
            if durable:
                sync_tree(temporary)
            if target.is_dir() and not target.is_symlink():  # a directory can't be replaced in one step
                target.replace(old)
            try:
                temporary.replace(target)
            except OSError:
                if old.exists():
                    old.replace(target)
                raise
            if durable:
                _sync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _follow_umask(path: Path, scratch: Path) -> None:
    """Give everything below `path` the permissions of newly made files."""
    (scratch / "mode").touch()
    file_mode = (scratch / "mode").stat().st_mode & 0o777
    (scratch / "directory").mkdir()
    directory_mode = (scratch / "directory").stat().st_mode & 0o777
    for entry in [path, *path.rglob("*")]:
        if entry.is_symlink():
            continue
        entry.chmod(directory_mode if entry.is_dir() else file_mode)


def sync_tree(path: Path) -> None:
    """Bring a file, or a directory with everything below it, to the disk."""
    for entry in [path, *path.rglob("*")]:
        if not entry.is_symlink():
            _sync(entry)


def _sync(path: Path) -> None:
    """Ask the system to bring a file or directory to the disk, where it can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return  # a directory can't be opened on every system
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # a file system without it
            raise
    finally:
        os.close(descriptor)


def remove_scratch(directory: str | Path) -> None:
    """Delete what `atomic_path` left below `directory` when it was killed."""
    for path in list(Path(directory).rglob(".*-????????")):
        shutil.rmtree(path, ignore_errors=True)


def is_scratch(name: str) -> bool:
    """Return whether a file or directory has the name of what an interrupted write leaves."""
    return re.fullmatch(r"\..*-[a-z0-9_]{8}", name) is not None


@contextmanager
def locked(directory: str | Path, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of an existing directory: one writer at a time among processes and threads.

    The operating system frees the lock of a process that dies, so none is ever left over.

    Args:
        seconds: how long to wait for another writer.

    Raises:
        LockedError: where another writer holds it longer than that.
    """
    # a thread may take it again that holds it, however it spells the path
    lock = FileLock(Path(directory).resolve() / LOCK, is_singleton=True)
    try:
        with readable_os_errors():
            lock.acquire(timeout=seconds)
    except Timeout as error:
        raise LockedError(
            f"another process is writing to {directory} and did not finish within {seconds:g} s; wait for it, stop it, "
            "or give another directory"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: str | Path, value: Any, *, durable: bool = False) -> None:
    """Write `value` as indented JSON with sorted keys, atomically.

    Args:
        durable: as for `atomic_path`.

    Raises:
        ValueError: for nan and inf, or more than `read_json` reads.
    """
    try:
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{Path(path).name} takes finite numbers, got nan or inf ({error}); write null instead"
        ) from error
    content = (text + "\n").encode()
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"{Path(path).name} takes at most {MAX_JSON_BYTES} bytes, got {len(content)}; write less")
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def check_size(path: str | Path) -> None:
    """Raise `DamagedFileError` for a file of JSON or text that is larger than any that is read at once."""
    size = Path(path).stat().st_size
    if size > MAX_JSON_BYTES:
        raise DamagedFileError(f"{path} has {size} bytes, expected at most {MAX_JSON_BYTES}; copy it again")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: where it can't be opened.
        DamagedFileError: where it holds no JSON, or more than anybody writes.
    """
    try:
        with readable_os_errors():
            check_size(path)
            return json.loads(Path(path).read_text(encoding="utf-8"))
    except DamagedFileError:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DamagedFileError(
            f"{path} holds no JSON ({type(error).__name__}: {error}); it is damaged: copy it again"
        ) from error


def read_object(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object; `read_json` otherwise."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} holds a JSON {type(value).__name__}, expected an object; copy it again")
    return value


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file.

    Raises:
        OSError: where it can't be opened.
        DamagedFileError: where it is no safetensors file, or a damaged one.
    """
    try:
        with readable_os_errors():
            return load_file(path)
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:  # a type or a shape that numpy has not
        raise DamagedFileError(f"{path} is no whole safetensors file ({error}); copy it again") from error


def read_tensor_metadata(path: str | Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file; errors are those of `read_tensors`."""
    try:
        with readable_os_errors(), safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is no whole safetensors file ({error}); copy it again") from error


def check_fields(content: Mapping[str, Any], kinds: Mapping[str, Any], *, source: str | Path) -> None:
    """Raise `DamagedFileError` for the first field of a JSON object that is missing or of another type.

    Args:
        kinds: a type per field, such as `int`, `str | None`, `list[int]` or `dict[str, str]`; true is no int.
        source: the file that the object was read from, for the message.
    """
    for name, kind in kinds.items():
        wanted = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
        if name not in content:
            raise DamagedFileError(f"{source} has no field {name!r}, expected {wanted}; it is damaged: copy it again")
        if not _is_of(content[name], kind):
            raise DamagedFileError(
                f"{source} has {name}={content[name]!r:.80}, expected {wanted}; it is damaged: copy it again"
            )


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is_of(value, choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(part, get_args(kind)[0]) for part in value)
    if get_origin(kind) is dict:
        keys, values = get_args(kind)
        return isinstance(value, dict) and all(_is_of(k, keys) and _is_of(v, values) for k, v in value.items())
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)


def plain_name(name: Any, *, source: str | Path) -> str:
    """Return a file name that some file gave, or raise ValueError where it could lead out of its directory.

    Args:
        source: the file that names it, for the message.
    """
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{source} names {name!r:.80}, expected a plain file name without a directory; the file was changed: "
            "copy the directory again from where it was made"
        )
    return name


LIBRARY_ERRORS = (
    SafetensorError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    ValueError,
    ArithmeticError,  # whole numbers above all floats
)


@contextmanager
def readable_load_errors(what: str, folder: str | Path) -> Iterator[None]:
    """Turn errors that libraries raise over damaged files into `DamagedFileError`, which names the file.

    Args:
        what: is loaded, for the message.
        folder: that holds it.
    """
    try:
        with readable_os_errors():
            yield
    except DamagedFileError:
        raise
    except LIBRARY_ERRORS as error:
        if is_out_of_memory(error):  # the file may be whole
            raise
        raise DamagedFileError(
            f"{what} in {folder} can't be read ({type(error).__name__}: {first_line(error)}); it is damaged, or "
            "made for another version: copy it again"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated, on the CPU or on a device."""
    is_of_torch = isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None
    return is_of_torch or isinstance(error, MemoryError)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for the errors of libraries that write pages."""
    return next((line for line in str(error).splitlines() if line.strip()), "no reason given")


@contextmanager
def readable_os_errors(path: str | Path | None = None) -> Iterator[None]:
    """Give errors of the system that come out of the block a message with the path and what to do.

    Args:
        path: named where the error itself names none.
    """
    try:
        yield
    except shutil.Error as error:  # of a copied tree: what happened to every file of it, as texts
        found = COPY_ERROR.search(str(error))
        if found is None:
            raise
        raise _readable(OSError(), int(found[1]), path) from error
    except OSError as error:
        if error.errno is None or error.strerror is None:  # one of ours, or of a library that explains itself
            raise
        raise _readable(error, error.errno, path) from error
    except (
        Exception
    ) as error:  # safetensors and tokenizers, written in Rust, report a full disk by classes of their own
        found = OS_ERROR.search(str(error))
        if found is None and not TORCH_CUT_SHORT.search(str(error)):
            raise
        raise _readable(OSError(), errno.ENOSPC if found is None else int(found[1]), path) from error


def _readable(error: OSError, number: int, path: str | Path | None) -> OSError:
    remedies = {
        errno.EACCES: "permission denied; give another path or change its permissions",
        errno.EPERM: "permission denied; give another path or change its permissions",
        errno.EROFS: "the file system is read-only; give another path",
        errno.ENOSPC: "no space is left on the device; free some and run again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.ENOENT: "no such file or directory; check the path",
        errno.ENOTDIR: "a file stands where a directory is expected; move it away or give another path",
        errno.EEXIST: "a file stands where a directory is expected; move it away or give another path",
        errno.EISDIR: "a directory stands where a file is expected; move it away or give another path",
        errno.ENAMETOOLONG: "the name is too long; give a shorter path",
    }
    text = remedies.get(number, os.strerror(number))
    names = [name for name in (error.filename, error.filename2) if name is not None]  # from where, to where
    if number in (errno.ENOSPC, errno.EDQUOT):
        names.reverse()
    place = next(iter(names), path)
    # made from the errno, so that its class is right, then without strerror, so that its text is ours
    readable = type(OSError(number, text))(text if place is None else f"{place}: {text}")
    readable.errno = number
    return readable
