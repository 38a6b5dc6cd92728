"""Code sizes that tell a catalog apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.check.code_sizes import CodeSize, advised_size, code_size, measure_code_sizes

BOUNDS = {"most_collided": 0.25, "capacity": 256}


def vectors_of(num_items, *, seed=0):
    table = np.random.default_rng(seed).normal(size=(num_items, 48))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)


def texts_of(num_items):
    return [f"text {number}" for number in range(num_items)]


def test_sizes_rise_and_share_the_prefix_of_a_longer_one():
    sizes = measure_code_sizes(vectors_of(2_100), texts_of(2_100))

    assert [size.level_sizes for size in sizes] == [(64,) * 3, (128,) * 3, (256,) * 3, (256,) * 4]
    assert [size.places for size in sizes] == [64**3, 128**3, 256**3, 256**4]
    assert sizes[-1].collided <= sizes[-2].collided


def test_small_catalogs_get_codebooks_that_their_items_can_fill():
    assert [size.level_sizes for size in measure_code_sizes(vectors_of(300), texts_of(300))] == [(32,) * 3]
    assert [size.level_sizes for size in measure_code_sizes(vectors_of(40), texts_of(40))] == [(5,) * 3]


CODES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=2, max_size=20)


@given(codes=CODES, data=st.data())
def test_collisions_agree_with_counting_pairs(codes, data):
    rows = range(len(codes))
    distinct = sorted(data.draw(st.sets(st.sampled_from(rows), min_size=1)))

    size = code_size(np.array(codes), (3, 2), np.array(distinct))

    collided = [any(codes[i] == codes[j] for j in distinct if j != i) for i in distinct]
    assert size.collided == pytest.approx(np.mean(collided))
    assert size.largest_group == max(sum(codes[i] == codes[j] for j in rows) for i in rows)


def test_equal_texts_widen_groups_and_are_no_collisions():
    vectors = np.repeat(vectors_of(200), 2, axis=0)
    texts = [text for text in texts_of(200) for _ in range(2)]

    (size,) = measure_code_sizes(vectors, texts)
    (alone,) = measure_code_sizes(vectors[::2], texts[::2])

    assert size.collided == alone.collided < 0.5  # all of them, were equal texts collisions
    assert size.largest_group == 2 * alone.largest_group


def test_the_sizes_of_a_recipe_are_measured_as_well():
    sizes = measure_code_sizes(vectors_of(600), texts_of(600), also=[32, 16])

    assert (32, 16) in [size.level_sizes for size in sizes]


def test_the_smallest_size_within_both_bounds_is_advised():
    sizes = [
        CodeSize((64,) * 3, 64**3, 0.4, 20),
        CodeSize((128,) * 3, 128**3, 0.2, 300),
        CodeSize((256,) * 3, 256**3, 0.2, 40),
        CodeSize((256,) * 4, 256**4, 0.1, 10),
    ]

    assert advised_size(sizes, **BOUNDS) == sizes[2]
    assert advised_size(sizes, most_collided=0.15, capacity=256) == sizes[3]


def test_where_no_size_separates_no_level_is_added():
    sizes = [CodeSize((64,) * 3, 64**3, 0.9, 20), CodeSize((256,) * 3, 256**3, 0.7, 9), CodeSize((256,) * 4, 9, 0.6, 9)]

    assert advised_size(sizes, **BOUNDS) == sizes[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_seeds_give_equal_figures(seed):
    first, second = (measure_code_sizes(vectors_of(600), texts_of(600), seed=seed) for _ in range(2))

    assert first == second
