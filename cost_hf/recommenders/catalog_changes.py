"""The journal of a catalog's updates: what changed, when, and the digests before and after.

It keeps the newest changes and counts the others, so that a catalog that changes every minute for years costs no more
than a new one. Its file only grows, and its name says how many changes came before its first line: where changes are
dropped, a new file is written beside the old one, and a manifest that names either finds its lines.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cost_hf.files import DamagedFileError, atomic_path, check_fields, readable_os_errors, refuse_link_out
from cost_hf.semantic_ids.item_list import ItemRows

JOURNAL_FILE = re.compile(r"journal(-[1-9]\d*)?\.jsonl")
KEPT_VERSIONS = 10
KEPT_CHANGES = 1_000  # of the journal: it is read and written with every save
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


class Journal(tuple[CatalogChange, ...]):
    """The newest changes of a catalog, oldest first.

    Attributes:
        dropped: number of older changes that it does not hold any more.
    """

    dropped: int

    def __new__(cls, changes: Iterable[CatalogChange] = (), *, dropped: int = 0) -> "Journal":
        """Return a journal of changes, all of those that are given."""
        journal = super().__new__(cls, changes)
        journal.dropped = dropped
        return journal

    @property
    def total(self) -> int:
        """Number of changes so far, those that are dropped among them."""
        return self.dropped + len(self)

    def followed_by(self, changes: Iterable[CatalogChange]) -> "Journal":
        """Return the journal after more changes: the newest `KEPT_CHANGES` of all."""
        every = (*self, *changes)
        surplus = max(0, len(every) - KEPT_CHANGES)
        return Journal(every[surplus:], dropped=self.dropped + surplus)

    def since(self, count: int) -> tuple[CatalogChange, ...]:
        """Return the changes after the first `count`; those that are dropped are missing."""
        return self[max(0, count - self.dropped) :]


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


def journal_file(dropped: int) -> str:
    """Return the name of the file of a journal that `dropped` changes are not in."""
    return f"journal-{dropped}.jsonl" if dropped else "journal.jsonl"


def write_journal(directory: str | Path, journal: Journal, *, kept: int = 0) -> str:
    """Write one JSON line per change (no file without changes) and return the sha256 of the lines.

    Args:
        kept: leading lines of the existing file that stay byte for byte, so that their digest in the manifest still
            holds if this write is killed before the manifest is replaced.
    """
    path = Path(directory) / journal_file(journal.dropped)
    lines = [_first_lines(path, kept) if kept else b""]
    for change in journal[kept:]:
        line = json.dumps(asdict(change), ensure_ascii=False).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError(
                f"the change takes {len(line)} bytes in the journal, expected at most {MAX_LINE}; change fewer items"
            )
        lines.append(line)
    content = b"".join(lines)
    if content:
        with atomic_path(path, durable=True) as temporary:
            temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_journal(directory: str | Path, total: int, *, dropped: int, digest: str) -> Journal:
    """Read the journal after `total` changes; later lines are left by a write that was killed before it took effect.

    Args:
        dropped: how many of these changes the file does not hold.
        digest: sha256 of the lines of the others.

    Raises:
        OSError: where there is no journal.
        ValueError: for a damaged journal; the line is named.
    """
    path = Path(directory) / journal_file(dropped)
    length = total - dropped
    lines = _first_lines(path, length) if length else b""
    found = hashlib.sha256(lines).hexdigest()
    if found != digest:
        raise DamagedFileError(
            f"{path}: its first {length} lines have sha256 {found}, expected {digest}; it was changed or damaged: copy "
            "the directory again"
        )
    changes = (_change_of(line, f"{path}, line {number}") for number, line in enumerate(lines.splitlines(), 1))
    return Journal(changes, dropped=dropped)


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
