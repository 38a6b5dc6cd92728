"""Text columns and how well texts tell items apart."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.experiments.check.texts import guess_template, letter_grams, near_duplicates, text_columns, text_facts

ROWS = 60


def catalog(**columns):
    frame = {"item_id": [f"B{number}" for number in range(ROWS)], "title": [f"lamp of kind {n}" for n in range(ROWS)]}
    return pd.DataFrame(frame | columns)


@pytest.mark.parametrize(
    "values",
    [
        [f"https://shop.example/{number}" for number in range(ROWS)],
        [f"{number}.99" for number in range(ROWS)],
        [f"${number}.99" for number in range(ROWS)],
        [f"2024-01-{1 + number % 28:02}" for number in range(ROWS)],
        [f"SKU-{number}" for number in range(ROWS)],
        [f"{number:08x}" for number in range(ROWS)],
        list(range(ROWS)),
        [None] * ROWS,
        ["a word", "two words", *[None] * (ROWS - 2)],
        ["ja", "Nein"] * (ROWS // 2),
    ],
    ids=["urls", "prices", "dollars", "dates", "skus", "hashes", "numbers", "nothing", "nearly nothing", "flags"],
)
def test_columns_that_say_nothing_are_left_out(values):
    assert guess_template(catalog(other=values)) == "{title}"


@pytest.mark.parametrize(
    "values",
    [["Lamps"] * ROWS, ["Canon", "3M", "Nikon"] * (ROWS // 3), [["Home", "Lamps"]] * ROWS, ["news, sports"] * ROWS],
    ids=["one word", "brands with digits", "lists", "comma list"],
)
def test_columns_of_words_are_taken(values):
    assert guess_template(catalog(other=values)) == "{title}. {other}"


@pytest.mark.parametrize("odd", [1984, True, ["x", "y"], {"en": "x"}, 2.5])
def test_one_odd_cell_takes_no_column_away(odd):
    titles = pd.Series([*(f"a title of {number}" for number in range(9)), odd], dtype=object)
    items = pd.DataFrame({"item_id": [str(number) for number in range(10)], "title": titles})

    (column,) = text_columns(items)

    assert (column.name, column.filled) == ("title", 1.0)


def test_a_title_may_be_a_number():
    items = pd.DataFrame({"item_id": ["1", "2"], "title": [1984, 2012], "year": [1984, 2012]})

    assert guess_template(items) == "{title}"


def test_broad_fields_stand_before_long_ones():
    items = catalog(description=["a long text about it"] * ROWS, brand=["Acme"] * ROWS, mood=["calm and warm"] * ROWS)

    assert guess_template(items[["description", "mood", "item_id", "brand", "title"]]) == (
        "{title}. {brand}. {mood}. {description}"
    )


def test_a_column_that_another_repeats_is_left_out():
    items = catalog(category=["sports"] * ROWS, categories=["sports, tennis"] * ROWS)

    assert guess_template(items) == "{title}. {categories}"


def test_filled_share_and_words_are_counted_on_what_is_there():
    (column,) = [each for each in text_columns(catalog(brand=["Red Fox", None] * (ROWS // 2))) if each.name == "brand"]

    assert (column.filled, column.words) == (0.5, 2.0)


def test_equal_texts_are_counted_by_item():
    texts = ["red lamp", "red lamp", "red lamp", "green chair", "blue sofa", "blue sofa", "a table"]

    facts = text_facts(texts, letter_grams(texts), template="{title}", columns=[])

    assert (facts.shared, facts.largest_shared, facts.empty) == (5, 3, 0)
    assert facts.mean_words == 2.0


WORDS = st.sampled_from(["lamp", "lamps", "chair", "green", "sofas", "sofa"])


@given(texts=st.lists(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), min_size=2, max_size=12))
def test_near_duplicates_agree_with_all_pairs(texts):
    grams = letter_grams(texts)
    groups = np.unique(texts, return_inverse=True)[1]
    cosines = (grams @ grams.T).toarray()
    expected = [
        any(groups[i] != groups[j] and cosines[i, j] > 0.95 for j in range(len(texts))) for i in range(len(texts))
    ]

    assert near_duplicates(grams, groups) == pytest.approx(np.mean(expected))


def test_a_plural_in_a_long_title_is_nearly_the_same_and_an_equal_text_is_not_counted():
    long = "sturdy wooden garden chair with cushion and armrests for terrace balcony and patio"
    texts = [long, long.replace("cushion", "cushions"), "red lamp", "red lamp"]

    assert near_duplicates(letter_grams(texts), np.array([0, 1, 2, 2])) == 0.5
