"""How numbers are written, in one place: the page, the markdown and the terminal agree to the last digit.

A value that is not there is a dash, so that "not measured" never looks like zero.
"""

from collections.abc import Mapping
from typing import Any

DASH = "–"
MINUS = "−"
HARD_SPACE = "\u00a0"


def score(value: float | None, *, signed: bool = False) -> str:
    """Return a metric with four digits and no leading zero: `.0941`, signed `+.0032` or `−.0032`."""
    if value is None:
        return DASH
    digits = f"{abs(value):.4f}"
    sign = MINUS if value < 0 else "+" if signed else ""
    return sign + (digits[1:] if digits.startswith("0") else digits)


def bounds(cell: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return the interval of a cell, `[.0843, .1041]`; nothing where it has none."""
    if not cell or cell.get("value") is None or cell.get("low") is None or cell.get("high") is None:
        return ""
    return f"[{score(cell['low'], signed=signed)}, {score(cell['high'], signed=signed)}]"


def interval(cell: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return a value with its interval: `.0941 [.0843, .1041]`."""
    value = score((cell or {}).get("value"), signed=signed)
    return f"{value} {bounds(cell, signed=signed)}".rstrip()


def percent(share: float | None, *, signed: bool = False, digits: int = 1) -> str:
    """Return a share as percent: `12.3 %`."""
    if share is None:
        return DASH
    sign = MINUS if share < 0 else "+" if signed else ""
    return f"{sign}{abs(share) * 100:.{digits}f}{HARD_SPACE}%"


def probability(value: float | None) -> str:
    """Return a p value: `.031`, `< .001`."""
    if value is None:
        return DASH
    if value < 0.001:
        return "< .001"
    digits = f"{value:.3f}"
    return digits[1:] if digits.startswith("0") else digits


def amount(value: float | None, *, digits: int | None = None) -> str:
    """Return a quantity with as many digits as it deserves: `12,101`, `41.3`, `3.42`; whole numbers stay whole."""
    if value is None:
        return DASH
    if digits is None:
        digits = 0 if float(value).is_integer() or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """Return a share or a lift with two or three digits that count: `.004`, `.55`, `6.20`, `212`."""
    if value is None or abs(value) >= 1:
        return amount(value)
    digits = f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.3f}"
    return digits.replace("0.", ".", 1).replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Return seconds as `8.4 s`, `12.5 min` or `3.1 h`."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def memory(mebibytes: float | None) -> str:
    """Return MiB as `840 MiB` or `1.9 GiB`."""
    if mebibytes is None:
        return DASH
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"
