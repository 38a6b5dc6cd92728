"""Semantic IDs as features: prefixes as categories that outlive every update of a catalog."""

import numpy as np
import pytest

from tests.recommenders.toys import toy_catalog


def test_items_share_a_category_exactly_where_they_share_the_prefix():
    catalog = toy_catalog(60, (4, 5, 3))

    features = catalog.prefix_features(3)

    assert features.ids.shape == (60, 3) and features.sizes == (4, 20, 60)
    for length in range(3):
        same = (catalog.codes[:, None, : length + 1] == catalog.codes[None, :, : length + 1]).all(-1)
        assert ((features.ids[:, None, length] == features.ids[None, :, length]) == same).all()
        assert features.ids[:, length].min() >= 0 and features.ids[:, length].max() < features.sizes[length]


def test_categories_of_old_items_stay_when_items_come_and_go():
    catalog = toy_catalog(30, (4, 5, 3))

    grown = catalog.with_items(["new"], codes=np.array([[0, 0, 0]])).without_items(["item003"])

    assert np.array_equal(grown.prefix_features(2).ids[:30], catalog.prefix_features(2).ids)


@pytest.mark.parametrize("length", [0, 5])
def test_a_length_that_no_sid_has_is_refused(length):
    with pytest.raises(ValueError, match=rf"prefixes have 1 … 4 codes, got length {length}"):
        toy_catalog(10, (4, 5, 3)).prefix_features(length)


def test_more_categories_than_an_integer_counts_are_refused():
    catalog = toy_catalog(5, (1 << 31, 1 << 31, 4))

    with pytest.raises(ValueError, match="shorten them"):
        catalog.prefix_features(3)
