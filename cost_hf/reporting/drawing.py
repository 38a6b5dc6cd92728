"""Drawings as SVG: marks of the families, round scales, drawings inside table rows, and line charts.

Colors, line widths and fonts are in the style sheet, under class names, for light, dark and print. Families differ in
shape as well as in color. Positions along a table row are percentages and the drawings are as high as the row, so they
fill any column without distortion, and bands and grid lines run through the table.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cost_hf.reporting.numbers import MINUS

STEPS = (1, 2, 2.5, 5, 10)  # of ticks, times a power of ten
ROUND = "M-{0},0a{0},{0} 0 1,0 {1},0a{0},{0} 0 1,0 -{1},0z"
SHAPES = {  # of the families of methods, and of the rows that are no methods
    "counting": ROUND.format(4.2, 8.4),
    "dense": "M-4,-4h8v8h-8z",
    "generative": ROUND.format(4.6, 9.2),
    "hybrid": "M0,-5.6L5.6,0L0,5.6L-5.6,0z",
    "calibration": "M0,-5L5,4H-5z",
    "oracle": "M0,5L5,-4H-5z",
}

SEED_DROP = 9  # pixels below the whisker
WIDTH = 320  # of a line chart, like the margins around it
HEIGHT = 170
LEFT = 40
RIGHT = 26
TOP = 10
BOTTOM = 24
MAX_POINTS = 60  # of a line
LABEL_HEIGHT = 11.0


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Return the position of a value, 0 at the low end and 1 at the high end; values outside are clipped."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def x(self, value: float) -> str:
        """Return the position of a value as an SVG length in percent."""
        return f"{self.share(value):.2%}"


def nice_scale(values: Iterable[float | None], *, num_ticks: int = 4) -> Scale:
    """Return an axis that covers all values with a small margin and has round ticks.

    It starts at zero where that leaves less than half of it empty.
    """
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low = min(known)
    high = max(known)
    if 0 <= low < high / 2:
        low = 0.0
    if high <= low:
        low -= abs(low) / 2 or 0.5
        high += abs(high) / 2 or 0.5
    rough = (high - low) / num_ticks
    margin = (high - low) / 25
    low = low if low == 0 else low - margin
    high += margin
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in STEPS if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Scale(low, high, tuple(number * step for number in range(first, last + 1)))


def tick_text(value: float, scale: Scale) -> str:
    """Return a tick label with the digits that the step needs: `.05`, `2,000`."""
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-6:  # steps of 2.5
        digits += 1
    text = f"{abs(value):,.{digits}f}"
    if not float(text.replace(",", "")):
        return "0"
    text = text.removeprefix("0")
    return f"{MINUS}{text}" if value < 0 else text


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; values and plain children are escaped.

    Underscores of attribute names become hyphens; a final one is dropped (`class_`).
    """
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), pairs, Markup("").join(children))


def line(x1: str, y1: float | str, x2: str, y2: float | str, class_: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def image(label: str, *children: str, class_: str, family: str = "", **attributes: object) -> Markup:
    """Return an inline image with its description as label."""
    classes = f"{class_} f-{family}" if family else class_
    return tag("svg", *children, class_=classes, role="img", aria_label=label, **attributes)


def definitions(*parts: str) -> Markup:
    """Return an invisible drawing whose parts are referred to by id."""
    return tag("svg", tag("defs", *parts), width=0, height=0, class_="definitions", aria_hidden="true")


def mark_definitions() -> Markup:
    """Return the shapes of the families, to which `mark` refers."""
    shapes = (tag("path", d=path, id=_mark_id(family), class_="mark") for family, path in SHAPES.items())
    return definitions(*shapes)


def mark(family: str, **position: object) -> Markup:
    """Return the mark of a family, at a position where one is given."""
    return tag("use", href=f"#{_mark_id(family)}", **position)


def chip(family: str) -> Markup:
    """Return the mark of a family to precede its name; nothing for a row without a family."""
    return tag("svg", mark(family), class_=f"chip f-{family}", aria_hidden="true") if family else Markup("")


def _mark_id(family: str) -> str:
    return f"mark-{family if family in SHAPES else 'counting'}"


def axis(scale: Scale, *, ruler: float | None = None) -> Markup:
    """Return tick labels for the head of a column, below a bar of length `ruler` (in units of the axis)."""
    has_ruler = ruler is not None and 0 < ruler <= scale.high - scale.low
    base = 24 if has_ruler else 11
    parts = [
        tag(
            "text",
            tick_text(tick, scale),
            x=scale.x(tick),
            y=base,
            text_anchor="middle" if scale.share(tick) else "start",
        )
        for tick in scale.ticks
    ]
    if ruler is not None and has_ruler:
        start = scale.x(scale.high - ruler)
        end = "100%"
        parts += [line(start, 6, end, 6, "ruler"), line(start, 2, start, 10, "ruler"), line(end, 2, end, 10, "ruler")]
    return tag("svg", *parts, class_="axis", aria_hidden="true", height=base + 3)


def interval_drawing(
    cell: Mapping[str, Any],
    scale: Scale,
    *,
    label: str,
    family: str,
    band: tuple[float, float] | None = None,
    rule: float | None = None,
) -> Markup:
    """Return a dot with its whisker, and a small dot per seed.

    Args:
        cell: `value`, and where they are known `low`, `high` and `per_seed`.
        scale: axis shared by all rows.
        label: description of the drawing.
        family: decides shape and color.
        band: shaded range, such as the interval of the row that others are compared with.
        rule: value marked by a vertical line.
    """
    background = _grid(scale)
    if band is not None:
        start = scale.share(band[0])
        end = scale.share(band[1])
        background.append(tag("rect", x=f"{start:.2%}", width=f"{end - start:.2%}", height="100%", class_="band"))
    if rule is not None:
        background.append(line(scale.x(rule), 0, scale.x(rule), "100%", "rule"))
    parts = []
    if cell.get("low") is not None and cell.get("high") is not None:
        parts.append(line(scale.x(cell["low"]), 0, scale.x(cell["high"]), 0, "whisker"))
    seeds = [value for value in cell.get("per_seed") or [] if value is not None]
    if len(seeds) > 1:
        parts += [tag("circle", cx=scale.x(value), cy=SEED_DROP, r=1.6, class_="seed") for value in seeds]
    parts.append(mark(family, x=scale.x(cell["value"]), y=0))
    return image(label, *background, _in_the_middle(parts), class_="row-plot", family=family)


def bar(share: float, *, label: str, family: str) -> Markup:
    """Return a bar that fills a share of its track."""
    width = f"{min(max(share, 0.0), 1.0):.2%}"
    track = tag("rect", y=-4, width="100%", height=8, class_="track")
    filled = tag("rect", y=-4, width=width, height=8, class_="bar")
    return image(label, _in_the_middle([track, filled]), class_="row-plot", family=family)


def dumbbell(values: Sequence[float], scale: Scale, *, label: str, family: str) -> Markup:
    """Return two joined dots: a filled one for the first value, an open one for the second."""
    first, second = (scale.x(value) for value in values)
    open_dot = tag("circle", cx=second, cy=0, r=4.4, class_="open")
    parts = [line(first, 0, second, 0, "whisker"), open_dot, mark(family, x=first, y=0)]
    return image(label, *_grid(scale), _in_the_middle(parts), class_="row-plot", family=family)


def _grid(scale: Scale) -> list[Markup]:
    return [line(scale.x(tick), 0, scale.x(tick), "100%", "gridline") for tick in scale.ticks]


def _in_the_middle(parts: Sequence[Markup]) -> Markup:
    """Return parts drawn around height 0, moved to half the height of the row."""
    return tag("svg", *parts, y="50%", overflow="visible")


@dataclass(frozen=True)
class Series:
    """A line: its points (epoch, value) in order of epochs, and the label at its end."""

    points: tuple[tuple[float, float], ...]
    label: str = ""


def line_chart(
    series: Sequence[Series], *, x: Scale, y: Scale, label: str, family: str, backdrop: str | None = None
) -> Markup:
    """Return a small line chart; `backdrop` is the id of a drawing made by `backdrop_of` on the same scales."""
    parts = [_axes(x, y)]
    if backdrop is not None:
        parts.append(tag("use", href=f"#{backdrop}"))
    for number, entry in enumerate(series, start=1):
        parts.append(tag("polyline", points=_path(entry, x, y), class_=f"line line-{number}"))
    parts += _end_labels(series, x, y)
    return image(label, *parts, class_="chart", family=family, viewBox=f"0 0 {WIDTH} {HEIGHT}")


def backdrop_of(series: Sequence[Series], *, x: Scale, y: Scale, name: str) -> Markup:
    """Return an invisible drawing with the id `name` of all lines in grey, to which charts refer."""
    lines = [tag("polyline", points=_path(entry, x, y), class_="ghost") for entry in series]
    return definitions(tag("g", *lines, id=name))


def _axes(x: Scale, y: Scale) -> Markup:
    right = WIDTH - RIGHT
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks:
        height = f"{_y(tick, y):.1f}"
        parts.append(tag("line", x1=LEFT, x2=right, y1=height, y2=height, class_="gridline"))
        parts.append(tag("text", tick_text(tick, y), x=LEFT - 6, y=height, dy=4, text_anchor="end"))
    for tick in x.ticks:
        parts.append(tag("text", tick_text(tick, x), x=f"{_x(tick, x):.1f}", y=bottom + 16, text_anchor="middle"))
    return tag("g", *parts, class_="axes")


def _end_labels(series: Sequence[Series], x: Scale, y: Scale) -> list[Markup]:
    """Return the labels at the ends of the lines, pushed apart where they would overlap."""
    ends = [(entry, *entry.points[-1]) for entry in series if entry.label and entry.points]
    labels = []
    lowest = -LABEL_HEIGHT
    for entry, epoch, value in sorted(ends, key=lambda end: -end[2]):
        lowest = max(_y(value, y), lowest + LABEL_HEIGHT)
        position = {"x": f"{_x(epoch, x) + 5:.1f}", "y": f"{lowest:.1f}"}
        labels.append(tag("text", entry.label, **position, dy=4, class_="end-label"))
    return labels


def _path(series: Series, x: Scale, y: Scale) -> str:
    step = max(1, -(-len(series.points) // MAX_POINTS))
    kept = [*series.points[:-1:step], *series.points[-1:]]  # the last point is always kept
    return " ".join(f"{_x(epoch, x):.1f},{_y(value, y):.1f}" for epoch, value in kept)


def _x(value: float, scale: Scale) -> float:
    return LEFT + scale.share(value) * (WIDTH - LEFT - RIGHT)


def _y(value: float, scale: Scale) -> float:
    return TOP + (1 - scale.share(value)) * (HEIGHT - TOP - BOTTOM)
