"""Formats of numbers, shared by pages, markdown and terminal.

A missing value is a dash, which distinguishes "not measured" from zero.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"
MINUS = "−"
HARD_SPACE = "\u00a0"
ESTIMATE = (0.7, 1.6)  # bounds of an estimated duration, as shares of it


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
    """Return a share as percent: `12.3 %`; `< 0.1 %` for a positive share that rounds to zero."""
    if share is None:
        return DASH
    least = 10.0 ** -(digits + 2)
    if not signed and 0 < share < least / 2:
        return f"< {least * 100:.{digits}f}{HARD_SPACE}%"
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
    """Return a quantity with about three significant digits: `12,101`, `41.3`, `3.42`; integers without decimals."""
    if value is None:
        return DASH
    if digits is None:
        digits = 0 if float(value).is_integer() or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """Return a share or a lift with about two significant digits: `.004`, `.55`, `6.20`, `212`."""
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


def level_sizes(sizes: Sequence[int]) -> str:
    """Return codes per level as `3 × 256`, or `64, 32` where they differ."""
    if len(set(sizes)) == 1:
        return f"{len(sizes)} × {sizes[0]}"
    return ", ".join(map(str, sizes))


def estimated_duration(seconds: float) -> str:
    """Return the range of an estimated duration: `under a minute`, `4–8 minutes`, `2–4 hours`."""
    low, high = (seconds * share for share in ESTIMATE)
    if high <= 60:
        return "under a minute"
    if high <= 90 * 60:
        return _span(low / 60, high / 60, "minutes")
    return _span(low / 3600, high / 3600, "hours")


def estimated_memory(mebibytes: float) -> str:
    """Return the range of an estimated peak memory, up to twice the estimate: `0.7–1.4 GiB`."""
    low, high = (mebibytes / 1024 * share for share in (1.0, 2.0))
    return f"{low:.1f}–{high:.1f} GiB" if high < 3 else f"{low:.0f}–{math.ceil(high)} GiB"


def _span(low: float, high: float, unit: str) -> str:
    step = 5 if high > 20 else 1
    first = max(1, step * math.floor(low / step))
    last = step * math.ceil(high / step)
    return f"{first}–{last} {unit}"
