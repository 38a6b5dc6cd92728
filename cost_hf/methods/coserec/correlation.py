"""The most similar item of every item, by clicks and by a model's item vectors (arXiv 2108.06479, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

ITEMS_PER_BLOCK = 1024


@dataclass(frozen=True)
class MostSimilar:
    """One other item for every item.

    Attributes:
        items: catalog rows, int64 `[N]`.
        scores: similarity of each, scaled to 0 at the least and 1 at the greatest of all pairs, fp32 `[N]`.
    """

    items: Tensor
    scores: Tensor


def by_clicks(train: Sequence[np.ndarray], num_items: int) -> MostSimilar:
    """Return the most similar items by ItemCF-IUF: users count less, the more items they have.

    `s(i, j) = Σ_u 1 / log(1 + |N_u|) / sqrt(|U_i| |U_j|)` over the users u who have both; most pairs have none, so the
    least similarity is 0. An item that shares no user with another one is its own most similar item, with score 0.

    Args:
        train: catalog rows of every training user.
        num_items: N.
    """
    users = [np.unique(rows) for rows in train if len(rows)]
    columns = np.concatenate(users) if users else np.empty(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(users)), [len(rows) for rows in users])
    weights = np.array([1 / np.log1p(len(rows)) for rows in users])
    has = csr_matrix((np.ones(len(columns)), (owners, columns)), shape=(len(users), num_items))
    counts = np.asarray(has.sum(0))[0]
    scaled = has.multiply(1 / np.sqrt(np.maximum(counts, 1))).tocsr()
    weighted = scaled.multiply(weights[:, None]).T.tocsr()  # [N, U]
    items = np.arange(num_items)
    scores = np.zeros(num_items)
    for start in range(0, num_items, ITEMS_PER_BLOCK):
        block = (weighted[start : start + ITEMS_PER_BLOCK] @ scaled).tolil()
        block.setdiag(0, k=start)
        found = block.tocsr()
        found.eliminate_zeros()
        filled = np.flatnonzero(np.diff(found.indptr))
        items[start + filled] = np.asarray(found.argmax(1))[filled, 0]
        scores[start + filled] = found.max(1).toarray()[filled, 0]
    greatest = scores.max(initial=0.0)
    return MostSimilar(
        torch.from_numpy(items), torch.from_numpy((scores / greatest if greatest else scores).astype(np.float32))
    )


@torch.no_grad()
def by_vectors(table: Tensor) -> MostSimilar:
    """Return the most similar items by the dot products of item vectors `[N, D]`, N at least 2."""
    vectors = table.detach().float()
    items = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    scores = torch.empty(len(vectors), device=vectors.device)
    least = scores.new_full((), torch.inf)
    for start in range(0, len(vectors), ITEMS_PER_BLOCK):
        part = slice(start, start + ITEMS_PER_BLOCK)
        products = vectors[part] @ vectors.T
        own = torch.arange(len(products), device=vectors.device)
        products[own, start + own] = torch.inf
        least = torch.minimum(least, products.min())
        products[own, start + own] = -torch.inf
        scores[part], items[part] = products.max(1)
    width = scores.max() - least
    return MostSimilar(items, (scores - least) / width if width > 0 else torch.zeros_like(scores))


def better_of(first: MostSimilar, second: MostSimilar) -> MostSimilar:
    """Return for every item the candidate with the higher score; the first one where both are equal."""
    is_first = first.scores >= second.scores
    return MostSimilar(torch.where(is_first, first.items, second.items), torch.maximum(first.scores, second.scores))
