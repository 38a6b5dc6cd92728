"""What an update of a catalog will change: tables compared with the catalog, before anything is written.

A row that can't be applied (an item without text, an id that the catalog does not hold, a value that does not fit its
column) is skipped and listed. Texts are compared by what the catalog keeps of them: titles, and the columns that the
template of the texts names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles
from cost_hf.data.schema import empty_texts
from cost_hf.hub.column_values import fitting_values, is_misfit
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.semantic_ids.item_columns import TEXTS, TITLE

NO_TEXT = "no text"
UNKNOWN = "not in the catalog"
UNSUPPORTED = "this recommender takes no new items without training"
SHOWN_ROWS = 5
REPORTED = "reported"  # what becomes of known items whose texts or columns differ
UPDATED = "updated"
# of a summary: ids by what happens to the items
ITEM_LISTS = ("added", "restored", "texts_changed", "columns_changed", "not_compared", "values_changed", "removed")


@dataclass(frozen=True)
class SkippedRow:
    """A row that is not applied.

    Attributes:
        table: `items`, `values` or `remove`.
        row: 0-based, as read.
        item_id: of the row.
        reason: why.
        column: whose value does not fit; None for another reason.
        value: what the row has there, as text.
    """

    table: str
    row: int
    item_id: str
    reason: str
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        """Return the row in a few words."""
        return f"{self.table}, row {self.row} (item_id {self.item_id!r:.80}): {self.reason}"


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Items of a table with what a recommender takes of them, by position.

    Attributes:
        ids: n ids.
        texts: n texts.
        titles: n titles.
        columns: values of columns that the catalog keeps; None where the table has none of them.
        new: positions of items that the catalog does not hold or has removed.
        texts_changed: positions of known items whose title or text differs.
        columns_changed: positions of known items whose values of other columns differ.
        not_compared: positions of known items whose texts may differ in columns that the catalog does not keep.
    """

    ids: list[str]
    texts: list[str]
    titles: Sequence[str | None]
    columns: pa.Table | None
    new: list[int]
    texts_changed: list[int]
    columns_changed: list[int]
    not_compared: list[int]

    @property
    def touched(self) -> set[str]:
        """Ids of the items that are new or may be changed."""
        return set(self.ids_at([*self.new, *self.texts_changed, *self.columns_changed, *self.not_compared]))

    def ids_at(self, places: Sequence[int]) -> list[str]:
        """Return the ids at some positions."""
        return [self.ids[place] for place in places]

    def columns_at(self, places: Sequence[int]) -> pa.Table | None:
        """Return the values at some positions."""
        return None if self.columns is None else self.columns.take(places)


@dataclass(frozen=True, eq=False)
class UpdatePlan:
    """The changes of an update.

    Attributes:
        items: items to add, and known ones; None without a table of them.
        known_items: whether known items that differ are `updated` or only `reported`.
        uncompared_columns: columns of the texts that the catalog does not keep.
        ignored_columns: columns of the items that the catalog does not have.
        values: `item_id` and new values of columns, of items for which they differ; None for none.
        remove: items to recommend no longer.
        skipped: rows that are not applied.
    """

    items: ItemTable | None = None
    known_items: str = REPORTED
    uncompared_columns: list[str] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    values: pd.DataFrame | None = None
    remove: list[str] = field(default_factory=list)
    skipped: list[SkippedRow] = field(default_factory=list)

    def item_lists(self, recommender: Recommender) -> dict[str, list[str]]:
        """Return ids by what happens to them, for a recommender before the update."""
        found: dict[str, list[str]] = {name: [] for name in ITEM_LISTS}
        if self.items is not None:
            ids = self.items.ids_at(self.items.new)
            found["added"] = [item for item in ids if item not in recommender.catalog]
            found["restored"] = [item for item in ids if item in recommender.catalog]
            for name in ("texts_changed", "columns_changed", "not_compared"):
                found[name] = self.items.ids_at(getattr(self.items, name))
        if self.values is not None:
            found["values_changed"] = self.values["item_id"].tolist()
        return found | {"removed": self.remove}

    def apply(self, recommender: Recommender) -> list[CatalogChange]:
        """Make the changes in memory, all of them or none, as one step of `rollback`.

        Raises:
            ValueError: where one is not possible, such as a full catalog or values of another type.
        """
        with recommender.transaction() as draft:
            changes = [] if self.items is None else _apply_items(draft, self.items, updates=self.known_items == UPDATED)
            if self.values is not None:
                changes.append(
                    draft.update_items(self.values["item_id"].tolist(), columns=_columns(draft, self.values))
                )
            if self.remove:
                changes.append(draft.remove_items(self.remove))
        return [change for change in changes if change.item_ids]


def _apply_items(draft: Recommender, items: ItemTable, *, updates: bool) -> list[CatalogChange]:
    changes = []
    if items.new:
        changes.append(
            draft.add_items(
                items.ids_at(items.new),
                [items.texts[place] for place in items.new],
                titles=[items.titles[place] for place in items.new],
                columns=items.columns_at(items.new),
            )
        )
    encoded = sorted({*items.texts_changed, *items.not_compared}) if updates else []
    if encoded:
        changes.append(
            draft.update_items(
                items.ids_at(encoded),
                [items.texts[place] for place in encoded],
                titles=[items.titles[place] for place in encoded],
                columns=items.columns_at(encoded),
            )
        )
    others = [place for place in items.columns_changed if updates and place not in set(encoded)]
    if others:
        changes.append(draft.update_items(items.ids_at(others), columns=items.columns_at(others)))
    return changes


class Planner:
    """Compares tables with the catalog of a recommender.

    Args:
        recommender: before the update.
        decimal: mark of numbers in text.
    """

    def __init__(self, recommender: Recommender, *, decimal: str = "."):
        self.recommender = recommender
        self.decimal = decimal
        self.catalog = recommender.catalog
        self.skipped: list[SkippedRow] = []
        self._removed = {self.catalog.item_ids[row] for row in np.flatnonzero(self.catalog.removed)}

    def items(self, items: pd.DataFrame, *, skips_new: bool) -> tuple[ItemTable, list[str], list[str]]:
        """Compare a table of items.

        Args:
            items: `item_id`, text columns and others.
            skips_new: skip new items of a recommender that takes none, which is an error otherwise.

        Returns:
            the items; the columns of their texts that the catalog does not keep; other columns that it does not have.

        Raises:
            DataError: for a table without a column of the template.
            ValueError: for new items that the recommender can't take, or a column of another type.
        """
        # first of all, since a column of numbers that is read as text would be part of the texts
        items, kept = self._fitting("items", items)
        made = self.recommender.item_texts
        texts = np.array(made.render(items), dtype=object)
        is_empty = kept & empty_texts(items, texts.tolist(), drops=True)
        kept &= ~is_empty
        is_new = ~self._is_held(items["item_id"]) | items["item_id"].isin(self._removed).to_numpy()
        takes_texts = "texts" in self.recommender.new_item_inputs
        if (is_new & kept).any() and not takes_texts and not skips_new:
            raise ValueError(
                "this recommender has no text encoder (codes from elsewhere, ids alone, or a Hub copy without a "
                "licence of the data); load the run directory, or use add_items with vectors or codes in Python"
            )
        self._skip("items", items, is_empty, NO_TEXT)
        if not takes_texts:
            self._skip("items", items, is_new & kept, UNSUPPORTED)
            kept &= ~is_new
        held = self.catalog.columns.names
        fields = made.text_columns(items)
        unknown = [name for name in fields if name not in held and (name != TITLE or self.catalog.titles is None)]
        ignored = [str(name) for name in items.columns if name not in ("item_id", TITLE, *held, *fields)]
        return self._compared(items.loc[kept], texts[kept].tolist(), fields, bool(unknown)), unknown, ignored

    def values(self, values: pd.DataFrame, items: ItemTable | None) -> pd.DataFrame | None:
        """Return the rows whose values are to be changed, after these items were; None for none.

        Raises:
            ValueError: for titles, a column that the catalog does not have, or a column of another type.
        """
        if TITLE in values:
            raise ValueError("values come without titles; give titles and texts as items to update")
        for name in values.columns.drop("item_id"):
            self.catalog.columns.require(name, what="the table of values")
        values, kept = self._fitting("values", values)
        values = values.loc[kept]
        is_held = self._is_held(values["item_id"])
        touched = set() if items is None else items.touched
        is_touched = values["item_id"].isin(touched).to_numpy()
        self._skip("values", values, ~is_held & ~is_touched, UNKNOWN)
        held = values.loc[is_held]
        is_changed = is_touched.copy()
        if len(held):
            rows = self.catalog.rows_of(held["item_id"].tolist())
            found = self.catalog.columns.differing(rows, _columns(self.recommender, held))
            is_changed[is_held] |= np.logical_or.reduce([np.zeros(len(held), dtype=bool), *found.values()])
        return values.loc[is_changed] if is_changed.any() else None

    def removals(self, remove: pd.DataFrame, items: ItemTable | None) -> list[str]:
        """Return the items of a table that are to be removed, after these items were added."""
        added = set() if items is None else set(items.ids_at(items.new))
        is_added = remove["item_id"].isin(added).to_numpy()
        is_held = self._is_held(remove["item_id"])
        self._skip("remove", remove, ~is_held & ~is_added, UNKNOWN)
        kept = is_added | (is_held & ~remove["item_id"].isin(self._removed).to_numpy())
        return list(dict.fromkeys(remove.loc[kept, "item_id"]))

    def gone(self, items: pd.DataFrame) -> list[str]:
        """Return the items of the catalog that a table of the whole catalog does not name."""
        named = set(items["item_id"])
        present = np.flatnonzero(~self.catalog.removed)
        return [item for row in present if (item := self.catalog.item_ids[row]) not in named]

    def emptied(self, items: ItemTable) -> dict[str, int]:
        """Return how many present items lose their value, by column; columns that lose none are left out.

        Args:
            items: a table of the whole catalog.
        """
        places = [place for place, item in enumerate(items.ids) if item in self.catalog and item not in self._removed]
        if items.columns is None or not places:
            return {}
        rows = self.catalog.rows_of(items.ids_at(places))
        lost = {}
        for name, values in items.columns.take(places).to_pydict().items():
            held = self.catalog.columns.arrays[name].take(pa.array(rows)).is_valid().to_numpy(zero_copy_only=False)
            lost[name] = int((held & np.array([value is None for value in values])).sum())
        return {name: number for name, number in lost.items() if number}

    def _compared(self, items: pd.DataFrame, texts: list[str], fields: Sequence[str], is_partial: bool) -> ItemTable:
        """Return the usable rows of a table; `is_partial` where some columns of the texts can't be compared."""
        ids = items["item_id"].tolist()
        titles = item_titles(items) or self.recommender.untitled(ids, texts)
        held = [name for name in items.columns if name in self.catalog.columns.names]
        columns = changed_columns(items[held], self.catalog.columns.of_kind(TEXTS)) if held else None
        # removed items are in the catalog, too: they return, and may have changed meanwhile
        known = np.flatnonzero(self._is_held(items["item_id"]))
        known_ids = [ids[place] for place in known]
        is_text_changed = self._differing_titles(known_ids, [titles[place] for place in known])
        is_column_changed = np.zeros(len(known), dtype=bool)
        if columns is not None and len(known):
            rows = self.catalog.rows_of(known_ids)
            for name, differs in self.catalog.columns.differing(rows, columns.take(known)).items():
                if name in fields:
                    is_text_changed |= differs
                else:
                    is_column_changed |= differs
        return ItemTable(
            ids=ids,
            texts=texts,
            titles=titles,
            columns=columns,
            new=[place for place, item in enumerate(ids) if item in self._removed or item not in self.catalog],
            texts_changed=known[is_text_changed].tolist(),
            columns_changed=known[is_column_changed].tolist(),
            not_compared=known[~is_text_changed].tolist() if is_partial else [],
        )

    def _differing_titles(self, ids: list[str], titles: Sequence[str | None]) -> np.ndarray:
        held = self.catalog.titles
        if held is None:
            return np.zeros(len(ids), dtype=bool)
        rows = self.catalog.rows_of(ids).tolist()
        pairs = zip(rows, titles, strict=True)
        return np.fromiter((held[row] != title for row, title in pairs), dtype=bool, count=len(ids))

    def _is_held(self, ids: pd.Series) -> np.ndarray:
        """Return which items the catalog holds, removed or not, bool `[n]`."""
        return np.fromiter((item in self.catalog for item in ids), dtype=bool, count=len(ids))

    def _fitting(self, table: str, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """Return a table in the types of the catalog, and its rows without a value that does not fit, bool `[n]`."""
        fitting, misfits = fitting_values(frame, self.catalog.columns, table=table, decimal=self.decimal)
        for misfit in misfits:
            row = int(frame.index[misfit.place])
            item = frame["item_id"].iloc[misfit.place]
            self.skipped.append(SkippedRow(table, row, item, misfit.reason, misfit.column, str(misfit.value)))
        return fitting, ~is_misfit(misfits, len(frame))

    def _skip(self, table: str, frame: pd.DataFrame, is_skipped: np.ndarray, reason: str) -> None:
        skipped = frame.loc[is_skipped, "item_id"]
        self.skipped += [SkippedRow(table, int(row), item, reason) for row, item in skipped.items()]


def skipped_text(skipped: Sequence[SkippedRow]) -> str:
    """Return the first skipped rows in one line."""
    shown = "; ".join(map(str, skipped[:SHOWN_ROWS]))
    count = len({(row.table, row.row) for row in skipped})  # a row may have several values that do not fit
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return f"{rows}: {shown}{'; …' if len(skipped) > SHOWN_ROWS else ''}"


def _columns(recommender: Recommender, values: pd.DataFrame) -> Any:
    return changed_columns(values, recommender.catalog.columns.of_kind(TEXTS))
