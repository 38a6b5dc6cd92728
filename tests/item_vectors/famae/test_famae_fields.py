import logging

import numpy as np
import pandas as pd
import pytest

from cost_hf.data.errors import DataError
from cost_hf.item_vectors.famae.fields import FieldVocabulary, parse_fields, render_fields
from cost_hf.item_vectors.famae.options import FamaeOptions

ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "brand": ["Acme", None, "Zeta"],
        "year": [1999, None, 2001],
        "categories": [["Tools", "Drills"], ["Tools"], []],
        "path": ["Tools, Saws", "Tools", None],
    }
)


def test_texts_are_json_lists_of_id_and_values():
    texts = render_fields(ITEMS, ["brand", "year", "categories:1", "categories:2", "path:2"])

    assert parse_fields(texts, count=6) == [
        ["a", "Acme", "1999", "Tools", "Drills", "Saws"],
        ["b", None, None, "Tools", None, None],
        ["c", "Zeta", "2001", None, None, None],
    ]


def test_a_column_that_the_items_lack_is_named():
    with pytest.raises(DataError, match="no column 'color'"):
        render_fields(ITEMS, ["color"])


def test_only_a_table_with_ids_is_rendered():
    with pytest.raises(DataError, match=r"its id, and the items have no column 'item_id', only \['brand'\]; add it"):
        render_fields(ITEMS[["brand"]], ["brand"])
    with pytest.raises(DataError, match=r"expected a DataFrame of items, got a list; pass pandas\.DataFrame"):
        render_fields([{"item_id": "a", "brand": "Acme"}], ["brand"])


@pytest.mark.parametrize("text", ["a lamp", '["a"]', '["a", 3]', '{"a": 1}'])
def test_a_text_that_render_did_not_make_is_refused(text):
    with pytest.raises(DataError, match=r"encoder\.render"):
        parse_fields([text], count=2)


def test_only_values_of_trained_items_are_known():
    texts = render_fields(ITEMS, ["brand"])

    vocabulary = FieldVocabulary.of(["brand"], texts, np.array([True, True, False]))

    assert vocabulary.values == (("a", "b"), ("Acme",))
    assert vocabulary.sizes == (3, 2)
    assert vocabulary.numbers(texts).tolist() == [[1, 1], [2, 0], [0, 0]]


def test_unknown_values_are_reported_with_the_first(caplog):
    texts = render_fields(ITEMS, ["brand"])
    vocabulary = FieldVocabulary.of(["brand"], texts[:2], np.array([True, True]))

    with caplog.at_level(logging.WARNING):
        vocabulary.warn_of_unknown(texts)

    assert caplog.messages == [
        "1 of 3 items have a value of brand that no item of the training has, such as 'Zeta'; it counts as missing"
    ]


def test_a_field_without_any_value_is_refused():
    texts = render_fields(ITEMS, ["path:2"])
    with pytest.raises(DataError, match="no item with a training click has a value of 'path:2'"):
        FieldVocabulary.of(["path:2"], texts, np.array([False, True, True]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fields": ["item_id"]}, "beside item_id"),
        ({"fields": ["a:0"]}, "from 1 to 100"),
        ({"fields": ["a", "a"]}, "twice"),
        ({"dim": 10}, "multiple of vectors.num_heads=4"),
        ({"max_items": 1}, "expected 2 to"),
        ({"new_items": "random"}, "one of zero, mean"),
        ({"epochs": 0}, "vectors.epochs"),
        ({"dropout": 1.0}, "share in"),
    ],
    ids=str,
)
def test_options_that_no_run_can_have_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        FamaeOptions(**values)


def test_a_number_is_one_value_whatever_the_rest_of_its_column_is():
    trained = pd.DataFrame({"item_id": ["a", "b"], "size": [5.0, 2.5]})
    new = pd.DataFrame({"item_id": ["a", "b"], "size": [5, None]})

    assert render_fields(trained, ["size"]) == ['["a", "5"]', '["b", "2.5"]']
    assert render_fields(new, ["size"]) == ['["a", "5"]', '["b", null]']
