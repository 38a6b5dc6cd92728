"""The loss terms of PRISM's quantizer that `CostModel` does not have, as pure functions of tensors.

All means are over the items of the batch, those without the input of a term included: averaged over the processes of a
distributed run, value and gradient are those of one process with the whole batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cost_hf.quantizers.cost.objectives_cost import gather_rows
from cost_hf.quantizers.cost.residual_cost import squared_distances

ASSIGNMENT_TEMPERATURE = 0.15  # of soft assignments to codes, by distance
SIMILARITY_MARGIN = 0.5  # cosines of code vectors below it are no loss
USAGE_WEIGHT = 0.1  # of unequal usage, within the balance term
ENTROPY_SHARE = 0.35  # of the largest entropy: an assignment that is less certain counts less
SCALE_BOUNDS = (0.25, 1.5)
MIN_DISTANCE = 1e-6  # the root of 0 has no gradient


def cosine_loss(vectors: Tensor, reconstructions: Tensor) -> Tensor:
    """Return the mean of one minus the cosine of `[B, E]` and `[B, E]`; rows of zeros in `vectors` count 0."""
    losses = 1 - functional.cosine_similarity(vectors, reconstructions, dim=-1)
    return (losses * vectors.any(1)).mean()


def gate_loss(
    gates: Tensor, popularity: Tensor, is_known: Tensor, *, spread: float, spread_weight: float, gathers: bool = False
) -> Tensor:
    """Return the error of the mean gate as a measure of popularity, and what its variance lacks.

    Args:
        gates: g, `[B, C]`.
        popularity: p in [0, 1], `[B]`.
        is_known: items with a collaborative vector, bool `[B]`; the others have a constant gate.
        spread: s*, the root of the variance over items that is wanted.
        spread_weight: w_d.
        gathers: take the variance over the items of all processes, which must call at the same time.
    """
    means = gates.mean(1)  # [B]
    error = ((means - popularity).square() * is_known).mean()
    everywhere = means
    known = is_known.to(means)
    if gathers:
        everywhere, _ = gather_rows(means)
        known, _ = gather_rows(known)
    count = known.sum().clamp_min(1)
    center = (everywhere * known).sum() / count
    variance = ((everywhere - center).square() * known).sum() / count
    return error + spread_weight * functional.relu(spread**2 - variance)


def tag_loss(logits: list[Tensor], tags: Tensor) -> Tensor:
    """Return the cross-entropy of the tags of each level, mean over items and levels.

    Args:
        logits: `[B, tags of the level]` for each supervised level.
        tags: int64 `[B, T]` of T or more levels; -1 is no tag and counts 0.
    """
    losses = [
        functional.cross_entropy(of_level, tags[:, level].clamp_min(0), reduction="none") * (tags[:, level] >= 0)
        for level, of_level in enumerate(logits)
    ]
    return torch.stack(losses).mean()


def anchor_loss(tags: Tensor, codebook: Tensor) -> Tensor:
    """Return the distance of tags to the code vectors that they are softly assigned to, of one level.

    `SmoothL1(A C, tags)` with `A = softmax(-|tag - C| / 0.15)`, scaled by `0.35 ln K / H(A)` within bounds, so that
    certain assignments count more; the scale is a constant.

    Args:
        tags: projected tag vectors, `[T, D]`.
        codebook: C, `[K, D]`.
    """
    shares = soft_assignment(tags, codebook)  # [T, K]
    error = functional.smooth_l1_loss(shares @ codebook, tags)
    entropy = torch.special.entr(shares.detach()).sum(1).mean()
    scale = ENTROPY_SHARE * math.log(len(codebook)) / entropy.clamp_min(1e-6)
    return error * scale.clamp(*SCALE_BOUNDS)


def balance_loss(residuals: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """Return what used code vectors of one level are too similar, and how unequally codes are used softly.

    The count of nearest codes has no gradient; the mean soft assignment has one. Its squared error against equal usage
    is in units of that usage, so that it does not vanish with many codes.

    Args:
        residuals: input of the level, `[B, D]`.
        codes: nearest codes, `[B]`.
        codebook: `[K, D]`.
    """
    size = len(codebook)
    is_used = functional.one_hot(codes, size).any(0)
    directions = functional.normalize(codebook, dim=-1)
    counted = is_used[:, None] & is_used & ~torch.eye(size, dtype=torch.bool, device=codes.device)
    excess = functional.relu(directions @ directions.T - SIMILARITY_MARGIN) * counted
    usage = soft_assignment(residuals, codebook).mean(0) * size  # 1 where all are used equally
    return excess.sum() / counted.sum().clamp_min(1) + USAGE_WEIGHT * (usage - 1).square().mean()


def soft_assignment(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return shares of codes for vectors `[B, D]` by their distance to code vectors `[K, D]`, `[B, K]`."""
    distances = squared_distances(vectors, codebook).clamp_min(MIN_DISTANCE).sqrt()
    return (-distances / ASSIGNMENT_TEMPERATURE).softmax(1)
