"""k-means whose clusters differ in size by at most one item.

The assignment step is greedy: in rounds, every item without a cluster proposes to the nearest one that has room, and a
cluster takes those that would lose most if it refused them. All clusters are filled to floor(N / K) first; the N mod K
items that are left then go to clusters of their own each. Nothing depends on the order of the rows beyond ties.
"""

import numpy as np
from scipy.sparse import csr_matrix

ITERATIONS = 10


def balanced_kmeans(
    x: np.ndarray, num_clusters: int, *, seed: int, iterations: int = ITERATIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of each row, int64 `[N]`, and the mean of each cluster, fp32 `[K, D]`.

    Args:
        x: vectors, fp32 `[N, D]`.
        num_clusters: K, at most N.
        seed: of the k-means++ start.
        iterations: upper bound of the steps; they end when no row changes its cluster.

    Raises:
        ValueError: with fewer rows than clusters.
    """
    if not 1 <= num_clusters <= len(x):
        raise ValueError(f"{len(x)} vectors do not fill {num_clusters} clusters; take at most as many as vectors")
    norms = np.einsum("nd,nd->n", x, x)
    centers = x[_spread_rows(x, norms, num_clusters, np.random.default_rng(seed))]
    clusters = np.full(len(x), -1, dtype=np.int64)
    for _ in range(iterations):
        previous = clusters
        clusters = balanced_assignment(squared_distances(x, norms, centers))
        if np.array_equal(previous, clusters):
            break
        centers = cluster_means(x, clusters, num_clusters)
    return clusters, centers


def _spread_rows(x: np.ndarray, norms: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return rows that are far from each other, by k-means++, int64 `[count]`.

    scikit-learn's draws several candidates for each and computes in float64, which takes twelve times as long.
    """
    rows = [int(random.integers(len(x)))]
    nearest = np.full(len(x), np.inf)
    for share in random.random(count - 1).tolist():
        to_last = norms - 2 * (x @ x[rows[-1]]) + norms[rows[-1]]
        nearest = np.minimum(nearest, np.maximum(to_last, 0))
        nearest[rows] = 0
        total = nearest.cumsum()
        # where all rows repeat those that were drawn, the first other one
        drawn = int(np.searchsorted(total, share * total[-1], side="right")) if total[-1] > 0 else -1
        rows.append(drawn if 0 <= drawn < len(x) else int(np.setdiff1d(np.arange(len(x)), rows)[0]))
    return np.array(rows)


def balanced_assignment(distances: np.ndarray) -> np.ndarray:
    """Return a cluster for each row of distances `[N, K]`, int64 `[N]`; sizes are floor(N / K) or one more.

    Ties go to the row that comes first.
    """
    num_rows, num_clusters = distances.shape
    clusters = np.full(num_rows, -1, dtype=np.int64)
    for room in (num_rows // num_clusters, 1):
        _fill(distances, clusters, np.full(num_clusters, room))
    return clusters


def _fill(distances: np.ndarray, clusters: np.ndarray, room: np.ndarray) -> None:
    """Give rows without a cluster one with room, in place, until none has any or no row is left."""
    waiting = np.flatnonzero(clusters < 0)
    while len(waiting) and room.any():
        is_open = np.flatnonzero(room)
        own = distances[np.ix_(waiting, is_open)] if len(waiting) < len(distances) else distances[:, is_open]
        nearest = own.argmin(1)
        loss = np.zeros(len(waiting), dtype=own.dtype)
        if len(is_open) > 1:
            two = np.partition(own, 1, axis=1)
            loss = two[:, 1] - two[:, 0]
        order = np.lexsort((-loss, nearest))  # stable
        begins = np.searchsorted(nearest[order], np.arange(len(is_open)))
        rank = np.arange(len(order)) - begins[nearest[order]]
        taken = order[rank < room[is_open[nearest[order]]]]
        clusters[waiting[taken]] = is_open[nearest[taken]]
        room -= np.bincount(is_open[nearest[taken]], minlength=len(room))
        waiting = np.delete(waiting, taken)


def squared_distances(x: np.ndarray, norms: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return squared distances `[N, K]` of rows `[N, D]` with squared lengths `[N]` to centers `[K, D]`."""
    return norms[:, None] - 2 * (x @ centers.T) + np.square(centers).sum(1)


def cluster_means(x: np.ndarray, clusters: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return the mean of the rows `[N, D]` of each cluster, fp32 `[K, D]`; zeros for one without rows."""
    rows = np.arange(len(x))
    members = csr_matrix((np.ones(len(x), dtype=x.dtype), (clusters, rows)), shape=(num_clusters, len(x)))
    return (members @ x) / np.maximum(sizes_of(clusters, num_clusters), 1)[:, None].astype(x.dtype)


def sizes_of(clusters: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return the number of rows of each cluster, `[K]`."""
    return np.bincount(clusters, minlength=num_clusters)
