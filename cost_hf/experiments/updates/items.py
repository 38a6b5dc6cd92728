"""New items of an update enter the catalog of its recommender."""

import pandas as pd

from cost_hf.data.item_columns import changed_columns
from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.schema import empty_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.item_columns import TEXTS


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
