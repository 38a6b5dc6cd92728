"""k-means with bounds on the cluster sizes: LETTER groups the codes of a level so that no group is tiny or huge.

Exact in the assignment step: every cluster is as many columns of a linear assignment problem as it may have members,
and the first ones, which must be filled, carry a bonus that no sum of distances outweighs. Meant for codebooks, not
items: 256 codes in 10 clusters of at most 60 take a few milliseconds a step.
"""

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cost_hf.quantizers.training.kmeans import kmeans_centers

# shares of the mean cluster size; 256 codes in 10 clusters: 10 to 60 codes, as in published code
MIN_SHARE = 0.4
MAX_SHARE = 2.34


def size_bounds(num_codes: int, num_clusters: int) -> tuple[int, int]:
    """Return the least (2 or more) and the largest size of a cluster; needs two codes per cluster."""
    mean = num_codes / num_clusters
    return max(2, int(MIN_SHARE * mean)), math.ceil(MAX_SHARE * mean)


def constrained_kmeans(
    x: Tensor, num_clusters: int, *, least: int, most: int, seed: int, iterations: int = 10
) -> Tensor:
    """Return the cluster of each row of `[K, D]`, int64 `[K]` on the CPU; every cluster has `least` … `most` rows.

    Args:
        x: vectors.
        num_clusters: C.
        least, most: bounds of the cluster sizes.
        seed: of the k-means++ start.
        iterations: upper bound of the steps; they end when no row changes its cluster.

    Raises:
        ValueError: where no such clustering exists.
    """
    if not num_clusters * least <= len(x) <= num_clusters * most:
        raise ValueError(
            f"{len(x)} vectors do not fit into {num_clusters} clusters of {least} to {most}; change the bounds or the "
            "number of clusters"
        )
    rows = x.detach().to("cpu", torch.float64)
    centers = kmeans_centers(rows, num_clusters, seed=seed)
    clusters = None
    for _ in range(iterations):
        previous = clusters
        clusters = assign_within(torch.cdist(rows, centers).square().numpy(), least=least, most=most)
        if previous is not None and np.array_equal(previous, clusters):
            break
        members = torch.nn.functional.one_hot(torch.from_numpy(clusters), num_clusters).to(rows.dtype)  # [K, C]
        centers = members.T @ rows / members.sum(0).clamp_min(1).unsqueeze(1)
    return torch.from_numpy(clusters)


def assign_within(distances: np.ndarray, *, least: int, most: int) -> np.ndarray:
    """Return the clusters `[K]` of least total distance `[K, C]` within the bounds."""
    nearest = distances.argmin(1)
    sizes = np.bincount(nearest, minlength=distances.shape[1])
    if least <= sizes.min() and sizes.max() <= most:
        return nearest
    slots = np.repeat(distances[:, :, None], most, axis=2)  # [K, C, most]
    slots[:, :, :least] -= len(distances) * (distances.max() - distances.min()) + 1
    return linear_sum_assignment(slots.reshape(len(distances), -1))[1] // most
