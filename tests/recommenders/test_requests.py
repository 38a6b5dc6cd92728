"""Requests as JSON: what they are parsed into, and errors that name the field."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.recommenders.requests import (
    DEFAULTS,
    MAX_BATCH,
    MAX_CHANGES,
    MAX_TEXT_LENGTH,
    MAX_WIDTH,
    BadRequest,
    RecommendRequest,
    RequestError,
    decode,
    parse,
    parse_changes,
    parse_encode,
    parse_similar,
)

PARSERS = {"recommend": parse, "similar": parse_similar, "encode": parse_encode, "changes": parse_changes}


def test_a_request_has_its_histories_and_the_defaults_of_what_it_leaves_out():
    one = parse({"inputs": ["a", 7, "ünï"], "parameters": {"top_k": 3}})
    many = parse({"inputs": [["a"], []], "parameters": {"user_ids": ["x", 2**64 - 1]}})

    assert one.histories == (("a", "7", "ünï"),) and one.user_ids is None
    assert one.options == DEFAULTS | {"top_k": 3}
    assert many.histories == (("a",), ()) and many.user_ids == ("x", "18446744073709551615")
    assert many.options == DEFAULTS and many == RecommendRequest(many.histories, dict(DEFAULTS), many.user_ids)
    assert parse({"inputs": []}).histories == ((),)


def test_only_requests_of_equal_options_have_equal_keys():
    requests = [
        parse({"inputs": ["a"], "parameters": parameters})
        for parameters in (
            {},
            {"where": {"size": 1}},
            {"where": {"size": True}},
            {"where": {"size": "1"}},
            {"where": {"size": [1]}},
            {"where": {"size": {"min": 1}}},
            {"allowed": ["a", "b"]},
            {"allowed": ["a', 'b"]},
            {"denied": ["a", "b"]},
            {"diversify": {"size": 1}},
        )
    ]
    bounds = RecommendRequest.of([["a"]], where={"size": (1, 2)})
    values = RecommendRequest.of([["a"]], where={"size": [1, 2]})

    keys = [request.options_key for request in (*requests, bounds, values)]
    assert len(set(keys)) == len(keys)
    assert parse({"inputs": ["b"], "parameters": {"top_k": 10}}).options_key == keys[0]


def test_other_requests_are_parsed():
    similar = parse_similar({"item_id": 5, "parameters": {"top_k": 2, "where": {"price": {"max": 3}}}})
    encode = parse_encode({"vectors": [[1, 0.5], [0, 2]]})
    changes = parse_changes({"add": [{"item_id": "a", "title": "b"}], "remove": [3]})

    assert similar.item_id == "5"
    assert similar.options == {"top_k": 2, "allowed": None, "denied": None, "where": {"price": {"max": 3}}}
    assert encode.vectors == ((1.0, 0.5), (0.0, 2.0)) and encode.texts is None
    assert parse_encode({"texts": ["a"]}).texts == ("a",)
    assert (changes.add, changes.update, changes.remove) == (({"item_id": "a", "title": "b"},), (), ("3",))


@pytest.mark.parametrize(
    ("name", "data", "field", "message"),
    [
        ("recommend", {"inputs": ["a"], "parameters": {"user_ids": "x"}}, "parameters.user_ids", "expected a list of"),
        ("recommend", {"inputs": ["a"], "parameters": {"user_ids": []}}, "parameters.user_ids", "got 0 for 1"),
        ("recommend", {"inputs": ["a"], "parameters": {"user_ids": [None]}}, "parameters.user_ids[0]", "a user id"),
        ("recommend", {"\ud800": 1}, "\\ud800", "unknown field"),
        ("similar", {}, "item_id", "it is missing"),
        ("similar", {"item_id": ["a"]}, "item_id", "got a list of 1"),
        (
            "similar",
            {"item_id": "a", "parameters": {"explain": True}},
            "parameters.explain",
            "known are top_k, allowed",
        ),
        ("similar", {"item_id": "a", "parameters": {"top_k": 0}}, "parameters.top_k", "from 1 to"),
        ("encode", {}, "", "either texts or vectors"),
        ("encode", {"texts": ["a"], "vectors": [[1]]}, "", "either texts or vectors"),
        ("encode", {"texts": "a"}, "texts", "got 'a'"),
        ("encode", {"texts": []}, "texts", f"1 to {MAX_BATCH} texts, got a list of 0"),
        ("encode", {"texts": ["a"] * (MAX_BATCH + 1)}, "texts", f"got a list of {MAX_BATCH + 1}"),
        ("encode", {"texts": ["a", "  "]}, "texts[1]", "got '  '"),
        ("encode", {"texts": ["a" * (MAX_TEXT_LENGTH + 1)]}, "texts[0]", f"got {MAX_TEXT_LENGTH + 1} characters"),
        ("encode", {"texts": ["a\udc00"]}, "texts[0]", "a lone surrogate"),
        ("encode", {"vectors": [[1.0, "2"]]}, "vectors[0][1]", "a finite number, got '2'"),
        ("encode", {"vectors": [[1.0, True]]}, "vectors[0][1]", "got True"),
        ("encode", {"vectors": [[10**400]]}, "vectors[0][0]", "got a number that large"),
        ("encode", {"vectors": [[]]}, "vectors[0]", f"1 to {MAX_WIDTH} numbers, got a list of 0"),
        ("changes", {}, "", "add, update or remove, got none"),
        ("changes", {"add": [], "remove": []}, "", "got none"),
        ("changes", {"delete": ["a"]}, "delete", "known are add, update, remove"),
        ("changes", {"add": {"item_id": "a"}}, "add", "got an object"),
        ("changes", {"add": [{"item_id": "a"}, {}]}, "add[1]", "got an empty one"),
        ("changes", {"update": [["a"]]}, "update[0]", "expected an object with the columns"),
        ("changes", {"remove": ["a"] * (MAX_CHANGES + 1)}, "remove", f"at most {MAX_CHANGES} item ids"),
    ],
)
def test_a_bad_request_names_its_field(name, data, field, message):
    with pytest.raises(BadRequest, match=re.escape(message)) as caught:
        PARSERS[name](data)
    assert caught.value.field == field
    json.dumps(caught.value.as_json(), ensure_ascii=False).encode()


def test_nesting_without_end_is_refused_before_anything_reads_it():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    for condition in (deep, [deep], {"min": deep}):
        with pytest.raises(BadRequest, match="a value, a list of values, or min and max") as caught:
            parse({"inputs": [], "parameters": {"where": {"price": condition}}})
        assert caught.value.field == "parameters.where.price"
    with pytest.raises(BadRequest, match="at most 8 levels") as caught:
        parse_changes({"add": [{"item_id": "a"}, {"item_id": "b", "tags": deep}]})
    assert caught.value.field == "add[1].tags"
    with pytest.raises(BadRequest, match="got a number that large in it"):
        parse({"inputs": [], "parameters": {"where": {"price": [10**5000]}}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["inputs", "parameters", "item_id", "texts", "vectors", "add", "update", "remove"])


@pytest.mark.parametrize("name", PARSERS)
@given(data=JSON | st.dictionaries(NAMES, JSON, max_size=3))
def test_whatever_is_sent_is_parsed_or_refused_with_a_field(name, data):
    try:
        PARSERS[name](data)
    except RequestError as error:
        json.dumps(error.as_json(), ensure_ascii=False).encode()


def test_a_body_is_json():
    assert decode('{"inputs": ["ünï"]}'.encode()) == {"inputs": ["ünï"]}
    with pytest.raises(BadRequest, match="expected JSON"):
        decode(b'{"inputs": Infinity}')
