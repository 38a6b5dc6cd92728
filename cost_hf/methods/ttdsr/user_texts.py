"""Texts about users: a column of the interactions, or titles of the training part.

The paper's are preferences that a language model has written (arXiv 2409.09253); those texts are not published.
"""

from collections.abc import Sequence

import numpy as np

from cost_hf.data.cells import cell_words
from cost_hf.data.item_texts import item_titles
from cost_hf.data.prepare import PreparedData
from cost_hf.methods.ttdsr.options import UserOptions

SEPARATOR = "; "


def user_texts(data: PreparedData, options: UserOptions) -> list[str]:
    """Return a text for every training user, in their order.

    Titles are those of `profile_items`. Of a column the cell of the user's first training click is taken.

    Raises:
        ValueError: for a column that is not there, or items without titles.
    """
    if options.text_column is not None:
        return _first_cells(data, options.text_column)
    titles = item_titles(data.tables.items)
    if titles is None:
        raise ValueError(
            "the text of a user is made of the titles of items, and these have no column 'title'; name a column of "
            "the interactions as users.text_column"
        )
    profiles = profile_items(data.split.train, options)
    return [SEPARATOR.join(title for row in rows.tolist() if (title := titles[row])) for rows in profiles]


def profile_items(histories: Sequence[np.ndarray], options: UserOptions) -> list[np.ndarray]:
    """Return the items that the text of every user tells of, oldest first.

    They are the click of the cell, or the first clicks, half of the history at most, whose titles make the text. A
    prompt begins with a semantic ID that is made of this text, and these clicks are no targets after it: the model
    would learn to read its answers there.

    Args:
        histories: training clicks of every user, oldest first.
        options: section `users`.
    """
    if options.text_column is not None:
        return [rows[:1] for rows in histories]
    return [rows[: min(options.max_titles, len(rows) // 2)] for rows in histories]


def _first_cells(data: PreparedData, column: str) -> list[str]:
    interactions = data.tables.interactions
    if column not in interactions:
        raise ValueError(
            f"users.text_column must be a column of the interactions, got {column!r:.80}, found "
            f"{', '.join(map(str, interactions.columns))}; correct the name"
        )
    is_hidden = np.isin(interactions["item_row"].to_numpy(), data.split.cold_items)
    first = interactions.loc[~is_hidden].drop_duplicates("user_id").set_index("user_id")[column]
    return [cell_words(first[user]) for user in data.split.train_user_ids]
