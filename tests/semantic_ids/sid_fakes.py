"""Small stand-ins for tests of semantic IDs: a quantizer with random codebooks, and ten-line reference versions."""

import numpy as np
import torch
from hypothesis import strategies as st


class FakeQuantizer:
    """Residual nearest-neighbour quantizer over random codebooks, duck-typed like a quantizer."""

    def __init__(self, level_sizes=(4, 4), *, dim=3, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.level_sizes = tuple(level_sizes)
        self.books = [torch.randn(size, dim, generator=generator) / 2**level for level, size in enumerate(level_sizes)]

    def level_vectors(self, level):
        return self.books[level]

    def level_distances(self, x, prefix):
        residual = x.double()
        for level in range(prefix.shape[1]):
            residual = residual - self.books[level][prefix[:, level]]
        return (residual[:, None] - self.books[prefix.shape[1]][None]).square().sum(-1)

    def encode(self, x):
        codes = torch.empty(len(x), 0, dtype=torch.long)
        for _ in self.level_sizes:
            codes = torch.cat([codes, self.level_distances(x, codes).argmin(1)[:, None]], 1)
        return codes


def names(count, prefix="item"):
    return [f"{prefix}-{number}" for number in range(count)]


@st.composite
def code_tables(draw, *, max_rows=30, levels=(1, 4), sizes=(1, 4)):
    """Codes `[N, L]` with many collisions, and the level sizes."""
    level_sizes = draw(st.lists(st.integers(*sizes), min_size=levels[0], max_size=levels[1]))
    row = st.tuples(*(st.integers(0, size - 1) for size in level_sizes))
    rows = draw(st.lists(row, min_size=1, max_size=max_rows))
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(level_sizes)), tuple(level_sizes)
