"""The journal of a catalog's updates: what changed, when, and the digests before and after."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cost_hf.files import DamagedFileError, atomic_path, check_fields, readable_os_errors, refuse_link_out
from cost_hf.semantic_ids.item_list import ItemRows

JOURNAL = "journal.jsonl"
KEPT_VERSIONS = 10
KEPT_IDS = 1_000  # of one change: the journal of a shop whose prices change every hour would outgrow its catalog
SHOWN_IDS = 3
MAX_LINE = 16 << 20  # bytes of a change in the journal
ACTIONS = ("add", "remove", "update", "rollback")
FIELDS = {
    "action": str,
    "item_ids": list[str],
    "before": str,
    "after": str,
    "time": str,
    "would_differ": int,
    "more": int,
}


@dataclass(frozen=True)
class CatalogChange:
    """One change of a catalog.

    Attributes:
        action: `add`, `remove`, `update` or `rollback`.
        item_ids: the items that are different now, the first thousand of them; none where the update changed nothing.
        before: version digest before the change: ids, SIDs, removed flags, titles and columns.
        after: version digest after the change.
        time: of the change, ISO 8601, UTC.
        would_differ: of an `update`, items whose new texts have other codes; their SIDs stay.
        more: number of changed items besides `item_ids`.
    """

    action: str
    item_ids: tuple[str, ...]
    before: str
    after: str
    time: str
    would_differ: int = 0
    more: int = 0

    @property
    def num_items(self) -> int:
        """Number of items that are different now."""
        return len(self.item_ids) + self.more

    def __repr__(self) -> str:
        """Return the change in one line."""
        ids = ", ".join(map(repr, self.item_ids[:SHOWN_IDS])) + (", …" if self.num_items > SHOWN_IDS else "")
        differ = f", would_differ={self.would_differ}" if self.would_differ else ""
        return (
            f"CatalogChange({self.action} of {self.num_items} items{f': {ids}' if ids else ''}, "
            f"{self.before[:12]} → {self.after[:12]}, {self.time}{differ})"
        )

    @classmethod
    def between(
        cls,
        action: str,
        item_ids: Iterable[str],
        before: ItemRows,
        after: ItemRows,
        *,
        would_differ: int = 0,
        more: int = 0,
    ) -> "CatalogChange":
        """Return the change from one catalog to the next.

        Args:
            item_ids: ids of the changed items, and `more` of them.
        """
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        ids = tuple(item_ids)
        more += max(0, len(ids) - KEPT_IDS)
        return cls(action, ids[:KEPT_IDS], before.version, after.version, moment, would_differ, more)


@dataclass(frozen=True)
class Version:
    """An older catalog that `rollback` may return to; read from disk on demand."""

    stem: str
    load: Callable[[], ItemRows]

    @classmethod
    def held(cls, catalog: ItemRows) -> "Version":
        """Return the version of a catalog that is in memory."""
        return cls(catalog.stem, partial(_itself, catalog))

    def __repr__(self) -> str:
        """Name the version."""
        return f"Version({self.stem})"


def _itself(catalog: ItemRows) -> ItemRows:  # a function with a name, so that versions can be pickled
    return catalog


def write_journal(directory: str | Path, journal: Sequence[CatalogChange], *, kept: int = 0) -> str:
    """Write one JSON line per change (no file without changes) and return the sha256 of the lines.

    Args:
        kept: leading lines of the existing journal that stay byte for byte, so that their digest in the manifest still
            holds if this write is killed before the manifest is replaced.
    """
    lines = _first_lines(Path(directory) / JOURNAL, kept) if kept else b""
    for change in journal[kept:]:
        line = json.dumps(asdict(change), ensure_ascii=False).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError(
                f"the change takes {len(line)} bytes in the journal, expected at most {MAX_LINE}; change fewer items"
            )
        lines += line
    if lines:
        with atomic_path(Path(directory) / JOURNAL, durable=True) as temporary:
            temporary.write_bytes(lines)
    return hashlib.sha256(lines).hexdigest()


def read_journal(directory: str | Path, length: int, *, digest: str) -> tuple[CatalogChange, ...]:
    """Read the first `length` changes; later lines are left by a write that was killed before it took effect.

    Args:
        digest: sha256 of these lines.

    Raises:
        OSError: where there is no journal.
        ValueError: for a damaged journal; the line is named.
    """
    path = Path(directory) / JOURNAL
    lines = _first_lines(path, length) if length else b""
    found = hashlib.sha256(lines).hexdigest()
    if found != digest:
        raise DamagedFileError(
            f"{path}: its first {length} lines have sha256 {found}, expected {digest}; it was changed or damaged: copy "
            "the directory again"
        )
    return tuple(_change_of(line, f"{path}, line {number}") for number, line in enumerate(lines.splitlines(), 1))


def _first_lines(path: Path, length: int) -> bytes:
    refuse_link_out(path, path.parent)
    with readable_os_errors(), path.open("rb") as file:
        lines = []
        for number in range(1, length + 1):
            line = file.readline(MAX_LINE + 1)
            if len(line) > MAX_LINE:
                raise DamagedFileError(
                    f"{path}, line {number}: expected at most {MAX_LINE} bytes; it was not written by cost_hf"
                )
            if not line:
                break
            lines.append(line)
    if len(lines) < length:
        raise DamagedFileError(
            f"{path} holds {len(lines)} changes, the manifest names {length}; copy the whole directory again"
        )
    return b"".join(lines)


def _change_of(line: bytes, source: str) -> CatalogChange:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{source}: no JSON ({type(error).__name__}: {error}); copy the directory again"
        ) from error
    if not isinstance(entry, dict) or set(entry) != set(FIELDS):
        raise DamagedFileError(f"{source}: expected an object of {', '.join(FIELDS)}; copy the directory again")
    check_fields(entry, FIELDS, source=source)
    is_digest = all(re.fullmatch(r"[0-9a-f]{64}", entry[name]) for name in ("before", "after"))
    if entry["action"] not in ACTIONS or not is_digest or min(entry["would_differ"], entry["more"]) < 0:
        raise DamagedFileError(
            f"{source}: expected one of {', '.join(ACTIONS)}, two digests and two counts, got {line[:80]!r}; copy the "
            "directory again"
        )
    return CatalogChange(**{**entry, "item_ids": tuple(entry["item_ids"])})
