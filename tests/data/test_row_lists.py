"""Lists of rows as slices of one array equal a list of arrays, whatever they overlap."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data.row_lists import RowLists


@st.composite
def overlapping(draw):
    rows = np.array(draw(st.lists(st.integers(0, 99), max_size=12)), dtype=np.int64)
    bounds = draw(st.lists(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows))), max_size=6))
    starts = np.array([min(pair) for pair in bounds], dtype=np.int64)
    ends = np.array([max(pair) for pair in bounds], dtype=np.int64)
    return RowLists(rows, starts, ends - starts), [
        rows[start:end].tolist() for start, end in zip(starts, ends, strict=True)
    ]


def as_lists(found):
    return [rows.tolist() for rows in found]


@given(overlapping())
def test_they_equal_a_list_of_arrays(case):
    lists, expected = case

    assert as_lists(lists) == expected
    assert [lists[number].tolist() for number in range(len(lists))] == expected
    assert as_lists(lists[1:]) == expected[1:]
    assert as_lists(lists.take(np.arange(len(lists))[::-1])) == expected[::-1]
    assert lists.concatenated().tolist() == list(chain(*expected))
    assert as_lists(RowLists.of([np.array(rows, dtype=np.int64) for rows in expected])) == expected


@given(overlapping(), st.integers(1, 9))
def test_blocks_hold_all_rows_in_order_and_few_at_a_time(case, size):
    lists, expected = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.data.row_lists.BLOCK_ROWS", size)
        blocks = [lists[start:end] for start, end in lists.bounds()]
        parts = as_lists(lists.blocks())

    assert [rows for block in blocks for rows in as_lists(block)] == expected
    assert list(chain(*parts)) == list(chain(*expected))
    assert all(len(block) == 1 or block.lengths.sum() <= size for block in blocks)


def test_numbers_of_other_types_keep_them():
    assert RowLists.of([np.ones(2, np.float32), np.ones(1, np.float32)]).rows.dtype == np.float32
    assert RowLists.of([np.ones(2, np.int32)]).rows.dtype == np.int64
