import numpy as np
import pytest

from cost_hf.semantic_ids.growing_rows import with_rows
from cost_hf.semantic_ids.item_list import ItemList

WIDTH = 3


def table_of(rows, *, first=0):
    return np.arange(first, first + rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH)


def test_versions_share_the_rows_that_they_have_in_common():
    versions = [table_of(100)]
    expected = [versions[0].copy()]
    for number in range(30):
        row = table_of(1, first=1000 * number)
        versions.append(with_rows(versions[-1], row))
        expected.append(np.concatenate([expected[-1], row]))

    assert all(np.array_equal(version, wanted) for version, wanted in zip(versions, expected, strict=True))
    memories = {id(version.base) for version in versions[1:]}
    assert len(memories) <= 4  # 30 more rows move the table a few times


def test_a_version_that_others_follow_on_already_grows_apart_from_them():
    first = with_rows(table_of(50), table_of(1))
    one = with_rows(first, table_of(1, first=7))
    other = with_rows(first, table_of(1, first=9))

    assert one[-1].tolist() == [7, 8, 9] and other[-1].tolist() == [9, 10, 11]
    assert np.array_equal(one[:-1], other[:-1])


@pytest.mark.parametrize("part", [slice(1, None), slice(None, -1), (slice(None), slice(0, 2))])
def test_a_part_of_a_table_grows_by_itself(part):
    whole = with_rows(table_of(50), table_of(1))
    own = whole[part]
    expected = own.copy()

    grown = with_rows(own, np.zeros((1, own.shape[1]), dtype=np.float32))

    assert np.array_equal(grown[:-1], expected) and not grown[-1].any()
    assert np.array_equal(whole, np.concatenate([table_of(50), table_of(1)]))


def test_what_may_not_be_written_to_stays_so():
    table = table_of(5)
    table.flags.writeable = False

    assert not with_rows(table, table_of(1)).flags.writeable and with_rows(table_of(5), table_of(1)).flags.writeable


def test_a_list_that_grows_item_by_item_holds_its_vectors_once():
    ids = tuple(f"i{number:03d}" for number in range(200))
    items = ItemList(ids, np.zeros(200, dtype=bool), None, table_of(200)).with_items(["j"], vectors=table_of(1))
    later = items.with_items(["k", "l"], vectors=table_of(2, first=5))

    assert np.shares_memory(items.vectors, later.vectors)
    assert later.vectors[-2:].tolist() == table_of(2, first=5).tolist()
