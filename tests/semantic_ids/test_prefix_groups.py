import numpy as np
import pytest

from cost_hf.semantic_ids.prefix_groups import PrefixGroups

CODES = np.random.default_rng(0).integers(0, 4, (60, 3))


@pytest.mark.parametrize("prefix", [1, 2])
def test_substitutes_share_the_prefix_and_are_other_items(prefix):
    groups = PrefixGroups(CODES, prefix=prefix)
    items = np.arange(60).repeat(50)

    others = groups.others(items, np.random.default_rng(1))

    assert (CODES[others, :prefix] == CODES[items, :prefix]).all()
    is_alone = np.array([(CODES[:, :prefix] == row).all(1).sum() == 1 for row in CODES[:, :prefix]])
    assert np.array_equal(others == items, is_alone[items])


def test_every_other_item_of_a_group_is_drawn_as_often():
    groups = PrefixGroups(np.array([[1, 0], [1, 1], [1, 2], [1, 3], [2, 0]]), prefix=1)

    drawn = groups.others(np.full(6000, 2), np.random.default_rng(0))

    counts = np.bincount(drawn, minlength=5)
    assert counts[2] == counts[4] == 0
    assert (np.abs(counts[[0, 1, 3]] - 2000) < 200).all()


@pytest.mark.parametrize("prefix", [0, 3, -1])
def test_a_prefix_that_no_two_items_share_is_refused(prefix):
    with pytest.raises(ValueError, match=rf"prefix must be from 1 to 2 for semantic IDs of 3 codes, got {prefix}"):
        PrefixGroups(CODES, prefix=prefix)
