"""Texts of others on our way: what a terminal would obey, and YAML that stands for more than it says."""

import pytest

from cost_hf.terminal_text import terminal_line, terminal_text
from cost_hf.yaml_text import MAX_CHARACTERS, read_yaml

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in zip("abcd", "bcde", strict=True)
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jred", "\\x1b[2Jred"),
        ("a\x9b31m", "a\\x9b31m"),
        ("back\x08\x7f\rover", "back\\x08\\x7f\\rover"),
        ("left\u202eright\u2066", "left\\u202eright\\u2066"),
        ("one\u2028two\x85", "one\\u2028two\\x85"),
        ("lone \ud800", "lone \\ud800"),
        ("Blåbär, 北京, عربي, 👩\u200d🚀", "Blåbär, 北京, عربي, 👩\u200d🚀"),
    ],
)
def test_a_terminal_gets_nothing_that_it_would_obey(text, shown):
    assert terminal_text(text) == terminal_line(text) == shown


def test_lines_stay_lines_and_a_name_stays_on_one():
    assert terminal_text("a\n\tb") == "a\n\tb"
    assert terminal_line("a\n\tb") == "a\\n\\tb"


def test_plain_yaml_is_read_as_ever():
    assert read_yaml("a: [1, 2.5, null, true, x]\nb: {c: 2024-01-01}") is not None
    assert read_yaml("[0, -0, 0.5, 0x1F, 100, .5, '010', 1_000]") == [0, 0, 0.5, 31, 100, 0.5, "010", 1000]
    assert read_yaml("") is None and read_yaml("1e-3") == "1e-3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 2 refers to another value by an alias"),
        ("a: 1\nb: 2\na: 3", "give 'a' twice"),
        ("[" * 100 + "]" * 100, "more than 50 deep"),
        ("[" * 100_000, "deep|more than|levels"),
        ("x" * (MAX_CHARACTERS + 1), "expected at most 1000000 characters"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("2024-13-45", "month must be in 1..12"),
        ("a: [1", "expected ',' or ']'"),
        ("\x00", "unacceptable character"),
        ("data: {seed: 010}", "line 1 holds 010, which YAML does not read as decimal digits"),
        ("a: 1\nb: -1:30", "line 2 holds -1:30"),
        ("1:30.5", "holds 1:30.5"),
    ],
)
def test_yaml_that_no_recipe_needs_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_yaml(text)
