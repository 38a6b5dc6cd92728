"""Categories as numbers: paths from broad to narrow, levels that say nothing left out."""

import numpy as np
import pandas as pd
import pytest

from cost_hf.data.category_tags import CategoryTags


def tags_of(lists, levels=3):
    return CategoryTags.of(pd.DataFrame({"categories": lists}), "categories", levels=levels, field="isr.tag_column")


def test_a_tag_is_a_category_with_those_above_it():
    found = tags_of(["Beauty,Hair,Combs", "Beauty, Hair ,Care", "Beauty,Skin,Care", "Beauty,Skin", None, ",Hair,Combs"])

    assert found.sizes == (2, 3)  # the first level is the same for all, and Care below two parents is two tags
    assert found.tags.tolist() == [[0, 1], [0, 0], [1, 2], [1, -1], [-1, -1], [-1, -1]]


def test_no_more_levels_than_asked_for():
    assert tags_of(["a,b,c", "d,e,f"], levels=2).sizes == (2, 2)


def test_columns_without_tags_are_named():
    with pytest.raises(
        ValueError, match=r"isr.tag_column must be a column of the items, got 'topic', found categories"
    ):
        CategoryTags.of(pd.DataFrame({"categories": ["a"]}), "topic", levels=1, field="isr.tag_column")
    with pytest.raises(ValueError, match="must list categories of at least two values, got 1 different lists"):
        tags_of(["a", "a", None])


@pytest.mark.parametrize("as_cell", [list, tuple, np.array])
def test_lists_of_categories_have_the_tags_of_texts_with_commas(as_cell):
    texts = ["Beauty,Hair,Combs", "Beauty,Hair", "Beauty,Skin", None]
    lists = [None if text is None else as_cell(text.split(",")) for text in texts]

    assert tags_of(lists).tags.tolist() == tags_of(texts).tags.tolist()
    with pytest.raises(ValueError, match="at least two values, got 1 different lists"):
        tags_of([as_cell(["a"]), as_cell(["a"])])
