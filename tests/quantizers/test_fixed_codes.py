import numpy as np
import pandas as pd
import pytest

from cost_hf.quantizers.fixed_codes import category_codes, random_codes

IDS = [f"item-{number}" for number in range(2000)]


def test_random_codes_are_uniform_within_each_level():
    codes = random_codes(IDS, (4, 16), seed=0)

    assert codes.shape == (2000, 2) and codes.dtype == np.int64
    for column, size in zip(codes.T, (4, 16), strict=True):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size and np.abs(counts / 2000 - 1 / size).max() < 0.03


def test_another_item_changes_no_random_code():
    more, fewer = random_codes(IDS, (64, 64, 64), seed=0), random_codes(IDS[5:50], (64, 64, 64), seed=0)

    assert np.array_equal(more[5:50], fewer)


def test_random_codes_depend_on_the_seed():
    assert not np.array_equal(random_codes(IDS, (64,), seed=0), random_codes(IDS, (64,), seed=1))


def test_category_codes_number_the_names_below_one_parent_in_sorted_order():
    items = pd.DataFrame({"categories": ["b, x", "a,z", "b , w", "a, z", "a", None, "b,x,more"]})

    codes = category_codes(items, "categories", (3, 3))

    assert codes.tolist() == [[2, 1], [1, 1], [2, 0], [1, 1], [1, 0], [0, 0], [2, 1]]


def test_items_with_one_category_path_get_one_code():
    items = pd.DataFrame({"categories": ["a,b,c"] * 3})

    assert category_codes(items, "categories", (2, 2, 2)).tolist() == [[0, 0, 0]] * 3


def test_a_category_tree_wider_than_a_level_is_an_error_that_says_how_wide():
    items = pd.DataFrame({"categories": [f"a,{number:02d}" for number in range(9)]})

    with pytest.raises(
        ValueError, match=r"need 9 codes on level 2, got codes.level_sizes=\[4, 8\]; raise it to at least 9"
    ):
        category_codes(items, "categories", (4, 8))


def test_a_missing_category_column_is_an_error_that_lists_the_columns():
    with pytest.raises(ValueError, match=r"codes\.category_column .* got 'categories', found item_id, genre"):
        category_codes(pd.DataFrame({"item_id": ["1"], "genre": ["a"]}), "categories", (4,))


def test_lists_of_categories_have_the_codes_of_texts_with_commas():
    texts = ["Toys,Games", "Toys", "Books,Games", None]
    lists = [None if text is None else np.array(text.split(",")) for text in texts]
    codes = [category_codes(pd.DataFrame({"categories": column}), "categories", (4, 4)) for column in (texts, lists)]

    assert codes[0].tolist() == codes[1].tolist()
