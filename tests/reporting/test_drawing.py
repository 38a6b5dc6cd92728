"""Scales and drawings: values are drawn where they belong."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.reporting.drawing import (
    MAX_POINTS,
    Series,
    axis,
    interval_drawing,
    line_chart,
    mark,
    nice_scale,
    tag,
    tick_text,
)

VALUES = st.lists(
    st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: round(value, 6)), min_size=1, max_size=8
)


@given(VALUES)
def test_a_scale_holds_its_values_and_its_ticks(values):
    scale = nice_scale(values)

    assert scale.low < scale.high
    assert all(scale.low <= value <= scale.high for value in values)
    assert all(scale.low - 1e-9 * abs(scale.low) <= tick <= scale.high + 1e-9 * abs(scale.high) for tick in scale.ticks)
    assert 1 <= len(scale.ticks) <= 6


@given(VALUES)
def test_tick_labels_are_told_apart(values):
    scale = nice_scale(values)
    labels = [tick_text(tick, scale) for tick in scale.ticks]

    assert len(set(labels)) == len(labels)


def test_a_scale_starts_at_zero_where_little_stays_empty():
    assert nice_scale([0.04, 0.12]).low == 0.0
    assert nice_scale([0.10, 0.12]).low > 0.09


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0, 0.1], ["0", ".025", ".050", ".075", ".100"]),
        ([-0.01, 0.01], ["−.010", "−.005", "0", ".005", ".010"]),
        ([0, 4000], ["0", "1,000", "2,000", "3,000", "4,000"]),
    ],
)
def test_ticks_are_written_with_the_digits_of_their_step(values, labels):
    scale = nice_scale(values)

    assert [tick_text(tick, scale) for tick in scale.ticks] == labels


def test_whisker_and_mark_stand_at_their_values():
    scale = nice_scale([0.0, 1.0])
    drawing = str(interval_drawing({"value": 0.5, "low": 0.2, "high": 0.9}, scale, label="x", family="dense"))

    assert f'<line x1="{scale.x(0.2)}" y1="0" x2="{scale.x(0.9)}" y2="0" class="whisker">' in drawing
    assert f'<use href="#mark-dense" x="{scale.x(0.5)}"' in drawing


def test_a_value_without_bounds_has_no_whisker():
    drawing = str(interval_drawing({"value": 0.5}, nice_scale([0.0, 1.0]), label="x", family="dense"))

    assert "whisker" not in drawing


def test_seeds_are_dots_where_there_is_more_than_one():
    def dots(seeds):
        cell = {"value": 0.5, "per_seed": seeds}
        return str(interval_drawing(cell, nice_scale([0.0, 1.0]), label="x", family="dense")).count("<circle")

    assert dots([0.4, 0.5, 0.6]) == 3
    assert dots([0.5]) == 0


def test_the_ruler_is_as_long_as_the_detectable_difference():
    scale = nice_scale([0.0, 1.0])
    length = float(re.search(r'x1="([\d.]+)%" y1="6"', axis(scale, ruler=0.25)).group(1))

    assert (100 - length) / 100 * (scale.high - scale.low) == pytest.approx(0.25, abs=1e-3)
    assert "ruler" not in axis(scale, ruler=5.0)


def test_attributes_are_escaped():
    assert tag("text", "<&", aria_label='"<') == '<text aria-label="&#34;&lt;">&lt;&amp;</text>'


def test_an_unknown_family_gets_a_plain_mark():
    assert 'href="#mark-counting"' in mark("something new")


def test_long_curves_are_thinned_but_keep_their_end():
    points = tuple((float(epoch), 1.0 / (1 + epoch)) for epoch in range(1000))
    x, y = nice_scale([0, 999]), nice_scale([0.0, 1.0])

    drawing = line_chart([Series(points)], x=x, y=y, label="x", family="dense")
    drawn = re.search(r'points="([^"]+)"', drawing).group(1).split()

    assert len(drawn) <= MAX_POINTS + 1
    assert float(drawn[-1].split(",")[0]) == pytest.approx(40 + x.share(999) * (320 - 40 - 26), abs=0.1)


def test_labels_at_line_ends_do_not_overlap():
    series = [Series(((0.0, 0.0), (1.0, 0.5 + step / 1000)), str(step)) for step in range(4)]

    drawing = line_chart(series, x=nice_scale([0, 1]), y=nice_scale([0.0, 1.0]), label="x", family="dense")
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" dy="4" class="end-label"', drawing))

    assert len(heights) == 4
    assert all(below - above >= 10.9 for above, below in itertools.pairwise(heights))
