"""Texts of the catalog: which columns make an item's text, and how well these texts tell items apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from cost_hf.data.cells import column_words, is_empty
from cost_hf.data.item_texts import is_text_column
from cost_hf.experiments.check.guess import simple

ORDER = ("title", "name", "headline", "brand", "store", "category", "categories", "genres", "subcategory", "keywords")
LAST = ("abstract", "description", "body", "text", "content", "features", "details")
FLAGS = ("yes", "no", "y", "n", "true", "false", "ja", "nein", "j", "wahr", "falsch")  # in stock or not: no text
MIN_FILLED = 0.05
SAMPLE = 5_000
NEAR = 0.95  # cosine of letter groups from which two different texts count as nearly the same
QUERIES = 1_024
CHUNK_ENTRIES = 2**23  # cosines held at once: 32 MiB
MAX_GRAMS = 50_000
CONTAINS_ROWS = 500


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
        near_share: share of items with another text that is nearly the same (of a sample in large catalogs).
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
    distinct = [column for column in found if not any(_contains(items, other, column) for other in found)]
    return sorted(distinct, key=lambda column: (_place(column.name), column.words))


def guess_template(items: pd.DataFrame) -> str:
    """Return a text template of the text columns, `{title}. {brand}`, or an empty text where there is none."""
    return ". ".join(f"{{{column.name}}}" for column in text_columns(items))


def text_facts(
    texts: list[str], grams: sparse.csr_matrix, *, template: str, columns: Sequence[TextColumn], seed: int = 0
) -> TextFacts:
    """Measure N rendered texts.

    Args:
        texts: one text an item.
        grams: their `letter_grams`, sparse `[N, V]`.
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
        near_share=near_duplicates(grams, groups, seed=seed),
    )


def letter_grams(texts: list[str]) -> sparse.csr_matrix:
    """Return TF-IDF of groups of three and four letters inside words, rows of length 1, sparse float32 `[N, V]`."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second to import: only where needed

    vectorizer = TfidfVectorizer(
        sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4), max_features=MAX_GRAMS, dtype=np.float32
    )
    return vectorizer.fit_transform(texts)


def near_duplicates(grams: sparse.csr_matrix, groups: np.ndarray, *, seed: int = 0) -> float:
    """Return the share of items with an item of another text at a cosine above `NEAR`.

    Args:
        grams: rows of length 1, sparse `[N, V]`.
        groups: equal numbers for equal texts, `[N]`.
        seed: of the sample of items that are looked at.
    """
    num_items = len(groups)
    queries = np.random.default_rng(seed).permutation(num_items)[:QUERIES]
    step = max(1, CHUNK_ENTRIES // num_items)
    found = 0
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        cosines = (grams[rows] @ grams.T).toarray()
        found += int(((cosines > NEAR) & (groups[rows, None] != groups)).any(axis=1).sum())
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


def _contains(items: pd.DataFrame, whole: TextColumn, part: TextColumn) -> bool:
    """Return whether one column repeats another with more words, as `categories` may repeat `category`."""
    if whole.words <= part.words:
        return False
    rows = items[[whole.name, part.name]].dropna().head(CONTAINS_ROWS)
    texts = zip(column_words(rows[whole.name]), column_words(rows[part.name]), strict=True)
    return bool(np.mean([f" {inner} " in f" {outer} ".replace(",", " ") for outer, inner in texts] or [False]) > 0.9)


def _text_column(values: pd.Series) -> TextColumn | None:
    """Describe a column where it holds words, None for ids, urls, numbers, dates, flags and columns nearly empty.

    A title is one whatever it holds: there are films called 1984.
    """
    if values.name == "item_id" or not is_text_column(values):
        return None
    is_filled = ~values.map(is_empty).to_numpy(dtype=bool)
    if is_filled.mean() < MIN_FILLED:
        return None
    texts = pd.Series(column_words(values[is_filled].iloc[:SAMPLE]), dtype=object)
    words = texts.str.count(r"\S+")
    found = TextColumn(str(values.name), float(is_filled.mean()), float(words.mean()))
    if values.name == "title":
        return found
    if texts.str.lower().isin(FLAGS).all():
        return None
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
    return found
