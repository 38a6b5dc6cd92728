"""Markdown: the numbers of the page, and texts in which nothing is markup."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.reporting import numbers
from cost_hf.reporting.markdown import escape, sentence, to_markdown
from cost_hf.reporting.pages import comparison_page
from tests.reporting.made_up import made_up_compare


@pytest.fixture(scope="module")
def compare():
    return made_up_compare()


@pytest.fixture(scope="module")
def markdown(compare):
    return to_markdown(comparison_page(compare))


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


def test_commands_are_blocks_of_code(compare, markdown):
    command = compare["recommendation"]["command"]

    assert f"Train markov_text (0.80 ms per request):\n\n```bash\n{command}\n```\n" in markdown


def test_backticks_in_a_command_do_not_end_its_block(compare):
    advice = compare["recommendation"] | {"command": "cost-hf train 'a```b'"}

    assert "````bash\ncost-hf train 'a```b'\n````" in to_markdown(comparison_page(compare | {"recommendation": advice}))


@given(st.text())
def test_an_escaped_text_is_one_line_in_which_nothing_is_markup(text):
    escaped = escape(text)

    assert len(escaped.splitlines()) <= 1
    assert re.sub(r"\\([\\`*\[\]<>|#])", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*\[\]<>|#]", escaped)


def test_row_names_stay_code_in_markdown_sentences_and_the_rest_is_no_markup():
    assert sentence("use `text_last` [now]") == "use `text_last` \\[now\\]"
    assert sentence("a ` b") == "a \\` b"
