"""Drawings that stand in a table row: dots with whiskers, bars, dumbbells, and the axis in the column's head.

Places along a row are percentages and the drawings are as high as the row, so that they fill any column without
distortion and bands and grid lines run through the table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cost_hf.reporting.drawing import Scale, image, line, mark, tag, tick_text

SEED_DROP = 9  # pixels below the whisker


def axis(scale: Scale, *, ruler: float | None = None) -> Markup:
    """Return tick labels for the head of a column; `ruler` draws a length in the units of the axis above them."""
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
        start, end = scale.x(scale.high - ruler), "100%"
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
    """Return a dot with its whisker, and a faint dot per seed.

    Args:
        cell: `value`, and where they are known `low`, `high` and `per_seed`.
        scale: axis shared by all rows.
        label: what is shown, in words.
        family: decides shape and color.
        band: range shaded behind, as the interval of the row that others are compared with.
        rule: value marked by a vertical line.
    """
    behind = _grid(scale)
    if band is not None:
        start, end = scale.share(band[0]), scale.share(band[1])
        behind.append(tag("rect", x=f"{start:.2%}", width=f"{end - start:.2%}", height="100%", class_="band"))
    if rule is not None:
        behind.append(line(scale.x(rule), 0, scale.x(rule), "100%", "rule"))
    parts = []
    if cell.get("low") is not None and cell.get("high") is not None:
        parts.append(line(scale.x(cell["low"]), 0, scale.x(cell["high"]), 0, "whisker"))
    seeds = [value for value in cell.get("per_seed") or [] if value is not None]
    if len(seeds) > 1:
        parts += [tag("circle", cx=scale.x(value), cy=SEED_DROP, r=1.6, class_="seed") for value in seeds]
    parts.append(mark(family, x=scale.x(cell["value"]), y=0))
    return image(label, *behind, _in_the_middle(parts), class_="row-plot", family=family)


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
