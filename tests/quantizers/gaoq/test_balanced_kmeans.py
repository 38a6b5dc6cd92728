from itertools import product

import numpy as np
import pytest

from cost_hf.quantizers.gaoq.balanced_kmeans import balanced_assignment, balanced_kmeans, cluster_means


def around_centers(num_rows: int, num_centers: int, *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(num_centers, 6))
    drawn = random.choice(num_centers, num_rows, p=np.arange(1, num_centers + 1) / sum(range(num_centers + 1)))
    return (centers[drawn] + 0.1 * random.normal(size=(num_rows, 6))).astype(np.float32)


@pytest.mark.parametrize(("num_rows", "num_clusters"), [(100, 7), (96, 8), (5, 5), (9, 1), (131, 13)])
def test_sizes_differ_by_one_at_most_whatever_the_data(num_rows, num_clusters):
    x = around_centers(num_rows, 5)

    clusters, centers = balanced_kmeans(x, num_clusters, seed=0)

    sizes = np.bincount(clusters, minlength=num_clusters)
    assert sizes.sum() == num_rows and sizes.max() - sizes.min() <= 1
    assert np.allclose(centers, [x[clusters == number].mean(0) for number in range(num_clusters)], atol=1e-5)


def test_clusters_of_equal_sizes_are_found():
    random = np.random.default_rng(0)
    truth = random.permutation(np.repeat(np.arange(6), 20))
    x = (10 * np.eye(6)[truth] + random.normal(size=(120, 6))).astype(np.float32)

    clusters, _ = balanced_kmeans(x, 6, seed=0)

    assert len(np.unique(truth * 6 + clusters)) == 6


def test_the_assignment_takes_turns_by_what_a_refusal_costs():
    # both rows are nearest to the first cluster; the second row would lose more elsewhere
    assert balanced_assignment(np.array([[0.0, 1.0], [0.5, 9.0]])).tolist() == [1, 0]


def test_the_assignment_is_near_the_best_one():
    random = np.random.default_rng(0)
    even = np.array([c for c in product(range(3), repeat=6) if np.bincount(c, minlength=3).tolist() == [2] * 3])
    total = np.zeros(3)  # best, found, mean
    for _ in range(20):
        distances = random.random((6, 3))
        found = distances[np.arange(6), balanced_assignment(distances)].sum()
        sums = distances[np.arange(6), even].sum(1)
        total += sums.min(), found, sums.mean()
        assert found >= sums.min() - 1e-9

    assert total[1] - total[0] < (total[2] - total[0]) / 4


def test_rows_that_repeat_each_other_fill_all_clusters():
    clusters, _ = balanced_kmeans(np.ones((12, 3), dtype=np.float32), 4, seed=0)

    assert np.bincount(clusters).tolist() == [3, 3, 3, 3]


def test_seeds_repeat_and_differ():
    x = around_centers(200, 30)

    first, again, other = (balanced_kmeans(x, 12, seed=seed)[0] for seed in (0, 0, 1))

    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(ValueError, match="4 vectors do not fill 5 clusters"):
        balanced_kmeans(np.ones((4, 2), dtype=np.float32), 5, seed=0)


def test_means_of_empty_clusters_are_zero():
    assert cluster_means(np.ones((2, 2), dtype=np.float32), np.array([0, 0]), 2).tolist() == [[1, 1], [0, 0]]
