"""Fitting of OPQ: the rotation of a balanced PCA, k-means on every part, then rotation and codes in turn.

This is the non-parametric solution of Ge et al. (CVPR 2013, section 3.1) started from their parametric one (section
3.2). Every step keeps or lowers the quantization error |Y - (X - mean) R|²: codes are the nearest centroids, centroids
the means of their members, and for fixed Y the best R is that of the orthogonal Procrustes problem, U V^T of the
singular value decomposition (X - mean)^T Y = U S V^T.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.modeling_opq import OpqModel
from cost_hf.quantizers.training.kmeans import kmeans_centers, nearest_centers

FLOOR = 1e-12  # of eigenvalues, as a share of the largest one: their logarithms are added


@torch.no_grad()
def fit_opq(vectors: Tensor, config: OpqConfig, *, iterations: int, seed: int) -> OpqModel:
    """Return a model whose codes are optimized product quantization of item vectors `[N, E]`.

    Args:
        vectors: item vectors.
        config: sizes.
        iterations: alternations of rotation and codes; 0 keeps the rotation of the balanced PCA.
        seed: of k-means++.

    Raises:
        ValueError: with fewer items than codes of a level.
    """
    model = OpqModel(config).eval()
    items = model.input_norm(vectors)
    mean = items.double().mean(0).float()
    items = items - mean
    rotation = balanced_rotation(items, config.part_widths)
    parts = (items @ rotation).split(config.part_widths, dim=1)
    centroids = [
        kmeans_centers(part, size, seed=seed + level)
        for level, (part, size) in enumerate(zip(parts, config.level_sizes, strict=True))
    ]
    codes = _nearest(parts, centroids)
    for _ in range(iterations):
        quantized = torch.cat([centers[column] for centers, column in zip(centroids, codes, strict=True)], 1)
        rotation = procrustes_rotation(items, quantized)
        parts = (items @ rotation).split(config.part_widths, dim=1)
        codes = _nearest(parts, centroids)
        centroids = [
            _member_means(part, column, centers) for part, column, centers in zip(parts, codes, centroids, strict=True)
        ]
    model.replace_weights(mean, rotation, centroids)
    return model


def balanced_rotation(items: Tensor, widths: Sequence[int]) -> Tensor:
    """Return principal directions, dealt out to parts of the given widths so that their variances are balanced.

    From the largest eigenvalue on, each goes to the part whose product of eigenvalues is the smallest among those with
    room (Ge et al., eigenvalue allocation).

    Args:
        items: centered vectors, `[N, E]`.
        widths: dimensions of each part; their sum is E.

    Returns:
        Orthogonal, fp32 `[E, E]`, to be applied from the right.
    """
    table = items.double()
    values, directions = torch.linalg.eigh(table.T @ table)  # ascending
    directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()  # signs are free
    values = values.flip(0)
    floor = max(float(values[0]) * FLOOR, torch.finfo(torch.float64).tiny)
    # over the floor, so that none is negative: a direction always makes the product of its part larger
    logarithms = (values.clamp_min(floor) / floor).log().tolist()
    columns: list[list[int]] = [[] for _ in widths]
    totals = [0.0] * len(widths)
    for column, value in enumerate(logarithms):
        with_room = [part for part, width in enumerate(widths) if len(columns[part]) < width]
        part = min(with_room, key=lambda part: (totals[part], part))
        columns[part].append(column)
        totals[part] += value
    order = torch.tensor([column for part in columns for column in part])
    return directions.flip(1)[:, order].to(items.dtype)


def procrustes_rotation(items: Tensor, quantized: Tensor) -> Tensor:
    """Return the orthogonal R, `[E, E]`, that minimizes |items R - quantized|² over rows `[N, E]`."""
    left, _, right = torch.linalg.svd(items.double().T @ quantized.double())
    return (left @ right).to(items.dtype)


def _nearest(parts: Sequence[Tensor], centroids: Sequence[Tensor]) -> list[Tensor]:
    return [nearest_centers(part, centers) for part, centers in zip(parts, centroids, strict=True)]


def _member_means(part: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Return the means of the rows `[N, D]` of each code, `[K, D]`; a code without rows keeps its centroid."""
    counts = torch.bincount(codes, minlength=len(centroids))
    sums = torch.zeros_like(centroids, dtype=torch.float64).index_add_(0, codes, part.double())
    means = (sums / counts.clamp_min(1)[:, None]).to(centroids.dtype)
    return torch.where(counts[:, None] > 0, means, centroids)
