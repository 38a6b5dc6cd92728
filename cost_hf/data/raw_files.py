"""Raw files: what the readers of published data sets share, from finding a file to naming a malformed line in it.

A reader turns files as they are published into two frames and counts; every check of ids, times, texts and items stays
with `read_tables`, so that published sets and a user's own tables meet the same rules.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cost_hf.data.options import DataOptions
from cost_hf.data.schema import DataError


@dataclass(frozen=True, eq=False)
class RawTables:
    """Both tables as a reader made them, unchecked, and what it found and dropped, by name."""

    items: pd.DataFrame
    interactions: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say in one line how large the tables are."""
        return f"RawTables({len(self.items)} items, {len(self.interactions)} clicks)"


def data_directory(options: DataOptions, *, expected: str) -> Path:
    """Return `data.path` as a directory; `expected` tells in errors what should lie there."""
    if options.path is None:
        raise DataError(
            f"data.reader {options.reader} needs data.path, got none; set it to the directory with {expected}"
        )
    directory = Path(options.path)
    if not directory.is_dir():
        raise DataError(
            f"data.path {options.path!r} is no directory; data.reader {options.reader} expects one with {expected}: "
            "correct the path, or unpack the files there"
        )
    return directory


def refuse_file_options(options: DataOptions) -> None:
    """Raise `DataError` for a named file where a reader knows the names of its files."""
    for name in ("items", "interactions"):
        if (value := getattr(options, name)) is not None:
            raise DataError(
                f"data.reader {options.reader} finds its files in data.path by their published names, got "
                f"data.{name}={value!r}; remove that option, or set data.reader: tables for files of your own"
            )


def find_file(directory: Path, name: str) -> Path | None:
    """Return the file of that name, plain or with `.gz` appended; None where neither exists."""
    found = [path for path in (directory / name, directory / f"{name}.gz") if path.is_file()]
    if len(found) > 1:
        raise DataError(
            f"{str(directory)!r} holds {[path.name for path in found]}, expected one of them; move the other away"
        )
    return found[0] if found else None


def names_in(directory: Path) -> list[str]:
    """Return the first names in a directory, for messages."""
    return sorted(path.name for path in directory.iterdir())[:10]


def malformed(path: Path, number: int, expected: str, got: object) -> DataError:
    """Return the error for a line that does not have the published form."""
    return DataError(
        f"{path.name}, line {number}: expected {expected}, got {got!r:.120}; "
        "download the file again or correct the line"
    )
