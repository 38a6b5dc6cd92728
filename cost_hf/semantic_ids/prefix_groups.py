"""Groups of items whose semantic IDs begin alike, and random substitutes from them."""

import numpy as np


class PrefixGroups:
    """Items that share the first codes of their semantic IDs.

    Args:
        codes: of the catalog, `[N, L]`.
        prefix: codes that items of a group share, from 1 to L - 1.

    Raises:
        ValueError: for another prefix.

    Examples:
        >>> import numpy as np
        >>> from cost_hf.semantic_ids.prefix_groups import PrefixGroups
        >>> groups = PrefixGroups(np.array([[0, 1], [0, 2], [5, 0]]), prefix=1)
        >>> groups.others(np.array([0, 1, 2]), np.random.default_rng(0)).tolist()
        [1, 0, 2]
    """

    def __init__(self, codes: np.ndarray, *, prefix: int):
        levels = codes.shape[1]
        if not 1 <= prefix < levels:
            raise ValueError(
                f"prefix must be from 1 to {levels - 1} for semantic IDs of {levels} codes, got {prefix!r}"
            )
        _, group = np.unique(codes[:, :prefix], axis=0, return_inverse=True)
        group = group.reshape(-1)
        sizes = np.bincount(group)
        starts = np.cumsum(sizes) - sizes
        self._members = np.argsort(group, kind="stable")  # items, group by group
        self._start = starts[group]
        self._size = sizes[group]
        self._place = np.empty(len(codes), dtype=np.int64)  # of every item in its group
        self._place[self._members] = np.arange(len(codes)) - starts[group[self._members]]

    def others(self, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a random other item of the group of each item; itself where it is alone.

        Args:
            items: catalog rows of any shape.
            generator: of the draws.
        """
        size = self._size[items]
        place = self._place[items]
        drawn = (generator.random(np.shape(items)) * np.maximum(size - 1, 1)).astype(np.int64)
        drawn += drawn >= place  # steps over the item itself
        return self._members[self._start[items] + np.where(size > 1, drawn, place)]
