"""k-means++ and residual k-means: the start of a trained quantizer, and the whole of the `rkmeans` one.

Deterministic for a seed on one device: sums over clusters are matrix products with one-hot rows, not scattered
additions, and draws come from a CPU generator.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cost_hf.files import content_digest
from cost_hf.quantizers.cost.residual_cost import squared_distances

logger = logging.getLogger(__name__)
CHUNK_ENTRIES = 2**24  # distances held at once: 64 MiB


def seeded_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator that depends on all parts, such as (purpose, seed, epoch), and on nothing else."""
    return torch.Generator().manual_seed(int(content_digest(*parts)[:15], 16))


def kmeans_pp(x: Tensor, num_codes: int, *, seed: int, iterations: int = 25) -> Tensor:
    """Return k-means centers of rows `[N, D]`, seeded by k-means++, `[K, D]`.

    Rows that repeat each other may leave fewer than K different centers; a code of such a center is never used.

    Args:
        x: vectors.
        num_codes: K.
        seed: of the k-means++ draws.
        iterations: upper bound of Lloyd steps; they end when no row changes its center.

    Raises:
        ValueError: with fewer rows than codes.
    """
    if len(x) < num_codes:
        raise ValueError(
            f"a level of {num_codes} codes needs at least as many vectors, got {len(x)}; lower level_sizes (e.g. to "
            f"{max(2, len(x) // 8)}) or give more items"
        )
    centers = _spread_centers(x, num_codes, seeded_generator("kmeans++", seed))
    previous = None
    for _ in range(iterations):
        nearest, distances = nearest_centers(x, centers)
        if previous is not None and torch.equal(nearest, previous):
            break
        centers, previous = _means(x, nearest, distances, centers), nearest
    return centers


def residual_kmeans(
    x: Tensor, level_sizes: Sequence[int], *, seed: int, iterations: int = 25, share_codebooks: bool = False
) -> list[Tensor]:
    """Return one codebook `[K, D]` per level, each fitted to the residuals `[N, D]` of the levels before it.

    With `share_codebooks` all levels get one codebook, fitted to the inputs of all levels together.
    """
    codebooks, residuals = [], [x]
    for level, size in enumerate(level_sizes):
        codebook = kmeans_pp(residuals[-1], size, seed=seed + level, iterations=iterations)
        nearest, _ = nearest_centers(residuals[-1], codebook)
        codebooks.append(codebook)
        residuals.append(residuals[-1] - codebook[nearest])
    if not share_codebooks:
        return codebooks
    shared = kmeans_pp(torch.cat(residuals[:-1]), level_sizes[0], seed=seed, iterations=iterations)
    return [shared] * len(level_sizes)


def nearest_centers(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest center of each row `[N]` int64 and the squared distance to it `[N]`."""
    step = max(1, CHUNK_ENTRIES // len(centers))
    found = [squared_distances(part, centers).min(1) for part in x.split(step)]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])


def _spread_centers(x: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Draw rows with probability proportional to their squared distance from the rows drawn before."""
    draws = torch.rand(num_codes, dtype=torch.float64, generator=generator)
    rows = [int(draws[0] * len(x))]
    distances = squared_distances(x, x[rows]).squeeze(1)
    for draw in draws[1:]:
        cumulated = distances.to("cpu", torch.float64).cumsum(0)
        if cumulated[-1] > 0:
            rows.append(min(int(torch.searchsorted(cumulated, draw * cumulated[-1], right=True)), len(x) - 1))
        else:  # every row is a center already
            rows.append(int(draw * len(x)))
        distances = torch.minimum(distances, squared_distances(x, x[rows[-1:]]).squeeze(1))
    return x[rows].clone()


def _means(x: Tensor, nearest: Tensor, distances: Tensor, centers: Tensor) -> Tensor:
    """Return the mean of each cluster; an empty one takes the row farthest from its center."""
    sums, counts = torch.zeros_like(centers), centers.new_zeros(len(centers))
    step = max(1, CHUNK_ENTRIES // len(centers))
    for part, members in zip(x.split(step), nearest.split(step), strict=True):
        chosen = functional.one_hot(members, len(centers)).to(x.dtype)  # [chunk, K]
        sums += chosen.T @ part
        counts += chosen.sum(0)
    means = sums / counts.clamp_min(1).unsqueeze(1)
    empty = torch.nonzero(counts == 0).squeeze(1)
    means[empty] = x[distances.topk(len(empty)).indices]
    return means
