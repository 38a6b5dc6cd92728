"""How often two items were clicked together: a sparse table of the training part, for losses over pairs of items."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

WINDOW = 5  # clicks apart; sessions of shops and news are hardly longer


def co_clicks(sequences: Sequence[np.ndarray], num_items: int, *, window: int = WINDOW) -> csr_matrix:
    """Return how often two different items are at most `window` clicks apart in a history.

    Args:
        sequences: catalog rows of every user, oldest first; those of the training part (`Split.train`), no others.
        num_items: N.
        window: largest distance that counts.

    Returns:
        Symmetric, int64 `[N, N]`, with an empty diagonal and sorted columns.

    Examples:
        >>> co_clicks([np.array([0, 1, 0, 2])], 4, window=1).toarray().tolist()
        [[0, 2, 1, 0], [2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    """
    rows = np.concatenate([np.asarray(part, dtype=np.int64) for part in sequences] or [np.zeros(0, dtype=np.int64)])
    user = np.repeat(np.arange(len(sequences)), [len(part) for part in sequences])
    table = csr_matrix((num_items, num_items), dtype=np.int64)
    for distance in range(1, window + 1):
        earlier = rows[:-distance]
        later = rows[distance:]
        counts = (user[:-distance] == user[distance:]) & (earlier != later)
        pairs = (earlier[counts], later[counts])
        table += csr_matrix((np.ones(len(pairs[0]), dtype=np.int64), pairs), shape=table.shape)
    table = (table + table.T).tocsr()
    table.sum_duplicates()
    return table
