"""Updates of a recommender's catalog: items are added, removed, changed and rolled back; weights stay as they are.

Writers hold a lock; readers need none, because a change is one assignment of a new `CatalogSnapshot`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Self

import numpy as np

from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.item_texts import TemplateTexts
from cost_hf.recommenders.catalog_changes import KEPT_VERSIONS, CatalogChange, Journal, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.rankers import training_clicks
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_ids import code_table, item_id_list, ordered_list, text_list, title_list, vector_table
from cost_hf.semantic_ids.item_list import ItemRows


class CatalogUpdates:
    """The present snapshot of a catalog and its updates; subclasses define how a new item enters it.

    Args:
        catalog: the items.
        popularity: training clicks of catalog rows, `[M]`; rows beyond M came after training and have none.
        encoder: gives new texts their vectors; None where vectors must be passed.
        journal: changes so far; the newest `catalog_changes.KEPT_CHANGES` are kept.
        versions: older catalogs, oldest first, that `rollback` may return to.
    """

    def __init__(
        self,
        catalog: ItemRows,
        *,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        self.encoder = encoder
        self.journal = (journal if isinstance(journal, Journal) else Journal(journal)).followed_by(())
        self.versions = tuple(versions)
        self._clicks = training_clicks(popularity)
        self._writing = threading.RLock()
        self.snapshot = self._snapshot_of(catalog)
        self._note_stored()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: one state of catalog, journal and versions, and no lock."""
        with self._writing:
            return {name: value for name, value in self.__dict__.items() if name != "_writing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` returned, with a lock of its own."""
        self.__dict__.update(state)
        self._writing = threading.RLock()

    @property
    def catalog(self) -> Any:
        """The items of the present snapshot."""
        return self.snapshot.catalog

    @property
    def popularity(self) -> np.ndarray:
        """Training clicks of every catalog row, `[N]`."""
        return self.snapshot.popularity

    @property
    def item_texts(self) -> ItemEncoder | TemplateTexts:
        """How the texts of items are made of their columns: as for the text encoder, of all text columns without one.

        A kind that has another model for texts says how theirs are made.
        """
        return TemplateTexts() if self.encoder is None else self.encoder

    @property
    def encodes_texts(self) -> bool:
        """Whether texts of items can be turned into vectors here."""
        return self.encoder is not None

    @property
    def needs_vectors(self) -> bool:
        """Whether a new item needs a vector, of which its text is one source; where not, its text is only its title."""
        return True

    def untitled(self, item_ids: Sequence[str], texts: Sequence[str]) -> list[str | None]:
        """Return what to show of items that come without titles.

        It is their texts. Where these are values for an encoder, it is the titles that the catalog has, or their ids.

        Args:
            item_ids: n ids.
            texts: n texts.
        """
        if self.encoder is None or self.encoder.options.shows_texts:
            return list(texts)
        catalog = self.catalog
        held = catalog.titles
        return [held[catalog.row_of(item)] if held and item in catalog else item for item in item_ids]

    def add_items(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str] | None = None,
        *,
        vectors: np.ndarray | None = None,
        codes: np.ndarray | None = None,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Add items, which can be recommended from the next request on; existing items stay as they are.

        An item that the catalog holds keeps its SID, title and columns, whatever its text; a removed one returns with
        its own. Arguments may be lists, arrays or columns of tables; they belong together by position.

        Args:
            item_ids: ids of the items, n of them, all different; whole numbers stand for their digits.
            texts: their texts, which the encoder of the catalog turns into vectors; or pass one of the next two.
            vectors: item vectors `[n, E]` of that encoder.
            codes: model-level codes `[n, L_model]`, for codes from elsewhere.
            titles: what to show; the texts by default, where the catalog holds titles.
            columns: values of the catalog's columns, n by name (a dict of lists, a DataFrame or an Arrow table); those
                of columns that it leaves out are missing.

        Raises:
            ValueError: for an invalid or repeated id, an empty text, a column that the catalog does not have, a vector
                that is not finite, an input that this recommender does not take, or a full catalog. Nothing has changed
                then.

        Examples:
            >>> from cost_hf.recommenders.example import example_recommender
            >>> recommender = example_recommender()
            >>> change = recommender.add_items(["mug"], ["mug for tea"])
            >>> change.action, change.item_ids
            ('add', ('mug',))
            >>> [answer.item_id for answer in recommender.recommend(["kettle"], allowed=["mug"])]
            ['mug']
        """
        self._require_encoder(by_codes=codes is not None)
        given = [name for name, part in (("texts", texts), ("vectors", vectors), ("codes", codes)) if part is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of texts, vectors and codes, got {given!r}; pass one of them")
        ids = item_id_list(item_ids, is_unique=True, is_stored=True)
        titles = None if titles is None else title_list(titles, ids)
        if texts is not None:
            texts = self._checked_texts(texts, ids)
            titles = self.untitled(ids, texts) if titles is None else titles
        if vectors is not None:
            vectors = vector_table(vectors, ids)
        if codes is not None:
            codes = code_table(codes)
            if len(codes) != len(ids):
                raise ValueError(f"expected one row of codes per item, got {len(codes)} for {len(ids)} items")
        with self._writing:
            before = self.catalog
            after = before.restored([item for item in ids if item in before])
            fresh = [place for place, item in enumerate(ids) if item not in before]
            if fresh:  # only they are encoded: adding a whole catalog again costs nothing
                if texts is not None and self.needs_vectors:
                    vectors = self._vectors_of([texts[place] for place in fresh])
                elif vectors is not None:
                    vectors = vectors[fresh]
                after = self._with_appended_items(
                    after,
                    [ids[place] for place in fresh],
                    vectors=vectors,
                    codes=None if codes is None else codes[fresh],
                    titles=None if titles is None or before.titles is None else [titles[place] for place in fresh],
                    texts=None if texts is None else [texts[place] for place in fresh],
                )
            if columns is not None:
                own = ItemColumns.of(columns)
                own.check_rows(len(ids))
                if fresh:
                    after = after.with_values([ids[place] for place in fresh], own.taken(fresh))
            new = [item for item in ids if item not in before or before.removed[before.row_of(item)]]
            return self._change("add", new, after)

    def add_items_to_train(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str],
        *,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Add items by `add_items` to a recommender that is trained on next.

        Kinds whose weights know items by their rows, which `add_items` refuses, get rows with fresh weights here.

        Args:
            item_ids, texts, titles, columns: as for `add_items`.

        Raises:
            ValueError: as `add_items`.
        """
        return self.add_items(item_ids, texts, titles=titles, columns=columns)

    def remove_items(self, item_ids: Sequence[str]) -> CatalogChange:
        """Stop recommending items; they stay valid in histories and keep their SIDs.

        Args:
            item_ids: a list, set, array or column of ids; whole numbers stand for their digits.

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for one string in place of a list, or an invalid id.
        """
        ids = list(dict.fromkeys(item_id_list(item_ids, is_ordered=False)))
        with self._writing:
            before = self.catalog
            removed = [ids[place] for place in np.flatnonzero(~before.removed[before.rows_of(ids)])]
            return self._change("remove", removed, before.without_items(removed))

    def update_items(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str] | None = None,
        *,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Change texts, titles and columns of items; SIDs stay.

        `would_differ` counts items whose new texts have other codes, on the levels whose codes come from texts alone:
        not on a last level where colliding items moved. Of a quantizer that read more than texts, the old and the new
        text are compared, which needs a catalog with vectors. Columns alone, such as stock and price, take milliseconds
        to change: what a search is made of does not depend on them.

        Args:
            item_ids: ids of the items, n of them.
            texts: their new texts; None leaves them.
            titles: what to show; the texts by default, where the catalog holds titles.
            columns: values of columns that the catalog has, n by name (a dict of lists, a DataFrame or an Arrow table),
                None for a missing one; types stay.

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for an empty text, none of texts, titles and columns, an invalid or repeated id, a column that
                the catalog does not have, or values of another type.

        Examples:
            >>> from cost_hf.recommenders.example import example_recommender
            >>> recommender = example_recommender()
            >>> change = recommender.update_items(["press", "teacup"], columns={"in_stock": [False, True]})
            >>> sorted(answer.item_id for answer in recommender.recommend(["kettle"], where={"in_stock": False}))
            ['filter', 'press']
        """
        ids = item_id_list(item_ids, is_unique=True)
        if texts is None and titles is None and columns is None:
            raise ValueError("expected texts, titles or columns of the items, got none; pass one of them")
        texts = None if texts is None else self._checked_texts(texts, ids)
        titles = None if titles is None else title_list(titles, ids)
        with self._writing:
            before = self.catalog
            before.rows_of(ids)
            after, would_differ = self._with_updated_texts(before, ids, texts) if texts else (before, 0)
            names = titles
            if titles is None and texts is not None and before.titles is not None:
                names = self.untitled(ids, texts)
            if names is not None:
                after = after.with_titles(ids, names)
            if columns is not None:
                after = after.with_values(ids, columns)
            return self._change("update", ids, after, would_differ=would_differ)

    def add_columns(self, item_ids: Sequence[str], columns: Any) -> CatalogChange:
        """Add columns to the catalog, or replace them by others of the same names; SIDs stay.

        Args:
            item_ids: ids of the items that have values, n of them; those of other items are missing.
            columns: n values by column name (a dict of lists, a DataFrame or an Arrow table), None for a missing one.

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for an invalid or repeated id, another number of values, or values of mixed types.

        Examples:
            >>> from cost_hf.recommenders.example import example_recommender
            >>> recommender = example_recommender()
            >>> change = recommender.add_columns(["kettle", "teapot"], {"colour": ["red", "blue"]})
            >>> recommender.catalog.columns
            ItemColumns(price: double, brand: string, in_stock: bool, colour: string)
        """
        ids = item_id_list(item_ids, is_unique=True)
        new = ItemColumns.of(columns)
        new.check_rows(len(ids))
        with self._writing:
            before = self.catalog
            own = new.over(ItemColumns(), before.rows_of(ids), len(before))
            return self._change("update", ids, before.with_columns(before.columns.with_columns(own)))

    def set_metadata(
        self,
        item_ids: Sequence[str],
        titles: Sequence[str | None] | None,
        columns: ItemColumns,
        *,
        without: Sequence[str] = (),
    ) -> CatalogChange:
        """Take titles and columns of an item table, for the present catalog and the older ones.

        Args:
            item_ids, titles, columns, without: as for `ItemRows.with_metadata`.

        Raises:
            KeyError: for an item that a catalog does not hold.
        """
        with self._writing:
            own: dict[str, Any] = {"titles": titles, "columns": columns, "without": without}
            change = self._change("update", item_ids, self.catalog.with_metadata(item_ids, **own))
            if change.item_ids:  # no older metadata is published either
                older = [version.load().with_metadata(item_ids, **own) for version in self.versions]
                versions = {catalog.stem: Version.held(catalog) for catalog in older}
                versions.pop(self.catalog.stem, None)
                self.versions = tuple(versions.values())
            return change

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Make several changes of the catalog take effect together, as one step of `rollback`; or none of them.

        The changes are made to the draft that the block is given. Requests read the present catalog until the block
        ends, and where it raises, nothing has changed. The journal has an entry for every change. New clicks
        (`update_from`) are no change of the catalog and are not part of it.

        Examples:
            >>> from cost_hf.recommenders.example import example_recommender
            >>> recommender = example_recommender()
            >>> with recommender.transaction() as draft:
            ...     added = draft.add_items(["mug"], ["mug for tea"])
            ...     removed = draft.remove_items(["teacup"])
            >>> [change.action for change in recommender.journal]
            ['add', 'remove']
            >>> recommender.rollback().item_ids  # both are undone
            ('teacup', 'mug')
        """
        with self._writing:
            draft = copy(self)
            yield draft
            before = self.catalog
            if draft.catalog.version != before.version:
                self.snapshot = draft.snapshot
                self.journal = draft.journal
                self.versions = (*self.versions, Version.held(before))[-KEPT_VERSIONS:]

    def rollback(self) -> CatalogChange:
        """Return to the catalog before the last change, or before the last `transaction`.

        The change that is returned names the items of those that it undoes, as far as the journal holds them.

        Raises:
            ValueError: where there is none.
        """
        with self._writing:
            if not self.versions:
                raise ValueError(
                    f"there is no older catalog to return to ({self.journal.total} changes so far; the last "
                    f"{KEPT_VERSIONS} catalogs are kept)"
                )
            *older, last = self.versions
            before = self.catalog
            after = last.load()
            undone = self._changes_between(after, before)
            ids = dict.fromkeys(item for change in undone for item in change.item_ids)
            more = sum(change.more for change in undone)
            change = CatalogChange.between("rollback", ids, before, after, more=more)
            self._take(after, change, older)
            return change

    def _change(self, action: str, item_ids: Sequence[str], after: ItemRows, *, would_differ: int = 0) -> CatalogChange:
        """Make `after` the present catalog and record the change, unless they are the same."""
        before = self.catalog
        if after.version == before.version:
            return CatalogChange.between(action, (), before, before, would_differ=would_differ)
        change = CatalogChange.between(action, item_ids, before, after, would_differ=would_differ)
        versions = (*self.versions, Version.held(before))
        self._take(after, change, versions[-KEPT_VERSIONS:])
        return change

    def version_after(self, count: int) -> str | None:
        """Return the version of the catalog after the first `count` changes.

        None where there were fewer changes, or where it is forgotten: the journal goes back only so far; beyond it, the
        version that was read or written last is known.
        """
        total, version = self._stored
        if count == total:
            return version
        place = count - self.journal.dropped
        if not self.journal or not 0 <= place <= len(self.journal):
            return None
        return self.journal[place - 1].after if place else self.journal[0].before

    def _note_stored(self) -> None:
        """Remember that the present catalog is that of a directory: it was read from there or written to it."""
        self._stored = (self.journal.total, self.catalog.version)

    def _changes_between(self, older: ItemRows, newer: ItemRows) -> list[CatalogChange]:
        """Return the changes of the journal that led from one catalog to another, the last one first."""
        found: list[CatalogChange] = []
        version = newer.version
        for change in reversed(self.journal):
            if version == older.version:
                break
            if change.action != "rollback" and change.after == version:
                found.append(change)
                version = change.before
        return found

    def _take(self, catalog: ItemRows, change: CatalogChange, versions: Sequence[Version]) -> None:
        # whatever can fail comes before the one assignment
        self.snapshot = self._next_snapshot(catalog)
        self.journal = self.journal.followed_by((change,))
        self.versions = tuple(versions)

    def _next_snapshot(self, catalog: ItemRows) -> CatalogSnapshot:
        """Return the snapshot of a catalog that comes after the present one; what depends on items alone is shared."""
        if catalog.items_version == self.catalog.items_version:
            return self.snapshot.with_columns(catalog.columns)
        return self._snapshot_of(catalog)

    def _require_encoder(self, *, by_codes: bool) -> None:
        """Raise ValueError where new items can't be added by codes, or (without `by_codes`) by texts and vectors."""

    def _snapshot_of(self, catalog: Any) -> CatalogSnapshot:
        """Return the snapshot of a catalog that requests read."""
        return CatalogSnapshot(catalog, self._clicks)

    def _with_appended_items(
        self,
        catalog: Any,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
        texts: Sequence[str] | None = None,
    ) -> Any:
        """Return the catalog with more items, none of which it holds.

        Args:
            catalog: grows.
            item_ids: n ids.
            vectors, codes, titles: of the items, where they are needed or given.
            texts: of the items; None where vectors or codes were given in their place.
        """
        raise NotImplementedError

    def _with_updated_texts(self, catalog: Any, item_ids: list[str], texts: Sequence[str]) -> tuple[Any, int]:
        """Return the catalog with the new texts of items, and how many of their codes would differ."""
        raise NotImplementedError

    def _checked_texts(self, texts: Sequence[str], item_ids: Sequence[str]) -> list[str]:
        """Return the texts of items as a list; raise ValueError for one that can't be the text of its item."""
        found = text_list(texts, item_ids)
        if self.needs_vectors and self.encoder is not None:
            self.encoder.check_texts(item_ids, found)
        return found

    def _listed_texts(self, texts: Sequence[str]) -> list[str]:
        """Return texts as a list; raise ValueError for none, and for what is no text."""
        found = ordered_list(texts, name="texts", what="texts")
        wrong = [text for text in found if not isinstance(text, str)]
        if wrong or not found:
            raise ValueError(f"expected texts, got {f'{wrong[0]!r:.80} among them' if wrong else 'none'}")
        return found

    def _vectors_of(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors of texts `[n, E]`; raise ValueError for anything but a list of texts."""
        return self._encoded(self._listed_texts(texts))

    def _encoded(self, texts: list[str]) -> np.ndarray:
        """Return vectors of texts `[n, E]`, by the text encoder unless a kind has a model for it."""
        if self.encoder is None:
            raise ValueError(
                "this recommender has no text encoder (a Hub copy without a licence of the data, or codes that were "
                "not made from texts); pass vectors or codes, or load the run directory"
            )
        return self.encoder.encode(texts)
