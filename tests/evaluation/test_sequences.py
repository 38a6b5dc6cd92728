import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.evaluation.sequences import click_counts, consecutive_pairs, joined
from tests.evaluation.stand_ins import Cases

SEQUENCES = st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=6)


@given(SEQUENCES)
def test_pairs_equal_a_loop_over_users(sequences):
    expected = [pair for sequence in sequences for pair in itertools.pairwise(sequence)]

    found = consecutive_pairs([np.array(sequence, dtype=np.int64) for sequence in sequences])

    assert found.shape == (len(expected), 2)
    assert [tuple(pair) for pair in found.tolist()] == expected


@given(SEQUENCES)
def test_joined_rows_know_their_sequence(sequences):
    rows, owners = joined([np.array(sequence, dtype=np.int64) for sequence in sequences])

    again = [[row for row, owner in zip(rows, owners, strict=True) if owner == user] for user in range(len(sequences))]
    assert again == sequences


def test_repeated_targets_stand_anywhere_in_their_own_history():
    cases = Cases([[1, 2, 3], [1], [], [2, 2]], [1, 2, 3, 2])

    assert cases.repeated().tolist() == [True, False, False, True]


def test_clicks_are_counted_for_the_whole_catalog():
    assert click_counts([np.array([0, 2]), np.array([2])], num_items=4).tolist() == [1, 0, 2, 0]
    assert click_counts([], num_items=2).tolist() == [0, 0]


def test_rows_of_another_catalog_are_an_error():
    with pytest.raises(ValueError, match=r"catalog rows 0 … 2, got 1 … 3; take them from a split of the same catalog"):
        click_counts([np.array([1, 3])], num_items=3)
