"""Forms of times: the format in which a column of texts or numbers writes its times."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.data.schema import as_numbers

DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%y", "%d %b %Y")  # with the year first they are ISO 8601
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", ", %H:%M", ", %H:%M:%S", " %I:%M %p")
FORMATS = tuple(day + clock for day, clock in itertools.product(DAYS, CLOCKS))
MIN_READ = 0.9  # share of the cells that a format must read
SAMPLE = 2_000
YEARS = (1e8, 4.2e9)  # epoch seconds of the years 1973 to 2103
UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True)
class DateFormat:
    """A form of times.

    Attributes:
        text: value of `data.csv.date_format`.
        others: formats that read all cells as well.
    """

    text: str
    others: tuple[str, ...] = ()


def guess_date_format(values: pd.Series) -> DateFormat | None:
    """Return the format that reads nearly all cells, None where none does or no format is needed.

    Examples:
        >>> import pandas as pd
        >>> guess_date_format(pd.Series(["31.01.2024 10:30", "01.02.2024 09:00"])).text
        '%d.%m.%Y %H:%M'
        >>> guess_date_format(pd.Series(["2024-01-31", "2024-02-01"])) is None
        True
    """
    present = values.dropna().iloc[:SAMPLE]
    if present.empty or pd.api.types.is_datetime64_any_dtype(present):
        return None
    numbers = as_numbers(present)
    if numbers.notna().mean() >= MIN_READ:
        middle = float(np.median(numbers.dropna()))
        unit = next((unit for unit, size in UNITS.items() if YEARS[0] <= middle / size <= YEARS[1]), None)
        return None if unit is None else DateFormat(unit)
    texts = present[[isinstance(value, str) for value in present]].astype(str)
    if len(texts) < MIN_READ * len(present) or _share_read(texts, "ISO8601") >= MIN_READ:
        return None
    shares = {name: _share_read(texts, name) for name in FORMATS}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < MIN_READ:
        return None
    return DateFormat(best, tuple(name for name in FORMATS if shares[name] == shares[best] and name != best))


def _share_read(texts: pd.Series, name: str) -> float:
    return float(pd.to_datetime(texts, format=name, errors="coerce", utc=True).notna().mean())
