"""Marks and scales of the drawings: SVG elements with escaped attributes, axes with round ticks.

Colors, line widths and fonts live in the style sheet, under class names, so that light, dark and print come for free.
A family is told apart by shape as well as by color.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

STEPS = (1, 2, 2.5, 5, 10)
ROUND = "M-{0},0a{0},{0} 0 1,0 {1},0a{0},{0} 0 1,0 -{1},0z"
SHAPES = {
    "simple": ROUND.format(4.2, 8.4),
    "dense": "M-4,-4h8v8h-8z",
    "generative": ROUND.format(4.6, 9.2),
    "ensemble": "M0,-5.6L5.6,0L0,5.6L-5.6,0z",
    "calibration": "M0,-5L5,4H-5z",
    "oracle": "M0,5L5,-4H-5z",
}


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end; values outside stay at the ends."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def x(self, value: float) -> str:
        """Return the place of a value as an SVG length in percent."""
        return f"{self.share(value):.2%}"


def nice_scale(values: Iterable[float | None], *, num_ticks: int = 4) -> Scale:
    """Return an axis that holds all values, with a little air, and round ticks on it.

    It starts at zero where that leaves less than half of it empty. Steps are 1, 2, 2.5 or 5 times a power of ten.
    """
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if 0 <= low < high / 2:
        low = 0.0
    if high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough, air = (high - low) / num_ticks, (high - low) / 25
    low, high = low if low == 0 else low - air, high + air
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in STEPS if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
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
    return f"−{text}" if value < 0 else text


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; values and plain children are escaped, `class_` and `text_anchor` lose their underscores."""
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
    """Return an inline image that says in words what it shows."""
    classes = f"{class_} f-{family}" if family else class_
    return tag("svg", *children, class_=classes, role="img", aria_label=label, **attributes)


def definitions(*parts: str) -> Markup:
    """Return an invisible drawing whose parts others refer to by id."""
    return tag("svg", tag("defs", *parts), width=0, height=0, class_="definitions", aria_hidden="true")


def mark_definitions() -> Markup:
    """Return the shapes of the families, which `mark` refers to."""
    shapes = (tag("path", d=path, id=_mark_id(family), class_="mark") for family, path in SHAPES.items())
    return definitions(*shapes)


def mark(family: str, **place: object) -> Markup:
    """Return the mark of a family, at a place where one is given."""
    return tag("use", href=f"#{_mark_id(family)}", **place)


def chip(family: str) -> Markup:
    """Return the mark of a family as a sign before its name; nothing for a row without a family."""
    return tag("svg", mark(family), class_=f"chip f-{family}", aria_hidden="true") if family else Markup("")


def _mark_id(family: str) -> str:
    return f"mark-{family if family in SHAPES else 'simple'}"
