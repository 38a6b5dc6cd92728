"""Item texts and titles: whatever a cell holds is written, and an empty field leaves nothing behind."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data import DataOptions, read_tables, render_texts
from cost_hf.data.item_texts import count_markup, item_titles, plain_text


def items_of(**columns):
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"item_id": [f"i{number}" for number in range(size)]} | columns)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{title} ({year})", ["T (1984)", "(2001)", "U", ""]),
        ("{title} ({brand}, {year})", ["T (B, 1984)", "(2001)", "U", ""]),
        ('[{title}] "{brand}": {year}.', ['[T] "B": 1984.', "2001.", "[U].", ""]),
        ("{title} [({year})]!", ["T [(1984)]!", "[(2001)]!", "U!", ""]),
        ("({title}, by {brand})", ["(T, by B)", "", "(U)", ""]),
        ("{title} (new) {year}", ["T (new) 1984", "(new) 2001", "U", ""]),
        ("{title} ({year}", ["T (1984", "(2001", "U", ""]),
        (":) {title}) {year}", [":) T) 1984", ") 2001", ":) U", ""]),
        ("{title}, made by {brand} ({year}).", ["T, made by B (1984).", "(2001).", "U.", ""]),
    ],
)
def test_brackets_vanish_with_the_field_in_them(template, expected):
    items = items_of(title=["T", None, "U", ""], year=[1984, 2001, None, None], brand=["B", None, None, None])

    assert render_texts(items, template) == expected


LITERALS = st.text(alphabet='ab ,.()[]"', max_size=6)


@given(LITERALS, LITERALS, LITERALS)
def test_a_template_without_empty_fields_is_filled_as_it_stands(before, between, after):
    template = f"{before}{{title}}{between}{{brand}}{after}"

    assert render_texts(items_of(title=["T"], brand=["B"]), template) == [template.format(title="T", brand="B")]


@pytest.mark.parametrize("odd", [1984, True, 2.5, ["x", "y"], {"de": "x"}, np.array(["x", "y"])])
def test_one_odd_cell_takes_no_column_away(odd):
    titles = pd.Series([*(f"title {number}" for number in range(9)), odd], dtype=object)
    items = items_of(title=titles, brand=["b"] * 10)

    texts = render_texts(items, None)

    assert texts[:9] == [f"title {number}. b" for number in range(9)]
    assert texts[9].endswith(". b") and texts[9] == render_texts(items, "{title}. {brand}")[9]
    assert item_titles(items)[9] == texts[9].removesuffix(". b")


def test_titles_that_are_numbers_are_titles():
    for values in ([1984, 2012, 300], [1984.0, 2012.0, None], pd.array([1984, 2012, None], dtype="Int64")):
        titles = item_titles(items_of(title=values))
        assert titles[:2] == ["1984", "2012"] and titles[2] in ("300", None)
        assert render_texts(items_of(title=values), None)[:2] == ["1984", "2012"]


def test_cells_without_a_title_have_none():
    assert item_titles(items_of(title=["a", None, "", " ", [], {}, float("nan")])) == ["a"] + [None] * 6
    assert item_titles(items_of(name=["a"])) is None


def test_lists_of_texts_belong_to_the_default_text_and_numbers_do_not():
    items = items_of(title=["a", "b"], tags=[["x", "y"], []], vector=[[0.1, 0.2], [0.3, 0.4]], price=[1.0, 2.0])

    assert render_texts(items, None) == ["a. x, y", "b"]


def test_odd_cells_are_noticed_by_column_row_and_value():
    titles = pd.Series(["a", 1984, "c"], dtype=object)
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i1"], "timestamp": [1, 2]})

    (notice,) = read_tables(DataOptions(), items=items_of(title=titles), interactions=clicks).notices

    assert "1 of 3 cells of items.title are not text, like 1984 in row 1" in notice.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Red &amp; blue<br>shoes</p>", "Red & blue shoes"),
        ("x <b>y</b>z", "x yz"),
        ("caf&eacute; &#39;x&#x27;", "caf\u00e9 'x'"),
        ("<script>var a = '<b>';</script>Hi <style>p {}</style>", "Hi"),
        ("I <3 you <br/> x", "I <3 you x"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
        ("<a href='x>y'>z</a> <!-- hidden -->", "z"),
        ("<p>x<y and <unknown>z</unknown>", "x<y and <unknown>z</unknown>"),
    ],
)
def test_html_becomes_the_text_of_the_page(text, expected):
    assert count_markup([text]) == 1
    assert plain_text(text) == expected


@pytest.mark.parametrize("text", ["a < b and c > d", "AT&T; R&D", "Tom & Jerry", "<3", "x <y", "a  b"])
def test_text_without_html_stays_as_it_is(text):
    assert count_markup([text]) == 0
    assert plain_text(text) == text


def test_html_is_noticed_and_cleaned_where_asked():
    items = items_of(title=["<b>R&amp;D</b>", "plain"], tags=[["<i>x</i>"], []], price=[1, 2])
    clicks = pd.DataFrame({"user_id": "u", "item_id": ["i0", "i1"], "timestamp": [1, 2]})

    dirty, clean = (
        read_tables(DataOptions(clean_html=cleans), items=items, interactions=clicks) for cleans in (False, True)
    )

    assert [notice.remedy for notice in dirty.notices] == ["--data.clean_html true"]
    assert "1 of 2 item texts" in dirty.notices[0].message
    assert clean.notices == () and clean.items["title"].tolist() == ["R&D", "plain"]
    assert render_texts(clean.items, "{title} {tags}") == ["R&D x", "plain"]
    assert clean.source_digest == dirty.source_digest
