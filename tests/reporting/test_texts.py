"""The terminal's and the markdown version say the same as the page."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.reporting import compare_text, numbers
from cost_hf.reporting.comparison import comparison_page
from cost_hf.reporting.markdown import escape, sentence, to_markdown
from tests.reporting.made_up import made_up_compare


@pytest.fixture(scope="module")
def compare():
    return made_up_compare()


@pytest.fixture(scope="module")
def text(compare):
    return compare_text(compare)


@pytest.fixture(scope="module")
def markdown(compare):
    return to_markdown(comparison_page(compare))


def test_no_line_of_the_terminal_is_wider_than_110_columns(compare, text):
    long = "a_row_with_a_name_that_never_seems_to_come_to_an_end"
    renamed = compare | {"rows": {**compare["rows"], long: compare["rows"]["sasrec_ce"]}}

    assert max(map(len, text.splitlines())) <= 110
    assert max(map(len, compare_text(renamed).splitlines())) <= 110


def test_the_terminal_says_first_what_can_be_seen_and_last_what_to_do(compare, text):
    flat = " ".join(text.split())
    places = [
        flat.index(part)
        for part in (
            compare["detectable_difference"]["text"],
            "ensemble",
            "Claims, seen items allowed",
            compare["recommendation"]["headline"],
            compare["recommendation"]["paragraphs"][-1],
        )
    ]

    assert places == sorted(places)


def test_the_terminal_shows_every_row_and_claim(compare, text):
    flat = " ".join(text.split())

    for name, row in compare["rows"].items():
        value = row.get("metrics", {}).get("seen_allowed", {}).get("ndcg@10")
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert numbers.interval(value) in line if value else row["status"].replace("_", " ") in line
        if not value:
            assert row["message"] in flat
    for claim in compare["claims"]:
        assert (
            f"{claim['a']} against {claim['b']}: NDCG@10 {numbers.interval(claim['difference'], signed=True)}" in flat
        )


def test_an_empty_comparison_is_text():
    assert "There is no recommendation yet" in compare_text({})


def test_markdown_tables_have_as_many_cells_in_every_line(markdown):
    tables = re.findall(r"(?:^\|.*\n?)+", markdown, flags=re.MULTILINE)

    assert len(tables) > 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_shows_every_row_in_the_main_table(compare, markdown):
    main = markdown.split("### ")[1]

    for name, row in compare["rows"].items():
        assert f"| {name} " in main
        value = row.get("metrics", {}).get("seen_allowed", {}).get("ndcg@10")
        if value:
            assert escape(numbers.interval(value)) in main


def test_markdown_has_no_tags_and_explains_no_drawings(markdown):
    assert "<svg" not in markdown and "<small" not in markdown
    assert "Grey lines" not in markdown and "tint" not in markdown


@given(st.text())
def test_an_escaped_text_is_one_line_in_which_nothing_is_markup(text):
    escaped = escape(text)

    assert len(escaped.splitlines()) <= 1
    assert re.sub(r"\\([\\`*\[\]<>|#])", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*\[\]<>|#]", escaped)


def test_row_names_stay_code_in_markdown_sentences_and_the_rest_is_no_markup():
    assert sentence("use `text_last` [now]") == "use `text_last` \\[now\\]"
    assert sentence("a ` b") == "a \\` b"
