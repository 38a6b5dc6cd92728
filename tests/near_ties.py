"""Ranked lists that two ways of computing must share: equal scores, and equal items but for near ties.

Two arithmetics (another batch, another process, merged weights, another CPU) round differently, so items whose scores
differ by less than rounding may change places. Everything else must agree.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

TOLERANCE = 1e-4


def assert_same_list(
    found: Iterable[Sequence[Any]], expected: Iterable[Sequence[Any]], *, tolerance: float = TOLERANCE
) -> None:
    """Compare two lists of (item, score, …), best first.

    Scores must agree place by place. An item that stands in one list alone must tie with the end of the list, behind
    which its neighbour was cut off; an item of both must have the same score in both.
    """
    ours, theirs = ([(entry[0], float(entry[1])) for entry in entries] for entries in (found, expected))
    assert len(ours) == len(theirs), f"{len(ours)} answers, expected {len(theirs)}"
    for left, right in zip(ours, theirs, strict=True):
        assert left[1] == right[1] or abs(left[1] - right[1]) <= tolerance, f"{left} stands where {right} should"
    scores, expected_scores = dict(ours), dict(theirs)
    assert len(scores) == len(ours), "an item stands in the list twice"
    for item, score in expected_scores.items():
        other = scores.get(item, ours[-1][1])
        assert score == other or abs(score - other) <= 2 * tolerance, (
            f"{item!r} has the score {other}, expected {score}"
        )


def assert_same_rows(
    found: tuple[torch.Tensor, torch.Tensor],
    expected: tuple[torch.Tensor, torch.Tensor],
    *,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare (items, scores), each `[B, R]`, line by line; places without an item (-1) must be the same ones."""
    assert found[0].shape == expected[0].shape
    for ours, theirs in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        assert torch.equal(ours[0] < 0, theirs[0] < 0)
        lists = [list(zip(*(part.tolist() for part in line), strict=True)) for line in (ours, theirs)]
        assert_same_list(*([pair for pair in line if pair[0] >= 0] for line in lists), tolerance=tolerance)


def assert_same_beams(
    found: tuple[torch.Tensor, torch.Tensor],
    expected: tuple[torch.Tensor, torch.Tensor],
    *,
    width: int,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare (tokens, scores) of `generate`, `[B * R, L]` and `[B * R]`, R being `width`, request by request."""
    assert found[0].shape == expected[0].shape
    for start in range(0, len(found[0]), width):
        lists = [
            list(zip(map(tuple, tokens[start : start + width].tolist()), scores[start : start + width], strict=True))
            for tokens, scores in (found, expected)
        ]
        assert_same_list(*lists, tolerance=tolerance)
