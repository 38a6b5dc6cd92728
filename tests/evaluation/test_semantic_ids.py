import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.evaluation.semantic_ids import expected_overlap, prefix_groups, sid_utilization, top_neighbours

CODES = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])


def test_collisions_and_group_sizes_of_a_small_catalog():
    found = sid_utilization(CODES, [2, 4])

    assert found["unique_share"] == 0.75
    assert found["collided_share"] == 0.5
    assert found["largest_group"] == 2
    assert found["group_sizes"] == [2.5, 1.5]
    assert [level["use"] for level in found["levels"]] == [1.0, 0.5]


def test_health_is_plain_json():
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

    assert json.loads(json.dumps(sid_utilization(CODES, [2, 4], vectors=vectors, reconstruction=vectors)))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_prefix_groups_are_equal_exactly_for_equal_prefixes(rows):
    codes = np.array(rows)

    groups = prefix_groups(codes)

    for level in range(3):
        prefixes = [tuple(row[: level + 1]) for row in rows]
        for first in range(len(rows)):
            for second in range(len(rows)):
                assert (groups[first, level] == groups[second, level]) == (prefixes[first] == prefixes[second])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_expected_overlap_is_the_mean_over_random_tie_orders(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, size=(1, 9)).astype(float)
    neighbours = generator.permutation(9)[None, :4]

    found = expected_overlap(scores, neighbours)[0]

    draws = [set(np.lexsort((generator.random(9), -scores[0]))[:4]) & set(neighbours[0]) for _ in range(3000)]
    assert found == pytest.approx(np.mean([len(shared) / 4 for shared in draws]), abs=0.03)


def test_a_perfect_reconstruction_keeps_all_neighbours():
    vectors = np.random.default_rng(0).normal(size=(60, 8))

    found = sid_utilization(np.arange(60)[:, None], [60], vectors=vectors, reconstruction=3 * vectors)

    assert found["knn_overlap_reconstruction"] == 1.0
    assert found["knn_overlap_prefix"] == pytest.approx(10 / 59)


def test_codes_that_follow_the_vectors_keep_neighbours_and_random_codes_do_not():
    generator = np.random.default_rng(0)
    cells = np.repeat(np.arange(20), 11)  # an item has exactly ten cell mates
    vectors = np.eye(20)[cells] + 0.01 * generator.normal(size=(220, 20))

    found = sid_utilization(cells[:, None], [20], vectors=vectors)
    shuffled = sid_utilization(generator.permutation(cells)[:, None], [20], vectors=vectors)

    assert found["knn_overlap_prefix"] == 1.0
    assert found["knn_same_prefix"] == [1.0]
    assert shuffled["knn_overlap_prefix"] < 0.15


def test_neighbours_equal_a_plain_sort():
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    found = top_neighbours(vectors, np.arange(50), width=5)

    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, axis=1)[:, :5]
    assert [set(row) for row in found.tolist()] == [set(row) for row in expected.tolist()]


def test_large_catalogs_are_sampled_by_seed():
    generator = np.random.default_rng(0)
    codes, vectors = generator.integers(0, 4, size=(80, 2)), generator.normal(size=(80, 5))

    sampled = sid_utilization(codes, [4, 4], vectors=vectors, max_queries=20, seed=1)

    assert sampled["knn_queries"] == 20
    assert sampled == sid_utilization(codes, [4, 4], vectors=vectors, max_queries=20, seed=1)


def test_a_catalog_smaller_than_the_lists_is_evaluated_with_shorter_ones():
    found = sid_utilization(CODES, [2, 4], vectors=np.eye(4))

    assert found["knn"] == 3
    assert found["knn_overlap_prefix"] == 1.0


def test_a_code_outside_its_level_is_an_error():
    with pytest.raises(ValueError, match=r"codes of level 1 must be in 0 … 0, got 1 in row 2"):
        sid_utilization(CODES, [2, 1])


def test_an_appended_level_is_an_error():
    with pytest.raises(ValueError, match=r"level_sizes=\(2,\), got int64 \(4, 2\); pass both with the appended level"):
        sid_utilization(CODES, [2])


def test_vectors_of_another_catalog_are_an_error():
    with pytest.raises(ValueError, match="one row per item, 4, got 3"):
        sid_utilization(CODES, [2, 4], vectors=np.ones((3, 2)))
