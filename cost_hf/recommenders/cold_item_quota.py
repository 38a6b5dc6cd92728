"""A quota of cold items in a list: a trained model ranks items low that it has never seen.

TIGER (arXiv 2305.05065) lets at most a share epsilon of a list be unseen items and leaves open how they are ordered and
merged. Here a share of the first r places, for every r, is reserved for cold items, best first by the model's scores;
cold items that the model ranks high anyway count towards it.
"""

import math
from collections import deque

import torch

from cost_hf.recommenders.rankers import Ranking
from cost_hf.search.certificate import Certificate


def num_cold_items(share: float, length: int) -> int:
    """Return how many of the first `length` places a share reserves."""
    return math.floor(share * length + 1e-9)


def with_cold_item_quota(ranking: Ranking, cold: Ranking, share: float) -> Ranking:
    """Return the ranking whose first r places hold `num_cold_items(share, r)` cold items, as far as there are any.

    Args:
        ranking: of all items, `[B, R]`.
        cold: of the cold items alone, `[B, C]`.
        share: of cold items.
    """
    certificate = None
    if ranking.certificate is not None and cold.certificate is not None:
        certificate = _merged_certificate(ranking.certificate, cold.certificate, ranking, cold)
    items, scores = ranking.items.clone(), ranking.scores.clone()
    for line in range(len(items)):
        pairs = _merged(_pairs(ranking, line), _pairs(cold, line), share, items.shape[1])
        items[line, : len(pairs)] = torch.tensor([item for item, _ in pairs], dtype=items.dtype)
        scores[line, : len(pairs)] = torch.tensor([score for _, score in pairs], dtype=scores.dtype)
    return Ranking(items, scores, certificate)


def _merged_certificate(first: Certificate, second: Certificate, ranking: Ranking, cold: Ranking) -> Certificate:
    """Return the certificate of merged lists: proved where both whole lists are."""
    is_exact = first.is_exact(ranking.items.shape[1]) & second.is_exact(cold.items.shape[1])
    return Certificate(
        is_exact * ranking.items.shape[1],
        torch.maximum(first.bound, second.bound),
        first.num_expanded + second.num_expanded,
    )


def _pairs(ranking: Ranking, line: int) -> list[tuple[int, float]]:
    pairs = zip(ranking.items[line].tolist(), ranking.scores[line].tolist(), strict=True)
    return [(item, score) for item, score in pairs if item >= 0]


def _merged(
    best: list[tuple[int, float]], cold: list[tuple[int, float]], share: float, length: int
) -> list[tuple[int, float]]:
    cold_items = {item for item, _ in cold}
    known = dict(best)  # a hybrid scores an item by its candidates, which are others among cold items alone
    merged: dict[int, float] = {}
    queues = deque(best), deque(cold)
    held = 0
    while len(merged) < length:
        for queue in queues:
            while queue and queue[0][0] in merged:
                queue.popleft()
        is_reserved = num_cold_items(share, len(merged) + 1) > held
        first, second = reversed(queues) if is_reserved else queues
        if not (first or second):
            break
        item, score = (first or second).popleft()
        merged[item] = known.get(item, score)
        held += item in cold_items
    return list(merged.items())
