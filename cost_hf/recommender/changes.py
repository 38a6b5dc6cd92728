"""The journal of a living catalog: what was changed, when, and the digests before and after."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cost_hf.files import atomic_path
from cost_hf.semantic_ids.item_rows import ItemRows

JOURNAL = "journal.jsonl"
KEPT_VERSIONS = 10
SHOWN_IDS = 3


@dataclass(frozen=True)
class CatalogChange:
    """One change of a catalog.

    Attributes:
        action: `add`, `remove`, `update` or `rollback`.
        item_ids: the items that are different now; none where the catalog held all of it already.
        before: version digest before the change: ids, SIDs, removed flags and titles.
        after: version digest behind it.
        time: of the change, ISO 8601 in UTC.
        would_differ: of an `update`, items whose new text would be coded otherwise; their SIDs stay all the same.
    """

    action: str
    item_ids: tuple[str, ...]
    before: str
    after: str
    time: str
    would_differ: int = 0

    def __repr__(self) -> str:
        """Say in one line what was changed."""
        ids = ", ".join(map(repr, self.item_ids[:SHOWN_IDS])) + (", …" if len(self.item_ids) > SHOWN_IDS else "")
        differ = f", would_differ={self.would_differ}" if self.would_differ else ""
        return (
            f"CatalogChange({self.action} of {len(self.item_ids)} items{f': {ids}' if ids else ''}, "
            f"{self.before[:12]} → {self.after[:12]}, {self.time}{differ})"
        )

    @classmethod
    def between(
        cls, action: str, item_ids: Iterable[str], before: ItemRows, after: ItemRows, *, would_differ: int = 0
    ) -> "CatalogChange":
        """Describe a step from one catalog to the next."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(action, tuple(item_ids), before.version, after.version, moment, would_differ)


@dataclass(frozen=True)
class Version:
    """An older catalog to go back to; it is read from disk only where it is asked for."""

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


def write_journal(directory: str | Path, journal: Sequence[CatalogChange]) -> None:
    """Write one JSON line per change; no file where nothing has changed."""
    if not journal:
        return
    lines = [json.dumps(asdict(change), ensure_ascii=False) for change in journal]
    with atomic_path(Path(directory) / JOURNAL) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_journal(directory: str | Path, length: int) -> tuple[CatalogChange, ...]:
    """Read the first `length` changes; later lines belong to a write that was killed before it took effect."""
    if not length:
        return ()
    with (Path(directory) / JOURNAL).open(encoding="utf-8") as file:
        entries = [json.loads(line) for _, line in zip(range(length), file, strict=False)]
    if len(entries) < length:
        raise ValueError(
            f"{Path(directory) / JOURNAL} holds {len(entries)} changes, the manifest names {length}; "
            "copy the whole directory again"
        )
    return tuple(CatalogChange(**{**entry, "item_ids": tuple(entry["item_ids"])}) for entry in entries)
