"""The digest of a table is that of its cells one by one, however they are stored."""

import json
from itertools import chain

import numpy as np
import pandas as pd
import pytest

from cost_hf.data import cell_digests
from cost_hf.data.cell_digests import digest_cells
from cost_hf.files import ListedParts, content_digest

TEXTS = ["plain", "", None, 'quo"ted', "back\\slash", "new\nline", "ünï\u2028codé", "\x7f\x1f", "tab\t"]


def slow_cells(values):
    """Return the cells of a column as the digest has them, one by one."""
    return [None if pd.isna(value) or value == "" else str(value) for value in values]


@pytest.mark.parametrize("block", [1, 2, 100])
def test_texts_are_those_of_a_list(monkeypatch, block):
    monkeypatch.setattr(cell_digests, "BLOCK_TEXTS", block)
    frame = pd.DataFrame({"a": pd.Series(TEXTS, dtype=str), "b": pd.Series(["x"] * len(TEXTS), dtype=str)})

    _, escaped, _, plain = digest_cells(frame)

    assert isinstance(escaped, ListedParts) and isinstance(plain, ListedParts)
    assert content_digest(escaped) == content_digest(slow_cells(TEXTS))
    assert content_digest(plain) == content_digest(["x"] * len(TEXTS))


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.0, 0.0, -0.0, np.nan, 0.1, 1e300, -np.inf]),
        pd.Series([1.0, 0.1, np.nan], dtype=np.float32),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([True, False]),
        pd.Series(pd.to_datetime(["2024-01-31", None])),
        pd.Series(["a", None, 1.5], dtype=object),
        pd.Series(["a", "", "a"], dtype="category"),
    ],
    ids=["float64", "float32", "gaps", "bool", "dates", "mixed", "category"],
)
def test_other_cells_are_those_of_a_list(values):
    _, cells = digest_cells(values.to_frame("name"))

    assert content_digest(cells) == content_digest(slow_cells(values))


def test_whole_numbers_are_an_array():
    _, cells = digest_cells(pd.DataFrame({"a": pd.Series([3, 1], dtype="Int64")}))

    assert cells.dtype == np.int64 and cells.tolist() == [3, 1]


@pytest.mark.parametrize("pieces", [[], [["a"]], [["a", None], ["b"]]])
def test_pieces_of_a_list_have_its_digest(pieces):
    parts = ListedParts(lambda: (json.dumps(piece, separators=(",", ":"))[1:-1].encode() for piece in pieces))

    assert content_digest("x", parts, 3) == content_digest("x", list(chain(*pieces)), 3)
