"""New items of an update enter the catalog of its recommender."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cost_hf.data.errors import DataError
from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.schema import empty_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.reporting.words import plural
from cost_hf.semantic_ids.item_columns import TEXTS
from cost_hf.semantic_ids.item_list import ItemRows

SHOWN_IDS = 3


@dataclass(frozen=True, eq=False)
class NewItems:
    """Items that the catalog does not hold.

    Attributes:
        table: those that can be added, as `read_items` returns them.
        texts: one for each of them.
        without_text: ids of those that are left out, because they have no text.
    """

    table: pd.DataFrame
    texts: Sequence[str]
    without_text: Sequence[str] = ()

    @classmethod
    def of(cls, recommender: Recommender, items: pd.DataFrame, *, drops_empty: bool) -> "NewItems":
        """Return the new ones among some items.

        Args:
            recommender: whose catalog and text template decide.
            items: as `read_items` returns them.
            drops_empty: whether items without text are left out.

        Raises:
            DataError: for an item without text that is not to be left out, or without a column of the text template.
        """
        new = items.loc[[item not in recommender.catalog for item in items["item_id"]]].reset_index(drop=True)
        if new.empty:
            return cls(new, [])
        encoder = recommender.encoder
        texts = encoder.render(new) if encoder is not None else render_texts(new, None)
        is_empty = empty_texts(new, texts, drops=True)
        without_text = new.loc[is_empty, "item_id"].tolist()
        if without_text and not drops_empty:
            is_one = len(without_text) == 1
            raise DataError(
                f"{plural(len(without_text), 'new item')} {'has' if is_one else 'have'} no text "
                f"({shown_ids(without_text)}); fill a field of the run's vectors.template, or leave "
                f"{'it' if is_one else 'them'} out with --data '{{on_empty_text: drop}}'"
            )
        kept = [text for text, lacks in zip(texts, is_empty, strict=True) if not lacks]
        return cls(new.loc[~is_empty].reset_index(drop=True), kept, without_text)

    @property
    def ids(self) -> list[str]:
        """Ids of the items that can be added."""
        return self.table["item_id"].tolist()


def shown_ids(ids: Sequence[str]) -> str:
    """Return the first of some ids, for a message."""
    return ", ".join(map(repr, ids[:SHOWN_IDS])) + (", ..." if len(ids) > SHOWN_IDS else "")


def take_later_changes(trained: Recommender, started: ItemRows, present: ItemRows) -> None:
    """Make the changes in the catalog of a new model that were made to the served one while it was trained.

    Args:
        trained: of the new model; its catalog begins with the items of `started`.
        started: catalog that the update began with.
        present: that is served now.

    Raises:
        ValueError: for changes of items or texts, which the new model has not been trained with.
    """
    is_restored = len(started) == len(present) and (started.removed & ~present.removed).any()
    if is_restored or _without_flags(started) != _without_flags(present):
        raise ValueError(
            "items of the served catalog were added, restored, or got other texts while this update was trained, which "
            "would be lost; the run is as it was, start the update again"
        )
    ids = list(present.item_ids)
    trained.set_metadata(ids, None if present.titles is None else list(present.titles), present.columns)
    gone = [item for item, is_removed in zip(ids, present.removed, strict=True) if is_removed]
    if gone:
        trained.remove_items(gone)


def _without_flags(catalog: Any) -> str:
    """Return the digest of what a catalog holds besides titles, columns and removals."""
    bare = catalog.without_metadata()
    return bare.restored(list(bare.item_ids)).items_version


def add_new_items(recommender: Recommender, new: NewItems) -> list[str]:
    """Add items with those of their columns that the catalog has; return their ids.

    Args:
        recommender: is trained on next.
        new: what is added.

    Raises:
        ValueError: where the recommender has no text encoder and needs one.
    """
    ids = new.ids
    if not ids:
        return []
    held = recommender.catalog.columns
    columns = changed_columns(
        new.table[[name for name in new.table.columns if name in held.names]], held.of_kind(TEXTS)
    )
    recommender.add_items_to_train(
        ids,
        new.texts,
        titles=item_titles(new.table),
        columns=columns if columns.num_columns else None,
    )
    return ids
