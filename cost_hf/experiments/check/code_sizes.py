"""Code sizes: how many levels and codes distinguish the items of this catalog.

Residual k-means on the leading 32 components of the item vectors stands in for the quantizer: it takes seconds, and
trained quantizers of the same size collide about as often. What counts is not the number of places (64^3 is 262,144,
and still too few for catalogs a tenth of that) but that texts crowd in few regions, so most places stay empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cost_hf.quantizers.cost import CostConfig
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.collisions import group_sizes

GRID = ((16, 3), (32, 3), (64, 3), (128, 3), (256, 4))  # codes a level, levels; fewer levels of each are read off
MIN_CODES = 64  # fewer where the catalog is too small: larger codebooks keep more of the neighbourhoods
MIN_LEVELS = 3
FIT_ITEMS = 16_384
PCA_DIM = 32
ITEMS_PER_CODE = 8  # a level needs this many different texts a code
MAX_COLLIDED = 0.25
MAX_COLLIDED_STAND_IN = 0.45  # on groups of letters, which distinguish fewer texts than an encoder


@dataclass(frozen=True)
class CodeSize:
    """What one choice of `codes.level_sizes` does to this catalog.

    Attributes:
        level_sizes: codes per level.
        places: product of the sizes.
        collided: share of items with distinct texts that share their codes with another text.
        largest_group: most items with the same codes, equal texts included.
    """

    level_sizes: tuple[int, ...]
    places: int
    collided: float
    largest_group: int

    def separates(self, most_collided: float, capacity: int) -> bool:
        """Return whether few texts collide (in whole percent) and every group fits the `capacity` of a code."""
        return round(self.collided, 2) <= most_collided and self.largest_group <= capacity


def measure_code_sizes(
    vectors: np.ndarray, texts: Sequence[str], *, also: Sequence[int] = (), seed: int = 0
) -> list[CodeSize]:
    """Return the collisions of a small grid of sizes, smallest first.

    Args:
        vectors: item vectors, `[N, E]`.
        texts: their texts; no size distinguishes equal ones and do not count as collisions.
        also: level sizes of a recipe, measured as well.
        seed: of k-means.
    """
    distinct = np.flatnonzero(~pd.Series(list(texts), dtype=object).duplicated().to_numpy())
    most = max(2, len(distinct) // ITEMS_PER_CODE)
    least = min(MIN_CODES, max((size for size, _ in GRID if size <= most), default=most))
    wanted = [(size,) * levels for size, levels in GRID if least <= size <= most] or [(most,) * MIN_LEVELS]
    if also and max(also) <= most and not any(tuple(also) == grid[: len(also)] for grid in wanted):
        wanted.append(tuple(also))
    found: dict[tuple[int, ...], CodeSize] = {}
    for sizes in wanted:
        codes = _codes(vectors, distinct, sizes, seed=seed)
        for levels in range(min(MIN_LEVELS, len(sizes)), len(sizes) + 1):
            found[sizes[:levels]] = code_size(codes[:, :levels], sizes[:levels], distinct)
    return sorted(found.values(), key=lambda size: (size.places, size.level_sizes))


def code_size(codes: np.ndarray, sizes: tuple[int, ...], distinct: np.ndarray) -> CodeSize:
    """Count the collisions of codes `[N, L]`; `distinct` are the rows of the first item of every text."""
    among_texts = group_sizes(codes[distinct], sizes)
    return CodeSize(
        sizes,
        places=int(np.prod(sizes, dtype=object)),
        collided=float((among_texts > 1).mean()),
        largest_group=int(group_sizes(codes, sizes).max()),
    )


def advised_size(sizes: Sequence[CodeSize], *, most_collided: float, capacity: int) -> CodeSize:
    """Return the smallest size that distinguishes the items.

    Where none does, the largest without a further level: one more makes every sequence longer, and does not help
    enough either.
    """
    separating = [size for size in sizes if size.separates(most_collided, capacity)]
    least_levels = min(len(size.level_sizes) for size in sizes)
    short = [size for size in sizes if len(size.level_sizes) == least_levels]
    return separating[0] if separating else min(short, key=lambda size: size.collided)


def _codes(vectors: np.ndarray, distinct: np.ndarray, sizes: tuple[int, ...], *, seed: int) -> np.ndarray:
    """Fit residual k-means to a sample of distinct texts and return the codes of all items, `[N, L]`."""
    sample = np.sort(np.random.default_rng(seed).permutation(distinct)[:FIT_ITEMS])
    table = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
    config = CostConfig(
        item_dim=table.shape[1], hidden_sizes=[], latent_dim=min(PCA_DIM, table.shape[1]), level_sizes=list(sizes)
    )
    return fit_rkmeans(table[torch.from_numpy(sample)], config, seed=seed).encode(table).numpy()
