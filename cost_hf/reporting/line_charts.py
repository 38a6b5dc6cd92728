"""Line charts over epochs, small enough to stand side by side.

Every system has a chart of its own with the lines of all others in grey behind it: one line is followed easily, and
the comparison is still there. The grey lines are drawn once and referred to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cost_hf.reporting.drawing import Scale, definitions, image, tag, tick_text

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 40, 26, 10, 24
MAX_POINTS = 60
LABEL_HEIGHT = 11.0


@dataclass(frozen=True)
class Series:
    """A line: its points (epoch, value) in order of epochs, and the label at its end."""

    points: tuple[tuple[float, float], ...]
    label: str = ""


def line_chart(
    series: Sequence[Series], *, x: Scale, y: Scale, label: str, family: str, backdrop: str | None = None
) -> Markup:
    """Return a chart; `backdrop` is the id of a drawing made by `backdrop_of` on the same scales."""
    parts = [_axes(x, y)]
    if backdrop is not None:
        parts.append(tag("use", href=f"#{backdrop}"))
    for number, entry in enumerate(series, start=1):
        parts.append(tag("polyline", points=_path(entry, x, y), class_=f"line line-{number}"))
    parts += _end_labels(series, x, y)
    return image(label, *parts, class_="chart", family=family, viewBox=f"0 0 {WIDTH} {HEIGHT}")


def backdrop_of(series: Sequence[Series], *, x: Scale, y: Scale, name: str) -> Markup:
    """Return an invisible drawing with the id `name` that holds all lines, for charts to refer to."""
    lines = [tag("polyline", points=_path(entry, x, y), class_="ghost") for entry in series]
    return definitions(tag("g", *lines, id=name))


def _axes(x: Scale, y: Scale) -> Markup:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
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
    labels, lowest = [], -LABEL_HEIGHT
    for entry, epoch, value in sorted(ends, key=lambda end: -end[2]):
        lowest = max(_y(value, y), lowest + LABEL_HEIGHT)
        place = {"x": f"{_x(epoch, x) + 5:.1f}", "y": f"{lowest:.1f}"}
        labels.append(tag("text", entry.label, **place, dy=4, class_="end-label"))
    return labels


def _path(series: Series, x: Scale, y: Scale) -> str:
    step = max(1, -(-len(series.points) // MAX_POINTS))
    kept = [*series.points[:-1:step], *series.points[-1:]]  # the last point always stays
    return " ".join(f"{_x(epoch, x):.1f},{_y(value, y):.1f}" for epoch, value in kept)


def _x(value: float, scale: Scale) -> float:
    return LEFT + scale.share(value) * (WIDTH - LEFT - RIGHT)


def _y(value: float, scale: Scale) -> float:
    return TOP + (1 - scale.share(value)) * (HEIGHT - TOP - BOTTOM)
