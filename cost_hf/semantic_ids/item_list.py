"""Items by row and id: the base of all catalogs, and the list of items for models without semantic IDs.

What is known of items besides, titles and columns, is their metadata: it is shown and filtered by, and no model reads
it from here.
"""

import unicodedata
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from cost_hf.files import DamagedFileError, atomic_path, content_digest, read_tensors
from cost_hf.semantic_ids.catalog_files import item_vectors, read_item_columns, removed_flags
from cost_hf.semantic_ids.catalog_tables import write_table
from cost_hf.semantic_ids.growing_rows import with_rows
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_ids import check_ids, item_id_list, item_id_text, title_list, vectors_of_width

MANY = 100_000  # rows
COLUMNS_SUFFIX = ".columns.parquet"


class ItemRows:
    """Lookup of rows by item id: the base of `Catalog` and `ItemList`.

    Attributes:
        item_ids: id of every row.
        titles: a title per row, or None.
        removed: rows that are not recommended, bool `[N]`.
        columns: values of every row, such as its price, for filters.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str | None, ...] | None
    removed: np.ndarray
    columns: ItemColumns
    items_version: Any  # digest of all content but the columns; a cached property of subclasses
    digest: Any  # the catalog digest, without columns; likewise

    @cached_property
    def version(self) -> str:
        """Digest of all content: that of `items_version`, and the columns where there are any."""
        if not self.columns.names:
            return self.items_version
        return content_digest("cost_hf.catalog_with_columns.1", self.items_version, self.columns.digest)

    @property
    def stem(self) -> str:
        """Name of this version: the digests of its two parts, which are files of their own."""
        columns = f"-{self.columns.digest[:16]}" if self.columns.names else ""
        return f"catalog-{self.items_version[:16]}{columns}"

    def save_items(self, directory: str | Path, stem: str) -> None:
        """Write the files of all but the columns, `<stem>.parquet` and `<stem>.safetensors`."""
        raise NotImplementedError

    @classmethod
    def load_items(cls, directory: str | Path, stem: str) -> Self:
        """Read what `save_items` wrote; raise OSError or ValueError for missing or damaged files."""
        raise NotImplementedError

    def save(self, directory: str | Path, stem: str = "catalog") -> None:
        """Write `<stem>.safetensors`, `<stem>.parquet` and, where there are columns, `<stem>.columns.parquet`.

        Equal catalogs give equal bytes.
        """
        columns = Path(directory) / f"{stem}{COLUMNS_SUFFIX}"
        columns.unlink(missing_ok=True)  # of another catalog, which had columns
        self.columns.save(columns)
        self.save_items(directory, stem)

    @classmethod
    def load(cls, directory: str | Path, stem: str = "catalog") -> Self:
        """Read what `save` wrote; raise FileNotFoundError for missing and ValueError for damaged files."""
        items = cls.load_items(directory, stem)
        columns = Path(directory) / f"{stem}{COLUMNS_SUFFIX}"
        return items.with_columns(ItemColumns.read(columns, rows=len(items))) if columns.is_file() else items

    def with_columns(self, columns: Any) -> Self:
        """Return the same rows with these columns and no others.

        Args:
            columns: a mapping of names to one value a row, a DataFrame or an Arrow table, as for `ItemColumns.of`.

        Raises:
            ValueError: for another number of values, or values of mixed types.

        Examples:
            >>> from cost_hf import Catalog
            >>> catalog = Catalog.from_codes(["lamp", "desk"], [[0], [1]], level_sizes=(2,))
            >>> catalog.with_columns({"price": [30, 120], "brand": ["Hay", None]}).columns
            ItemColumns(price: int64, brand: string)
        """
        own = ItemColumns.of(columns)
        own.check_rows(len(self))
        other = copy(self)  # what was computed of the rows stays known
        object.__setattr__(other, "columns", own)
        other.__dict__.pop("version", None)
        return other

    def with_values(self, item_ids: Sequence[str], values: Any) -> Self:
        """Return the same rows with other values of some items in columns that the catalog has.

        Args:
            item_ids: n different ids.
            values: n values by column name, None for a missing one.

        Raises:
            KeyError: for an unknown item.
            ValueError: for a column that the catalog does not have, or values of another type.
        """
        return self.with_columns(self.columns.with_values(self.rows_of(item_ids), values))

    def with_metadata(
        self,
        item_ids: Sequence[str],
        titles: Sequence[str | None] | None,
        columns: ItemColumns,
        *,
        without: Sequence[str],
    ) -> Self:
        """Return the same rows with the metadata of an item table.

        Args:
            item_ids: of the table, n different ones of this catalog.
            titles: of these items; None where the table has none.
            columns: of these items. Other items keep their values in columns of the same type.
            without: columns that the catalog keeps no longer; others that the table does not have stay.

        Raises:
            KeyError: for an unknown item.
        """
        other = self
        if titles is not None or self.titles is not None:
            other = self.with_titles(item_ids, [None] * len(item_ids) if titles is None else titles)
        own = columns.over(self.columns, self.rows_of(item_ids), len(self))
        # in the order of a catalog of the table
        return other.with_columns(own.with_columns(self.columns.without([*without, *own.names])))

    def with_titles(self, item_ids: Sequence[str], titles: Sequence[str | None]) -> Self:
        """Return the same rows with other titles of some items."""
        ids = item_id_list(item_ids, is_unique=True)
        names = list(self.titles or [None] * len(self))
        for row, title in zip(self.rows_of(ids).tolist(), title_list(titles, ids), strict=True):
            names[row] = title
        return replace(self, titles=tuple(names))  # type: ignore[type-var]

    def without_metadata(self) -> Self:
        """Return the same rows without titles and columns."""
        return replace(self, titles=None, columns=ItemColumns())  # type: ignore[type-var]

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
        columns: values of every row, such as its price, likewise only where the licence allows it.
    """

    item_ids: tuple[str, ...]
    removed: np.ndarray
    titles: tuple[str | None, ...] | None = None
    vectors: np.ndarray | None = None
    columns: ItemColumns = field(default_factory=ItemColumns)

    def __post_init__(self) -> None:
        check_ids(self.item_ids, rows=len(self.removed), titles=self.titles)
        self.columns.check_rows(len(self.item_ids))
        if self.vectors is not None and len(self.vectors) != len(self.item_ids):
            raise ValueError(f"expected one vector per item, got {len(self.vectors)} for {len(self.item_ids)} items")

    def __repr__(self) -> str:
        vectors = "" if self.vectors is None else f", vectors of width {self.vectors.shape[1]}"
        return f"ItemList({describe_items(self)}{vectors}, {describe_digest(self)})"

    @cached_property
    def items_version(self) -> str:
        """Digest of all content but the columns, in row order."""
        vectors = [] if self.vectors is None else [self.vectors]
        titles = None if self.titles is None else list(self.titles)
        return content_digest("cost_hf.items.1", list(self.item_ids), self.removed.astype(np.uint8), titles, *vectors)

    @cached_property
    def digest(self) -> str:
        """The catalog digest; without SIDs it equals `items_version`."""
        return self.items_version

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
            table = with_rows(table, vectors_of_width(vectors, ids, width=table.shape[1])[order])
        return replace(
            self,
            item_ids=(*self.item_ids, *(ids[index] for index in order)),
            removed=np.concatenate([self.removed, np.zeros(len(order), dtype=bool)]),
            titles=None if self.titles is None else (*self.titles, *names),
            vectors=table,
            columns=self.columns.extended(len(order)),
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

    def save_items(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, vectors)."""
        columns = {"item_id": pa.array(self.item_ids, pa.string())}
        if self.titles is not None:
            columns["title"] = pa.array(self.titles, pa.string())
        with atomic_path(Path(directory) / f"{stem}.parquet", durable=True) as path:
            write_table(path, columns)
        tensors = {"removed": self.removed.astype(np.uint8)}
        if self.vectors is not None:
            tensors["vectors"] = np.ascontiguousarray(self.vectors, dtype=np.float32)
        with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
            save_file(tensors, path)

    @classmethod
    def load_items(cls, directory: str | Path, stem: str) -> "ItemList":
        """Read what `save_items` wrote; raise OSError for missing and ValueError for damaged files."""
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        if set(tensors) not in ({"removed"}, {"removed", "vectors"}):
            raise DamagedFileError(f"{source} holds {sorted(tensors)}, expected removed and vectors; copy it again")
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet", rows=tensors["removed"].size)
        vectors = item_vectors(tensors.get("vectors"), rows=len(ids), source=source)
        check_ids(ids, rows=len(ids), titles=titles)
        return cls(ids, removed_flags(tensors["removed"], rows=len(ids), source=source), titles, vectors)
