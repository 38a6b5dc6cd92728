"""Directories of several files that are replaced whole: afterwards all of the old files are there or all of the new.

The new files are written beside the old ones and brought to the disk; then the old ones are moved aside and the new
ones take their places, by renames alone. The record, the file that names the others, is the first to go and the last to
come, so a directory that holds its record is whole. Where a process is killed between the renames, whoever opens the
directory next moves everything back.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cost_hf.files import (
    LockedError,
    atomic_path,
    check_fields,
    locked,
    plain_name,
    read_object,
    readable_os_errors,
    write_json,
)

STAGED = ".staged"  # the new files, until all of them are on the disk
# what is moved: its list, and from and to where
REPLACED = ".replaced"
MOVES = "moves.json"
OLD = "old"
NEW = "new"


@contextmanager
def replacing(directory: str | Path, record: str, *, old: Callable[[Path], set[str]]) -> Iterator[Path]:
    """Yield an empty directory whose content takes the place of the old files when the block ends without error.

    Other files stay. Whatever fails, a full disk or the block itself, the old files are as they were.

    Args:
        directory: made where it is not there.
        record: name of the file that marks the directory as whole.
        old: from the directory to the names in it (files and whole folders) that are replaced.

    Raises:
        OSError: where the directory can't be written to, or something else stands in the place of a new file.
        LockedError: where another process writes to it for long.
    """
    target = Path(directory)
    with readable_os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        with locked(target):
            _settle(target, record)
            for leftover in target.glob(f".{STAGED}-????????"):  # of a process that was killed at writing them
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                with atomic_path(target / STAGED, durable=True) as staged:
                    staged.mkdir()
                    yield staged
                _swap(target, record, old(target))
            finally:
                shutil.rmtree(target / STAGED, ignore_errors=True)


def settle(directory: str | Path, record: str) -> None:
    """Wait for a replacement that is going on, and undo one whose process was killed; else do nothing.

    Raises:
        OSError: where files have to be moved back and this process may not.
    """
    target = Path(directory)
    if (target / record).exists() or not (target / REPLACED).is_dir():
        return
    try:
        with locked(target):
            _settle(target, record)
    except LockedError:
        raise
    except OSError as error:
        raise OSError(
            f"a save into {target} was stopped while its files took their places, and the old ones can't be moved back "
            f"here ({error}); load or save it once as a user who may write there, and it is whole again"
        ) from error


def _swap(target: Path, record: str, leaving: set[str]) -> None:
    staged = target / STAGED
    replaced = target / REPLACED
    coming = {plain_name(path.name, source=staged) for path in staged.iterdir()}
    for name in sorted(coming - leaving):
        place = target / name
        if place.is_dir() or (os.path.lexists(place) and (staged / name).is_dir()):
            raise FileExistsError(
                f"{place} stands where a part of what is saved belongs, and is none of it; move it away or give "
                "another directory"
            )
    going = {name for name in leaving | coming if os.path.lexists(target / name)}
    moves = {
        OLD: sorted(going, key=lambda name: (name != record, name)),
        NEW: sorted(coming, key=lambda name: (name == record, name)),
    }
    try:
        (replaced / OLD).mkdir(parents=True)
        write_json(replaced / MOVES, moves, durable=True)
        staged.replace(replaced / NEW)
        for name in moves[OLD]:
            (target / name).replace(replaced / OLD / name)
        for name in moves[NEW]:
            (replaced / NEW / name).replace(target / name)
    except BaseException:
        with suppress(OSError, ValueError):  # whoever opens the directory next tries again
            _undo(target)
        raise
    _drop(replaced)


def _settle(target: Path, record: str) -> None:
    """Undo what a killed process left; the caller holds the lock."""
    if not (target / REPLACED).is_dir():
        return
    if (target / record).exists():  # it had moved nothing yet, or all
        _drop(target / REPLACED)
    else:
        _undo(target)


def _undo(target: Path) -> None:
    """Move the new files out, their record first, and the old ones back, their record last; it can be done again."""
    replaced = target / REPLACED
    source = replaced / MOVES
    old = replaced / OLD
    new = replaced / NEW
    if new.is_dir():  # it comes there before anything else moves
        moves = read_object(source)
        check_fields(moves, {OLD: list[str], NEW: list[str]}, source=source)
        names = {part: [plain_name(name, source=source) for name in moves[part]] for part in (OLD, NEW)}
        for name in reversed(names[NEW]):
            if os.path.lexists(target / name) and not os.path.lexists(new / name):
                (target / name).replace(new / name)
        for name in reversed(names[OLD]):
            if os.path.lexists(old / name):
                (old / name).replace(target / name)
    _drop(replaced)


def _drop(replaced: Path) -> None:
    """Delete what is not needed any more; renamed first, so that half of it is never taken for a whole."""
    with suppress(OSError):
        scratch = Path(tempfile.mkdtemp(prefix=f"{replaced.name}-", dir=replaced.parent))
        with suppress(OSError):
            replaced.replace(scratch / OLD)
        shutil.rmtree(scratch, ignore_errors=True)
