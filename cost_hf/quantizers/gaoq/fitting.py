"""Fitting GAOQ (arXiv 2602.02338, Algorithm 1): clusters, children aligned to anchors, items numbered in their bucket.

Alignment solves, for every parent, the assignment of children to anchors with the largest sum of cosines; a child then
has the code of its anchor, so a code means about the same direction below every parent. It does not depend on how
k-means numbered the children.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from cost_hf.quantizers.fit import FitInputs
from cost_hf.quantizers.gaoq.balanced_kmeans import ITERATIONS, balanced_kmeans, cluster_means
from cost_hf.quantizers.gaoq.configuration_gaoq import GaoqConfig
from cost_hf.quantizers.gaoq.modeling_gaoq import GaoqModel
from cost_hf.quantizers.gaoq.options import GaoqOptions
from cost_hf.semantic_ids.collisions import resolve_collisions
from cost_hf.semantic_ids.item_ids import id_ranks

Clustering = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # vectors, K -> clusters, centers


def fit_gaoq(inputs: FitInputs, options: GaoqOptions, *, seed: int) -> tuple[GaoqModel, np.ndarray]:
    """Return the model and the codes of all items, int64 `[N, 3]`, no two of which are equal.

    Items that fitting may not see get the nearest codes that the others left free; where their bucket is full, those of
    another one, which is logged.

    Raises:
        ValueError: for level sizes that do not fit.
    """
    is_fitted = np.ones(len(inputs.vectors), dtype=bool) if inputs.fit_rows is None else inputs.fit_rows.numpy()
    width = inputs.vectors.shape[1]
    level_sizes = options.resolved_sizes(int(is_fitted.sum()), len(is_fitted), width)
    config = GaoqConfig(
        item_dim=width,
        level_sizes=level_sizes,
        index_alignment=options.index_alignment,
        input_norm=options.input_norm,
    )
    model = GaoqModel(config).eval()
    rows = np.flatnonzero(is_fitted)
    rows = rows[np.argsort(id_ranks([inputs.item_ids[row] for row in rows.tolist()]))]
    fitted = inputs.vectors[torch.from_numpy(rows)]
    model.fit_statistics(fitted)
    vectors = model.input_norm(fitted).numpy()
    clustering = _clustering(options.balancing, seed)
    anchors = None
    if options.index_alignment == "anchor":
        second, last = level_sizes[1:]
        anchors = (orthonormal(second, width, seed=seed), orthonormal(last, width, seed=seed))
    centroids, children, own = fit_tree(vectors, level_sizes[:2], anchors, clustering)
    model.replace_centroids(
        torch.from_numpy(centroids),
        torch.from_numpy(children),
        None if anchors is None else torch.from_numpy(anchors[1]),
    )
    codes = np.empty((len(is_fitted), len(level_sizes)), dtype=np.int64)
    codes[rows] = own
    return model, codes if is_fitted.all() else _with_unseen(codes, ~is_fitted, inputs, model)


def fit_tree(
    x: np.ndarray,
    level_sizes: tuple[int, ...],
    anchors: tuple[np.ndarray, np.ndarray] | None,
    clustering: Clustering,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centroids `[b1, E]`, children in the order of their codes `[b1, b2, E]`, and codes `[N, 3]`.

    Args:
        x: normalised item vectors, fp32 `[N, E]`, in id order.
        level_sizes: b1 and b2.
        anchors: of the second and the last level, `[b2, E]` and `[b3, E]`; None numbers locally.
        clustering: balanced k-means.
    """
    first, second = level_sizes
    codes = np.empty((len(x), 3), dtype=np.int64)
    codes[:, 0], _ = clustering(x, first)
    centroids = cluster_means(x, codes[:, 0], first)
    children = np.empty((first, second, x.shape[1]), dtype=np.float32)
    for parent, members in enumerate(_groups(codes[:, 0], first)):
        clusters, centers = clustering(x[members], second)
        code_of = np.arange(second) if anchors is None else aligned_codes(centers - centroids[parent], anchors[0])
        codes[members, 1] = code_of[clusters]
        children[parent, code_of] = centers
    for bucket, members in enumerate(_groups(codes[:, 0] * second + codes[:, 1], first * second)):
        rest = x[members] - children[bucket // second, bucket % second]
        codes[members, 2] = np.arange(len(members)) if anchors is None else aligned_codes(rest, anchors[1])
    return centroids, children, codes


def aligned_codes(offsets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the anchor of each offset `[n, E]`, all different, with the largest sum of cosines, int64 `[n]`.

    Args:
        offsets: of children from their parent.
        anchors: unit vectors, `[K, E]` with K >= n.
    """
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    cosines = (offsets / np.maximum(lengths, np.finfo(np.float32).tiny)) @ anchors.T
    return linear_sum_assignment(cosines, maximize=True)[1]  # rows come back in order


def orthonormal(count: int, width: int, *, seed: int) -> np.ndarray:
    """Return anchors: unit vectors, orthogonal to each other, fp32 `[count, width]`, from a seeded normal matrix by QR.

    Raises:
        ValueError: for more anchors than dimensions.
    """
    if count > width:
        raise ValueError(f"{count} orthogonal anchors need vectors as wide or wider, got {width}; take fewer codes")
    directions, triangle = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, count)))
    signs = np.where(np.diag(triangle) < 0, -1.0, 1.0)  # a library is free in them
    return np.ascontiguousarray((directions * signs).T, dtype=np.float32)


def _clustering(balancing: str, seed: int) -> Clustering:
    if balancing == "greedy":
        return partial(balanced_kmeans, seed=seed)
    from k_means_constrained import KMeansConstrained

    def constrained(x: np.ndarray, num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
        least, more = divmod(len(x), num_clusters)
        model = KMeansConstrained(
            num_clusters,
            size_min=least,
            size_max=least + (more > 0),
            n_init=1,
            max_iter=ITERATIONS,
            random_state=seed,
            n_jobs=1,
        )
        clusters = model.fit_predict(x).astype(np.int64)
        return clusters, cluster_means(x, clusters, num_clusters)

    return constrained


def _groups(keys: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the rows of each key 0 … count - 1, in order."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.searchsorted(keys[order], np.arange(1, count)))


def _with_unseen(codes: np.ndarray, is_new: np.ndarray, inputs: FitInputs, model: GaoqModel) -> np.ndarray:
    """Return the codes with those of items that fitting did not see."""
    new = inputs.vectors[torch.from_numpy(is_new)]
    codes = codes.copy()
    codes[is_new] = model.encode(new).numpy()
    return resolve_collisions(codes, is_new, new, model, capacity=1, item_ids=inputs.item_ids)[0]
