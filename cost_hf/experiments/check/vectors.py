"""Item vectors for a check: the encoder's where they are cached already, a stand-in otherwise.

A check must not spend the minutes that encoding takes. Groups of letters, projected by a truncated SVD, stand in: they
show which texts are alike. Words do it far worse on short titles, and an encoder still tells more texts apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import try_to_load_from_cache
from scipy import sparse

from cost_hf.data.cells import column_words
from cost_hf.data.encoders import LsaEncoder, SentenceEncoder, sentence_encoder
from cost_hf.data.options import ItemVectorOptions, VectorOptions
from cost_hf.data.text_vectors import cached_vectors
from cost_hf.experiments.check.problems import Problem
from cost_hf.experiments.check.texts import MIN_FILLED
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.benchmarking import fastest
from cost_hf.reporting import numbers

STAND_IN_DIM = 128
TIMED_TEXTS = 32
MAX_DISTINCT = 0.9  # share of the items with different values from which a column is like an id
# MiniLM, one CPU thread
ASSUMED_WIDTH = 384
ASSUMED_WORDS_PER_SECOND = 3_000.0
ASSUMED_MOST_WORDS = 75


@dataclass(frozen=True, eq=False)
class CheckVectors:
    """Vectors and what making the real ones will cost.

    Attributes:
        vectors: `[N, E]` float32.
        origin: `lsa`, `encoder` (its cached vectors) or `stand_in`.
        width: of the vectors of a real run.
        encode_seconds: expected for the whole catalog, CPU seconds of one thread.
        basis: how the seconds were found: `measured`, `cached` or `assumed`.
    """

    vectors: np.ndarray
    origin: str
    width: int
    encode_seconds: float
    basis: str


def text_options(recipe: Recipe) -> VectorOptions:
    """Return the section `vectors` of a recipe; where its vectors are not made of texts, that of plain text vectors.

    Texts are measured in any case: they tell which items are alike.
    """
    return recipe.vectors if isinstance(recipe.vectors, VectorOptions) else VectorOptions()


def column_problems(items: pd.DataFrame, options: ItemVectorOptions) -> list[Problem]:
    """Return what is wrong with the columns that item vectors are made of; nothing for those of texts."""
    columns = options.item_columns
    if columns is None:
        return []
    named = ", ".join(columns) or "none"
    problems = [
        Problem(
            "note",
            f"item vectors of kind {options.kind} are made of item ids and columns ({named}); code sizes and "
            "differences that can be told from chance are measured on item texts",
        )
    ]
    for name in dict.fromkeys(columns):
        if name in items:
            problems += category_problems(items[name], f"column {name!r} of the item vectors")
    known = [name for name in columns if name in items]
    if known:
        texts = pd.DataFrame({name: column_words(items[name]) for name in known})
        shared = int(texts.duplicated(keep=False).sum())
        if shared:
            message = f"{shared:,} of {len(items):,} items have the same values of {named} as another"
            remedy = "add columns that tell them apart: new items with the same values get the same vector"
            problems.append(Problem("note", message, remedy))
    return problems


def category_problems(values: pd.Series, named: str) -> list[Problem]:
    """Return why a column, called `named` in messages, tells little as a category; nothing for a good one."""
    words = pd.Series(column_words(values), dtype=object)
    known = words[words != ""]
    if len(known) < MIN_FILLED * len(words):
        message = f"{named} is empty for {numbers.percent(1 - len(known) / len(words), digits=0)} of the items"
        return [Problem("warning", message, "leave it out, or fill it")]
    if known.nunique() == 1:
        return [Problem("warning", f"{named} has one value, {known.iloc[0]!r:.40}, in all items", "leave it out")]
    if known.nunique() > MAX_DISTINCT * len(known):
        message = f"{named} has {known.nunique():,} different values in {len(known):,} items, hardly any of them twice"
        return [Problem("warning", message, "leave it out: a new item's value is one that training has not seen")]
    return []


def check_vectors(
    texts: Sequence[str], grams: sparse.csr_matrix, options: VectorOptions, *, seed: int = 0
) -> CheckVectors:
    """Return vectors of N item texts at little cost, and the cost of the real ones.

    Args:
        texts: one text an item.
        grams: their `letter_grams`.
        options: the vectors section.
        seed: of both projections and of the timed sample.
    """
    if options.model == "lsa":
        vectors = LsaEncoder.fit(texts, dim=options.dim, seed=seed).encode(texts)
        return CheckVectors(vectors, "lsa", vectors.shape[1], 0.0, "measured")
    encoder = sentence_encoder(options) if is_at_hand(options.model) else None
    cached = None if encoder is None else cached_vectors(texts, encoder)
    if cached is not None:
        return CheckVectors(cached, "encoder", cached.shape[1], 0.0, "cached")
    vectors = _stand_in(grams, seed=seed)
    if encoder is None:
        words = sum(min(len(text.split()), ASSUMED_MOST_WORDS) for text in texts)
        return CheckVectors(vectors, "stand_in", ASSUMED_WIDTH, words / ASSUMED_WORDS_PER_SECOND, "assumed")
    width, seconds = _time_encoder(encoder, texts, seed=seed)
    return CheckVectors(vectors, "stand_in", width, seconds, "measured")


def is_at_hand(model: str) -> bool:
    """Return whether a text encoder is a directory or lies in the Hub cache, so that loading it needs no network."""
    if Path(model).is_dir():
        return True
    repository = model if "/" in model else f"sentence-transformers/{model}"
    return isinstance(try_to_load_from_cache(repository, "config.json"), str)


def _stand_in(grams: sparse.csr_matrix, *, seed: int) -> np.ndarray:
    """Return unit vectors `[N, E]` float32 of the leading components; E is cut where texts or letters are fewer."""
    from sklearn.decomposition import TruncatedSVD  # a second to import: only where needed

    width = min(STAND_IN_DIM, *grams.shape)
    projected = TruncatedSVD(width, random_state=seed).fit_transform(grams)
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    return np.ascontiguousarray(projected / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _time_encoder(encoder: SentenceEncoder, texts: Sequence[str], *, seed: int) -> tuple[int, float]:
    """Return the width of the vectors and the CPU seconds that all texts will take, from a few of them."""
    rows = np.random.default_rng(seed).permutation(len(texts))[:TIMED_TEXTS]
    sample = [texts[row] for row in rows]
    return encoder.encode(sample[:1]).shape[1], fastest(lambda: encoder.encode(sample)) / len(sample) * len(texts)
