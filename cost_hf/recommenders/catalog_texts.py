"""Items as a catalog keeps them: as a table, and as the texts that an item encoder reads."""

from collections.abc import Sequence

import pandas as pd

from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.item_columns import TITLE


def catalog_items(recommender: Recommender, rows: Sequence[int]) -> pd.DataFrame:
    """Return items of a catalog as a table: `item_id`, `title` where the catalog has titles, and its columns.

    Args:
        rows: of the catalog, n of them.
    """
    catalog = recommender.catalog
    frame = pd.DataFrame({"item_id": [catalog.item_ids[row] for row in rows]})
    if catalog.titles is not None:
        frame[TITLE] = [catalog.titles[row] for row in rows]
    for name, array in catalog.columns.taken(list(rows)).arrays.items():
        frame[name] = array.to_pandas().to_numpy(dtype=object)
    return frame


def catalog_texts(recommender: Recommender, rows: Sequence[int]) -> list[str]:
    """Return the texts of items, made of what the catalog keeps.

    Args:
        rows: of the catalog, n of them.

    Raises:
        DataError: where the catalog does not keep all that texts are made of.
    """
    frame = catalog_items(recommender, rows)
    return recommender.item_texts.render(frame)
