from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.quantizers.letter.constrained_kmeans import assign_within, constrained_kmeans, size_bounds
from tests.quantizers.cost.toys import item_vectors


def cheapest_assignment(distances, least, most):
    """Reference: every assignment is tried."""
    num_rows, num_clusters = distances.shape

    def fits(clusters):
        sizes = np.bincount(clusters, minlength=num_clusters)
        return least <= sizes.min() and sizes.max() <= most

    fitting = filter(fits, product(range(num_clusters), repeat=num_rows))
    return min(float(distances[np.arange(num_rows), list(clusters)].sum()) for clusters in fitting)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 8), st.integers(0, 8), st.integers(0, 6))
def test_every_cluster_stays_within_the_bounds(seed, num_clusters, least, extra, spare):
    most = least + extra + 1
    num_rows = min(num_clusters * least + spare, num_clusters * most)
    if num_rows < num_clusters:
        return
    x = torch.randn(num_rows, 3, generator=torch.Generator().manual_seed(seed))

    clusters = constrained_kmeans(x, num_clusters, least=least, most=most, seed=seed)

    sizes = torch.bincount(clusters, minlength=num_clusters)
    assert len(sizes) == num_clusters and least <= sizes.min() and sizes.max() <= most


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([(1, 4), (2, 3), (2, 2), (0, 5)]))
def test_the_assignment_is_the_cheapest_that_keeps_the_bounds(seed, bounds):
    distances = np.random.default_rng(seed).random((6, 3))

    clusters = assign_within(distances, least=bounds[0], most=bounds[1])

    assert distances[np.arange(6), clusters].sum() == pytest.approx(cheapest_assignment(distances, *bounds))


def test_separate_groups_are_found():
    x = 10 * torch.eye(4).repeat_interleave(6, dim=0) + 0.1 * torch.randn(24, 4)

    clusters = constrained_kmeans(x, 4, least=2, most=10, seed=0)

    assert clusters.reshape(4, 6).unique(dim=1).shape == (4, 1)
    assert len(set(clusters.tolist())) == 4


def test_rows_that_all_repeat_each_other_are_shared_out():
    clusters = constrained_kmeans(torch.ones(20, 3), 4, least=3, most=7, seed=0)

    assert torch.bincount(clusters, minlength=4).min() >= 3


def test_the_same_seed_gives_the_same_clusters():
    x = item_vectors(64)

    first, again = (constrained_kmeans(x, 6, least=5, most=20, seed=3) for _ in range(2))

    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("codes", "clusters", "bounds"), [(256, 10, (10, 60)), (64, 10, (2, 15)), (1024, 10, (40, 240)), (4, 2, (2, 5))]
)
def test_bounds_are_the_published_ones_at_256_codes_and_grow_with_the_codebook(codes, clusters, bounds):
    assert size_bounds(codes, clusters) == bounds


@pytest.mark.parametrize(("least", "most"), [(6, 9), (1, 4)])
def test_bounds_that_nothing_fits_are_an_error(least, most):
    with pytest.raises(ValueError, match=rf"20 vectors do not fit into 4 clusters of {least} to {most}"):
        constrained_kmeans(torch.ones(20, 3), 4, least=least, most=most, seed=0)
