"""k-means and residual k-means: the start of a trained quantizer, and the whole of the `rkmeans` one.

scikit-learn's `KMeans` (greedy k-means++, Lloyd steps) in one thread: its threads add up the members of a center in the
order in which they finish, so with more of them two runs of one seed may differ in the last bits, and with them all
digests. Tables are held in memory, on the CPU.
"""

import warnings
from collections.abc import Sequence

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from cost_hf.files import content_digest
from cost_hf.quantizers.cost.residual_cost import squared_distances

CHUNK_ENTRIES = 2**24  # distances held at once: 64 MiB


def seeded_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator that depends on all parts, such as (purpose, seed, epoch), and on nothing else."""
    return torch.Generator().manual_seed(int(content_digest(*parts)[:15], 16))


def kmeans_centers(x: Tensor, num_codes: int, *, seed: int, iterations: int = 25) -> Tensor:
    """Return k-means centers of rows `[N, D]`, seeded by k-means++, `[K, D]` on the device of the rows.

    Rows that repeat each other may leave fewer than K different centers; a code of such a center is never used.

    Args:
        x: vectors, fp32 or fp64.
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
    state = int(torch.randint(2**31 - 1, (1,), generator=seeded_generator("kmeans++", seed)))
    model = KMeans(num_codes, n_init=1, max_iter=iterations, tol=0, random_state=state)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of rows that repeat each other
        model.fit(x.detach().cpu().numpy())
    return torch.from_numpy(model.cluster_centers_).to(x)


def residual_kmeans(
    x: Tensor, level_sizes: Sequence[int], *, seed: int, iterations: int = 25, share_codebooks: bool = False
) -> list[Tensor]:
    """Return one codebook `[K, D]` per level, each fitted to the residuals `[N, D]` of the levels before it.

    With `share_codebooks` all levels get one codebook, fitted to the inputs of all levels together.
    """
    codebooks = []
    residuals = [x]
    for level, size in enumerate(level_sizes):
        codebook = kmeans_centers(residuals[-1], size, seed=seed + level, iterations=iterations)
        codebooks.append(codebook)
        residuals.append(residuals[-1] - codebook[nearest_centers(residuals[-1], codebook)])
    if not share_codebooks:
        return codebooks
    shared = kmeans_centers(torch.cat(residuals[:-1]), level_sizes[0], seed=seed, iterations=iterations)
    return [shared] * len(level_sizes)


def nearest_centers(x: Tensor, centers: Tensor) -> Tensor:
    """Return the nearest center of each row, by the distances that `CostModel` encodes by, `[N]` int64."""
    step = max(1, CHUNK_ENTRIES // len(centers))
    return torch.cat([squared_distances(part, centers).argmin(1) for part in x.split(step)])
