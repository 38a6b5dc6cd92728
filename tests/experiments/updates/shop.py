"""A made-up shop of a few days: whoever takes an item takes one of its followers next."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.files import file_digests
from tests.runs import tiny_fields

DAY = 100_000  # seconds
ITEMS = 24
KINDS = ("black", "green", "white")
PLACES = ("assam", "uji", "kandy", "darjeeling")


def texts(rows: range) -> pd.DataFrame:
    titles = [f"{KINDS[row % 3]} tea of {PLACES[row % 4]}" for row in rows]
    return pd.DataFrame({"item_id": [f"n{row}" for row in rows], "title": titles, "text": titles})


def catalog() -> pd.DataFrame:
    return texts(range(ITEMS)).assign(price=np.arange(ITEMS) + 0.5)


def new_items() -> pd.DataFrame:
    """Two items of the second day."""
    return texts(range(ITEMS, ITEMS + 2)).assign(price=[100.0, 200.0])


def clicks(day: int, *, users: int = 60, steps: int = 5, items: int = ITEMS) -> pd.DataFrame:
    """Clicks of a day; users of other days come again."""
    draws = np.random.default_rng(day)
    rows = []
    for user in range(users):
        item = int(draws.integers(items))
        for step in range(steps):
            rows.append((f"u{user}", f"n{item}", DAY * day + 100 * step + user))
            item = (item + int(draws.integers(1, 4))) % items
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def fields(method: str, **chosen: Any) -> dict[str, Any]:
    """Return the fields of a tiny run of a method on the shop."""
    found = {name: value for name, value in tiny_fields(method=method, **chosen).items() if "synthetic" not in name}
    return found | {"vectors.template": "{text}", "evaluation.baselines": [], "data.licence": "CC0-1.0"}


def served_files(run: Path) -> dict[str, str]:
    """Return the files of the recommender that a run serves, with their digests."""
    return {name: digest for name, digest in file_digests(run / "recommender").items() if name[0] != "."}
