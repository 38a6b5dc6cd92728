"""New items of an update enter the catalog of its recommender."""

from typing import Any

import pandas as pd

from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.schema import empty_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.item_columns import TEXTS
from cost_hf.semantic_ids.item_list import ItemRows


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


def add_new_items(recommender: Recommender, items: pd.DataFrame) -> list[str]:
    """Add the items that the catalog does not hold, with their columns that it has; return their ids.

    Args:
        recommender: is trained on next.
        items: as `read_items` returns them.

    Raises:
        DataError: for an item without text, or without a column of the text template.
        ValueError: where the recommender has no text encoder and needs one.
    """
    new = items.loc[[item not in recommender.catalog for item in items["item_id"]]].reset_index(drop=True)
    if new.empty:
        return []
    encoder = recommender.encoder
    texts = encoder.render(new) if encoder is not None else render_texts(new, None)
    empty_texts(new, texts, drops=False)
    held = recommender.catalog.columns
    columns = changed_columns(new[[name for name in new.columns if name in held.names]], held.of_kind(TEXTS))
    ids = new["item_id"].tolist()
    recommender.add_items_to_train(
        ids, texts, titles=item_titles(new) or texts, columns=columns if columns.num_columns else None
    )
    return ids
