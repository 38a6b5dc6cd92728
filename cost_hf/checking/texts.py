"""Texts of the catalog: which columns make an item's text, and how well these texts tell items apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cost_hf.checking.guess import simple
from cost_hf.data.schema import is_empty

ORDER = ("title", "name", "headline", "brand", "store", "category", "categories", "genres", "subcategory", "keywords")
LAST = ("abstract", "description", "body", "text", "content", "features", "details")
LEAST_FILLED = 0.05
SAMPLE = 5_000
NEAR = 0.98  # cosine from which two different texts count as near-duplicates
QUERIES = 2_048
CHUNK_ENTRIES = 2**23  # cosines held at once: 32 MiB


@dataclass(frozen=True)
class TextColumn:
    """A column of the catalog as text: share of items that have it and mean words of those."""

    name: str
    filled: float
    words: float


@dataclass(frozen=True)
class TextFacts:
    """How well the item texts tell items apart.

    Attributes:
        template: the text template; `columns` are its fields.
        mean_words: words of a text, on average.
        empty: items without text.
        shared: items whose text another item has too; `largest_shared` items have the same one at most.
        near_share: share of items with another, different text at a cosine above .98 (of a sample in large catalogs).
    """

    template: str
    columns: tuple[TextColumn, ...]
    mean_words: float
    empty: int
    shared: int
    largest_shared: int
    near_share: float


def text_columns(items: pd.DataFrame) -> list[TextColumn]:
    """Return the columns that say what an item is, short and broad ones first; no ids, urls, numbers or dates."""
    found = [column for name in map(str, items) if (column := _text_column(items[name])) is not None]
    return sorted(found, key=lambda column: (_place(column.name), column.words))


def guess_template(items: pd.DataFrame) -> str:
    """Return a text template of the text columns, `{title}. {brand}`, or an empty text where there is none."""
    return ". ".join(f"{{{column.name}}}" for column in text_columns(items))


def text_facts(
    texts: list[str], vectors: np.ndarray, *, template: str, columns: Sequence[TextColumn], seed: int = 0
) -> TextFacts:
    """Measure N rendered texts.

    Args:
        texts: one text an item.
        vectors: one vector a text, `[N, E]`.
        template: the template that made the texts.
        columns: what is known of the catalog's columns.
        seed: of the sample of near-duplicates.
    """
    groups, sizes = _groups(texts)
    own = sizes[groups]
    return TextFacts(
        template=template,
        columns=tuple(column for column in columns if f"{{{column.name}}}" in template),
        mean_words=float(np.mean([len(text.split()) for text in texts])),
        empty=sum(not text.strip() for text in texts),
        shared=int((own > 1).sum()),
        largest_shared=int(own.max()),
        near_share=near_duplicates(vectors, groups, seed=seed),
    )


def near_duplicates(vectors: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> float:
    """Return the share of items with an item of another text at a cosine above `NEAR`.

    Args:
        vectors: `[N, E]`.
        groups: equal numbers for equal texts, `[N]`.
        seed: of the sample of items that are looked at.
    """
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    queries = np.random.default_rng(seed).permutation(len(units))[:QUERIES]
    step = max(1, CHUNK_ENTRIES // len(units))
    found = 0
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        is_near = (units[rows] @ units.T > NEAR) & (groups[rows, None] != groups)
        found += int(is_near.any(axis=1).sum())
    return found / len(queries)


def _groups(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of every text among the distinct ones `[N]`, and the size of each group."""
    groups = pd.factorize(np.array(texts, dtype=object))[0]
    return groups, np.bincount(groups)


def _place(name: str) -> int:
    plain = simple(name)
    if plain in ORDER:
        return ORDER.index(plain)
    return len(ORDER) + (1 + LAST.index(plain) if plain in LAST else 0)


def _text_column(values: pd.Series) -> TextColumn | None:
    """Describe a column where it holds words, None for ids, urls, numbers, dates and columns that are nearly empty."""
    if values.name == "item_id" or pd.api.types.is_numeric_dtype(values):
        return None
    is_filled = ~values.map(is_empty).to_numpy(dtype=bool)
    if is_filled.mean() < LEAST_FILLED:
        return None
    texts = values[is_filled].iloc[:SAMPLE].map(_as_text)
    if not texts.map(lambda text: isinstance(text, str)).all():
        return None
    words = texts.str.count(r"\S+")
    is_word = texts.str.contains(r"[^\W\d_]{2,}", regex=True)
    is_url = texts.str.match(r"(https?://|www\.)\S+$")
    is_number = pd.to_numeric(texts.str.lstrip("$€£ "), errors="coerce").notna()
    # one "word" with digits in nearly every item, all different: a code, not a name
    is_code = (words <= 1) & texts.str.contains(r"\d", regex=True)
    is_date = texts.str.match(r"\d{4}-\d{2}-\d{2}")
    if max(is_url.mean(), is_number.mean(), is_date.mean()) > 0.5 or is_word.mean() < 0.5:
        return None
    if is_code.mean() > 0.5 and texts.nunique() > 0.5 * len(texts):
        return None
    return TextColumn(str(values.name), float(is_filled.mean()), float(words.mean()))


def _as_text(value: object) -> object:
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(map(str, value))
    return value
