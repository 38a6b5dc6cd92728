"""Statistics of a sample against the training items outside of it, beside slow versions of their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.drift.features import (
    CodeFeatures,
    ItemFeatures,
    Neighbours,
    TextFeatures,
    nearest,
    text_features,
)
from cost_hf.experiments.drift.statistics import ALL, TrainingTotals, item_statistics, jensen_shannon, statistic_of

TEXTS = ["red kettle", "blue kettle", "red teapot", "green sieve", "red kettle"]
CODES = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [0, 0]])
VECTORS = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.2], [1.0, 0.01]])


def features(rows: np.ndarray, texts: TextFeatures, codes: np.ndarray, neighbours: Neighbours) -> ItemFeatures:
    keys = codes[:, 0] * 2 + codes[:, 1]
    parts = {"": CodeFeatures(codes, keys, np.arange(len(codes), dtype=float))}
    return ItemFeatures(rows, texts, neighbours, parts)


def training(new_texts=("a",)) -> tuple[TrainingTotals, TextFeatures]:
    known, new = text_features(TEXTS, list(new_texts))
    rows = np.arange(len(TEXTS))
    found = features(rows, known, CODES, nearest(VECTORS, VECTORS, rows))
    return TrainingTotals.of(found, num_keys={"": 4}, level_sizes={"": (2, 2)}), new


def of_new(texts, codes, vectors) -> dict[str, float]:
    totals, new_texts = training(texts)
    outside = np.full(len(texts), -1)
    new = features(outside, new_texts, np.array(codes), nearest(np.array(vectors), VECTORS, outside))
    return item_statistics(new, np.arange(len(texts)), totals)


def test_words_that_only_the_sample_has_are_unknown():
    totals, _ = training()

    found = item_statistics(totals.features, np.array([2, 3]), totals)

    assert found["words_per_text"] == 2.0
    assert found["unknown_words"] == 3 / 4  # of red teapot, green sieve only red is in other texts


def test_new_words_are_unknown_and_their_case_does_not_matter():
    found = of_new(["RED kettle", "red spade"], [[0, 0], [0, 0]], [[1.0, 0.0]] * 2)

    assert found["unknown_words"] == 1 / 4


def test_the_nearest_item_is_one_outside_of_the_sample():
    totals, _ = training()
    own = totals.features

    alone = item_statistics(own, np.array([0]), totals)["nearest_distance"]
    together = item_statistics(own, np.array([0, 4]), totals)["nearest_distance"]

    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    assert alone == pytest.approx(1 - units[0] @ units[4], abs=1e-5)
    assert together == pytest.approx(1 - np.mean([units[0] @ units[1], units[4] @ units[1]]), abs=1e-5)


def test_a_new_item_collides_with_the_catalog_and_with_other_new_ones():
    found = of_new(["a", "b", "c"], [[1, 1], [1, 1], [0, 1]], [[1.0, 0.0]] * 3)
    lonely = of_new(["a"], [[1, 1]], [[1.0, 0.0]])
    totals, _ = training()

    assert found["collisions"] == 1.0 and lonely["collisions"] == 0.0
    assert item_statistics(totals.features, np.arange(5), totals)["collisions"] == 4 / 5
    assert item_statistics(totals.features, np.array([3]), totals)["collisions"] == 0.0


def test_prefixes_and_codes_in_use():
    found = of_new(["a", "b"], [[1, 0], [1, 1]], [[1.0, 0.0]] * 2)

    assert found["largest_prefix"] == 1.0 and found["perplexity_1"] == 1.0 and found["perplexity_2"] == 2.0
    assert found["codes_used"] == (1 / 2 + 2 / 2) / 2
    assert found["prefix_shift"] == jensen_shannon(np.array([0, 2]), np.array([4, 1]))
    assert found["quantization_error"] == 0.5


counts = st.lists(st.integers(0, 9), min_size=4, max_size=4).map(np.array)


@given(counts, counts)
def test_the_distance_of_shares_is_symmetric_bounded_and_zero_for_equal_ones(one, other):
    distance = jensen_shannon(one, other)

    assert 0 <= distance <= 1 and distance == pytest.approx(jensen_shannon(other, one))
    assert jensen_shannon(one, 3 * one) == pytest.approx(0, abs=1e-6)


def test_every_statistic_is_found_by_its_name():
    assert all(statistic_of(own.name) == (own, "") for own in ALL)
    assert statistic_of("cost.perplexity_3")[0].label == "perplexity of level 3"
    assert statistic_of("cost.collisions")[1] == "cost"


def test_texts_without_any_word_or_letter_are_no_error():
    known, new = text_features(["!!", "?"], ["…"])

    assert known.words.shape[1] == new.words.shape[1] and known.letters.sum() == new.letters.sum() == 0
