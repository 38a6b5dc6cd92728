"""The journal of a living catalog: what was changed, when, and the digests before and after."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cost_hf.files import atomic_path
from cost_hf.semantic_ids.item_rows import ItemRows

JOURNAL = "journal.jsonl"
KEPT_VERSIONS = 10


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


def check_texts(item_ids: Sequence[str], texts: Sequence[str]) -> None:
    """Raise ValueError where there is not one text with content per item."""
    if isinstance(texts, str) or len(texts) != len(item_ids):
        count = "one string" if isinstance(texts, str) else len(texts)
        raise ValueError(f"expected one text per item, got {count} for {len(item_ids)} items; pass a list of texts")
    for item, text in zip(item_ids, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a text with at least one word for item {item!r}, got {text!r}; leave it out")


def check_titles(item_ids: Sequence[str], titles: Sequence[str | None] | None) -> None:
    """Raise ValueError where there is not one title (or None) per item."""
    if titles is not None and (isinstance(titles, str) or len(titles) != len(item_ids)):
        count = "one string" if isinstance(titles, str) else len(titles)
        raise ValueError(
            f"expected one title per item, got {count} for {len(item_ids)} items; None stands for no title"
        )
    for item, title in zip(item_ids, titles or (), strict=False):
        if title is not None and not isinstance(title, str):
            raise ValueError(f"expected a title or None for item {item!r}, got {title!r}; convert it by str")


def check_vectors(item_ids: Sequence[str], vectors: np.ndarray) -> None:
    """Raise ValueError where vectors are not finite numbers, one row per item."""
    if vectors.ndim != 2 or len(vectors) != len(item_ids) or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(
            f"expected vectors [{len(item_ids)}, E] of floats, one per item, got {vectors.dtype} {vectors.shape}"
        )
    wrong = ~np.isfinite(vectors).all(1)
    if wrong.any():
        raise ValueError(f"the vector of item {item_ids[int(wrong.argmax())]!r} is not finite; encode it again")
