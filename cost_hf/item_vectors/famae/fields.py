"""Categorical fields of items: what columns they are, their values, and the text that stands for those of an item.

The text of an item is a JSON list of its id and the values of its fields, null where one is missing. Whatever works on
item texts (updates of a catalog, digests, the check for changes) works on it unchanged.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.cells import cell_parts, column_words
from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import check_frame
from cost_hf.item_vectors.famae.options import field_column, field_level

ITEM_ID = "item_id"
MISSING = 0
logger = logging.getLogger(__name__)


def render_fields(items: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """Return the texts of items: JSON lists of id and field values.

    Args:
        items: `item_id` and the columns of the fields, N rows.
        fields: of `vectors.fields`: a column, or `column:level` for one level of a list, 1 being the first.

    Raises:
        DataError: for a column that the items do not have, or anything but a DataFrame.

    Examples:
        >>> import pandas as pd
        >>> items = pd.DataFrame({"item_id": ["a"], "brand": [None], "categories": ["Tools, Drills, Cordless"]})
        >>> render_fields(items, ["brand", "categories:2"])
        ['["a", null, "Drills"]']
    """
    check_frame(items)
    if ITEM_ID not in items:
        raise DataError(
            f"the text of an item begins with its id, and the items have no column {ITEM_ID!r}, only "
            f"{list(map(str, items.columns))}; add it"
        )
    for field in fields:
        if (column := field_column(field)) not in items:
            raise DataError(
                f"vectors.fields names {field!r}, and the items have no column {column!r}, only "
                f"{list(map(str, items.columns))}; name other columns, or add it, empty where a value is not known"
            )
    columns = [_values(items[field_column(field)], field_level(field)) for field in fields]
    ids = items[ITEM_ID].astype(str).tolist()
    return [json.dumps(list(row), ensure_ascii=False) for row in zip(ids, *columns, strict=True)]


def parse_fields(texts: Sequence[str], *, count: int) -> list[list[str | None]]:
    """Return id and field values of items from their texts, `count` values each.

    Raises:
        DataError: for a text that `render_fields` did not make for as many fields.
    """
    rows = []
    for text in texts:
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        if not isinstance(row, list) or len(row) != count or not all(isinstance(v, str | None) for v in row):
            raise DataError(
                f"expected a JSON list of an item id and {count - 1} field values (texts or null), got {text!r:.80}; "
                "make it by `recommender.encoder.render(items)`"
            )
        rows.append(row)
    return rows


@dataclass(frozen=True)
class FieldVocabulary:
    """Known values of the J fields of items; the first field is the item id. Number 0 of a field is the missing value.

    Attributes:
        fields: names of the fields after the item id, J - 1.
        values: values 1, 2, … of every field, J tuples.
    """

    fields: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, fields: Sequence[str], texts: Sequence[str], is_trained: np.ndarray) -> "FieldVocabulary":
        """Return the values of the items that are clicked in training, in the order of the first item with each.

        Args:
            fields: names of the fields after the item id.
            texts: of all items, N of them.
            is_trained: items whose embeddings are trained, bool `[N]`.

        Raises:
            DataError: for a field without a value.
        """
        count = len(fields) + 1
        rows = parse_fields([text for text, own in zip(texts, is_trained, strict=True) if own], count=count)
        columns = list(zip(*rows, strict=True)) if rows else [()] * count
        values = tuple(tuple(dict.fromkeys(value for value in column if value is not None)) for column in columns)
        for name, known in zip((ITEM_ID, *fields), values, strict=True):
            if not known:
                raise DataError(
                    f"vectors.fields: no item with a training click has a value of {name!r}; leave the field out"
                )
        return cls(tuple(fields), values)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of every field, the missing one included, J numbers."""
        return tuple(len(known) + 1 for known in self.values)

    def parse(self, texts: Sequence[str]) -> list[list[str | None]]:
        """Return id and field values of items from their texts; errors are those of `parse_fields`."""
        return parse_fields(texts, count=len(self.values))

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Return the numbers of the field values of items, int64 `[n, J]`; a value that is not known is missing."""
        rows = self.parse(texts)
        tables = [{value: number for number, value in enumerate(known, start=1)} for known in self.values]
        found = [
            [MISSING if value is None else table.get(value, MISSING) for table, value in zip(tables, row, strict=True)]
            for row in rows
        ]
        return np.array(found, dtype=np.int64).reshape(len(rows), len(tables))

    def warn_of_unknown(self, texts: Sequence[str]) -> None:
        """Warn of field values of items that are not known."""
        rows = self.parse(texts)
        for number, name in enumerate(self.fields, start=1):
            known = {None, *self.values[number]}
            unknown = [row[number] for row in rows if row[number] not in known]
            if unknown:
                logger.warning(
                    "%d of %d items have a value of %s that no item of the training has, such as %.80r; it counts as "
                    "missing",
                    len(unknown),
                    len(rows),
                    name,
                    unknown[0],
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"fields": list(self.fields), "values": [list(known) for known in self.values]}


def _values(column: pd.Series, level: int | None) -> list[str | None]:
    """Return a value per item, None where it is missing: the whole cell, or one part of a list or a comma list."""
    if level is None:
        # cell by cell, so that a number is one text whatever the rest of its column is, as in a table of new items
        return [words or None for words in column_words(column.astype(object))]
    return [_part(cell, level) for cell in column]


def _part(cell: Any, level: int) -> str | None:
    """Return one part of a cell, counted from 1; None where it has fewer."""
    known = [part for part in cell_parts(cell) if part]
    return known[level - 1] if len(known) >= level else None
