"""Formats of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.reporting import numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.score(0.09412), ".0941"),
        (numbers.score(1.0), "1.0000"),
        (numbers.score(-0.0032, signed=True), "−.0032"),
        (numbers.score(0.0032, signed=True), "+.0032"),
        (numbers.score(None), "–"),
        (numbers.interval({"value": 0.0941, "low": 0.0843, "high": 0.1041}), ".0941 [.0843, .1041]"),
        (numbers.interval({"value": 0.0941, "low": None, "high": None}), ".0941"),
        (numbers.interval(None), "–"),
        (numbers.percent(0.1234), "12.3\u00a0%"),
        (numbers.percent(-0.05, signed=True), "−5.0\u00a0%"),
        (numbers.percent(0.0004), "< 0.1\u00a0%"),
        (numbers.percent(0.004, digits=0), "< 1\u00a0%"),
        (numbers.percent(0.0), "0.0\u00a0%"),
        (numbers.probability(0.0004), "< .001"),
        (numbers.probability(0.0312), ".031"),
        (numbers.probability(1.0), "1.000"),
        (numbers.amount(12101), "12,101"),
        (numbers.amount(41.34), "41.3"),
        (numbers.amount(3.416), "3.42"),
        (numbers.amount(None), "–"),
        (numbers.duration(8.42), "8.4 s"),
        (numbers.duration(750), "12.5 min"),
        (numbers.duration(11160), "3.1 h"),
        (numbers.memory(840.2), "840 MiB"),
        (numbers.memory(1945.6), "1.9 GiB"),
        (numbers.ratio(0.004), ".004"),
        (numbers.ratio(0.55), ".55"),
        (numbers.ratio(0.0), ".00"),
        (numbers.ratio(212.4), "212"),
    ],
)
def test_numbers_are_written_as_agreed(written, expected):
    assert written == expected


@pytest.mark.parametrize(("sizes", "text"), [((256, 256, 256), "3 × 256"), ((64, 32), "64, 32")])
def test_level_sizes_are_short_where_they_are_equal(sizes, text):
    assert numbers.level_sizes(sizes) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "under a minute"),
        (37, "under a minute"),
        (120, "1–4 minutes"),
        (300, "3–8 minutes"),
        (1200, "10–35 minutes"),
        (3000, "35–80 minutes"),
        (4 * 3600, "2–7 hours"),
    ],
)
def test_a_duration_is_a_range_without_false_precision(seconds, words):
    assert numbers.estimated_duration(seconds) == words


@given(seconds=st.floats(60, 10**6))
def test_the_estimate_lies_inside_its_range(seconds):
    span, unit = numbers.estimated_duration(seconds).split(" ")
    low, high = (int(number) for number in span.split("–"))

    assert low <= seconds / {"minutes": 60, "hours": 3600}[unit] <= high or low == 1


@pytest.mark.parametrize(("mebibytes", "words"), [(700, "0.7–1.4 GiB"), (3000, "3–6 GiB")])
def test_an_estimated_memory_is_a_range(mebibytes, words):
    assert numbers.estimated_memory(mebibytes) == words
