"""Items by row and id: the base of all catalogs, and the list of items for models without semantic IDs."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from cost_hf.files import DamagedFileError, atomic_path, content_digest, read_tensors
from cost_hf.semantic_ids.catalog_files import item_vectors, read_item_columns, removed_flags
from cost_hf.semantic_ids.item_ids import check_ids, item_id_list, item_id_text, title_list, vectors_of_width

MANY = 100_000  # rows


class ItemRows:
    """Lookup of rows by item id: the base of `Catalog` and `ItemList`.

    Attributes:
        item_ids: id of every row.
        titles: a title per row, or None.
        removed: rows that are not recommended, bool `[N]`.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str | None, ...] | None
    removed: np.ndarray
    version: Any  # digest of all content, titles included; a cached property of subclasses
    digest: Any  # the catalog digest; likewise

    @property
    def stem(self) -> str:
        """Name of this version's files."""
        return f"catalog-{self.version[:16]}"

    def save(self, directory: str | Path, stem: str) -> None:
        """Write the files of this version."""
        raise NotImplementedError

    @classmethod
    def load(cls, directory: str | Path, stem: str) -> Self:
        """Read what `save` wrote; raise OSError or ValueError for missing or damaged files."""
        raise NotImplementedError

    def with_titles(self, item_ids: Sequence[str], titles: Sequence[str | None]) -> Self:
        """Return the same rows with other titles of some items."""
        ids = item_id_list(item_ids, is_unique=True)
        names = list(self.titles or [None] * len(self))
        for row, title in zip(self.rows_of(ids).tolist(), title_list(titles, ids), strict=True):
            names[row] = title
        return replace(self, titles=tuple(names))  # type: ignore[type-var]

    def without_titles(self) -> Self:
        """Return the same rows without titles."""
        return replace(self, titles=None)  # type: ignore[type-var]

    def row_of(self, item_id: str) -> int:
        """Return the row of an item, removed or not; raise KeyError for an unknown id."""
        return int(self.rows_of([item_id])[0])

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of items, `[n]` int64, removed or not.

        Args:
            item_ids: a list, array or column of ids; whole numbers become their digits.

        Raises:
            KeyError: for unknown ids, naming the first ones.
            ValueError: for one string instead of a list, or values that are not ids.
        """
        ids = item_id_list(item_ids)
        try:
            # one call for all ids; itemgetter returns a tuple for two or more
            many = itemgetter(*ids)(self._rows) if len(ids) > 1 else map(self._rows.__getitem__, ids)
            return np.fromiter(many, dtype=np.int64, count=len(ids))
        except KeyError:
            unknown = [item for item in ids if item not in self]
        raise KeyError(
            f"{len(unknown)} of {len(ids)} item ids are not in the catalog of {len(self)} items: "
            f"{', '.join(map(repr, unknown[:5]))}"
            f"{' …' if len(unknown) > 5 else ''}; {self._alike(unknown)}check their spelling, or add them first"
        )

    def _alike(self, unknown: Sequence[str]) -> str:
        """Return a hint at an item whose id looks like an unknown one; "" if there is none."""
        sought = {_plain(item): item for item in unknown[:5] if not item.isascii() or item != item.strip()}
        for held in self.item_ids if sought else ():
            if (item := sought.get(_plain(held))) is not None:
                return f"{item!a} differs from {held!a} of the catalog only by blanks or its Unicode form; "
        return ""

    def __len__(self) -> int:
        return len(self.item_ids)

    def __contains__(self, item_id: object) -> bool:
        """Return whether the catalog has a row for `item_id`, removed or not."""
        text = item_id_text(item_id)
        return text is not None and text in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}


def _plain(item: str) -> str:
    return unicodedata.normalize("NFC", item.strip())


def describe_items(rows: ItemRows) -> str:
    """Return the numbers of items and of removed items of a catalog as text."""
    removed = int(rows.removed.sum())
    return f"{len(rows)} items" + (f", {removed} of them removed" if removed else "")


def describe_digest(rows: ItemRows) -> str:
    """Return the short catalog digest; for large catalogs only if it is cached, since it takes seconds."""
    if len(rows) > MANY and "digest" not in rows.__dict__:
        return "digest not computed yet"
    return f"digest {rows.digest[:12]}"


@dataclass(frozen=True, eq=False)
class ItemList(ItemRows):
    """Items of a recommender without semantic IDs; immutable.

    Attributes:
        item_ids: id of every row.
        removed: rows that are not recommended, bool `[N]`.
        titles: a title per row, if the licence of the data allows keeping them.
        vectors: frozen item vectors `[N, E]` float32, for models that take them as input.
    """

    item_ids: tuple[str, ...]
    removed: np.ndarray
    titles: tuple[str | None, ...] | None = None
    vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_ids(self.item_ids, rows=len(self.removed), titles=self.titles)
        if self.vectors is not None and len(self.vectors) != len(self.item_ids):
            raise ValueError(f"expected one vector per item, got {len(self.vectors)} for {len(self.item_ids)} items")

    def __repr__(self) -> str:
        vectors = "" if self.vectors is None else f", vectors of width {self.vectors.shape[1]}"
        return f"ItemList({describe_items(self)}{vectors}, {describe_digest(self)})"

    @cached_property
    def version(self) -> str:
        """Digest of all content in row order."""
        vectors = [] if self.vectors is None else [self.vectors]
        titles = None if self.titles is None else list(self.titles)
        return content_digest("cost_hf.items.1", list(self.item_ids), self.removed.astype(np.uint8), titles, *vectors)

    @cached_property
    def digest(self) -> str:
        """The catalog digest; without SIDs it equals `version`."""
        return self.version

    def with_items(
        self,
        item_ids: Sequence[str],
        *,
        vectors: np.ndarray | None = None,
        titles: Sequence[str | None] | None = None,
    ) -> "ItemList":
        """Return the list with new items appended in item_id order.

        Args:
            item_ids: ids of the items, n distinct ones that are not in the list.
            vectors: of the items, `[n, E]`; required if the list has vectors.
            titles: of the items, n of them.

        Raises:
            ValueError: for an id that is in the list or repeated, or vectors that are missing or of another width.
        """
        ids = item_id_list(item_ids, is_unique=True, is_stored=True)
        held = [item for item in ids if item in self]
        if held:
            raise ValueError(f"the list holds {held[0]!r} already ({len(held)} such ids); leave it out")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        given = None if titles is None else title_list(titles, ids)
        names = [None if given is None else given[index] for index in order]
        table = self.vectors
        if table is not None:
            table = np.concatenate([table, vectors_of_width(vectors, ids, width=table.shape[1])[order]])
        return replace(
            self,
            item_ids=(*self.item_ids, *(ids[index] for index in order)),
            removed=np.concatenate([self.removed, np.zeros(len(order), dtype=bool)]),
            titles=None if self.titles is None else (*self.titles, *names),
            vectors=table,
        )

    def restored(self, item_ids: Sequence[str]) -> "ItemList":
        """Return the list in which these removed items can be recommended again; raise KeyError for unknown ids."""
        return self._flagged(item_ids, False)

    def without_items(self, item_ids: Sequence[str]) -> "ItemList":
        """Return the list in which these items are not recommended; their rows stay. Raise KeyError for unknown ids."""
        return self._flagged(item_ids, True)

    def _flagged(self, item_ids: Sequence[str], is_removed: bool) -> "ItemList":
        removed = self.removed.copy()
        removed[self.rows_of(item_id_list(item_ids, is_ordered=False))] = is_removed
        return replace(self, removed=removed)

    def with_vectors(self, item_ids: Sequence[str], vectors: np.ndarray) -> "ItemList":
        """Return the list with other vectors `[n, E]` of some items."""
        if self.vectors is None:
            return self
        ids = item_id_list(item_ids, is_unique=True)
        table = self.vectors.copy()
        table[self.rows_of(ids)] = vectors_of_width(vectors, ids, width=table.shape[1])
        return replace(self, vectors=table)

    def save(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, vectors)."""
        columns = {"item_id": pa.array(self.item_ids, pa.string())}
        if self.titles is not None:
            columns["title"] = pa.array(self.titles, pa.string())
        with atomic_path(Path(directory) / f"{stem}.parquet", durable=True) as path:
            pq.write_table(pa.table(columns), path)
        tensors = {"removed": self.removed.astype(np.uint8)}
        if self.vectors is not None:
            tensors["vectors"] = np.ascontiguousarray(self.vectors, dtype=np.float32)
        with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
            save_file(tensors, path)

    @classmethod
    def load(cls, directory: str | Path, stem: str) -> "ItemList":
        """Read what `save` wrote; raise OSError for missing and ValueError for damaged files."""
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet")
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        if set(tensors) not in ({"removed"}, {"removed", "vectors"}):
            raise DamagedFileError(f"{source} holds {sorted(tensors)}, expected removed and vectors; copy it again")
        vectors = item_vectors(tensors.get("vectors"), rows=len(ids), source=source)
        check_ids(ids, rows=len(ids), titles=titles)
        return cls(ids, removed_flags(tensors["removed"], rows=len(ids), source=source), titles, vectors)
