"""What the statistics of drift are computed from: words, letters, vectors and codes of items, counted once for all.

Statistics are computed for new items and for hundreds of samples of training items, so everything that takes time is
done here, item by item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from cost_hf.evaluation.similarity import unit_vectors

NEIGHBOURS = 10  # nearest training items that are kept: a sample may hold the first ones itself
MAX_LETTERS = 1_000  # of one text: enough to tell a language
CHUNK_ENTRIES = 2**22  # similarities held at once: 32 MiB


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Words and letters of n texts.

    Attributes:
        words: how often each word is in each text, `[n, V]`.
        letters: how often each letter is, `[n, A]`.
    """

    words: csr_matrix
    letters: csr_matrix


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training items that are nearest to n items, nearest first.

    Attributes:
        rows: of the training items, int64 `[n, k]`.
        cosines: of the text vectors, `[n, k]`.
    """

    rows: np.ndarray
    cosines: np.ndarray


@dataclass(frozen=True, eq=False)
class CodeFeatures:
    """Codes of n items by one quantizer.

    Attributes:
        codes: model-level codes, int64 `[n, L]`, without those that only depend on what is free.
        keys: number of every item's codes, equal for equal codes, also those of other items, int64 `[n]`.
        errors: distance of every item to the vector of its codes, `[n]`; None where it is not known of all items.
        are_whole: whether codes that are free do not follow, which tell items of the same codes apart.
    """

    codes: np.ndarray
    keys: np.ndarray
    errors: np.ndarray | None
    are_whole: bool = True


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Features of n items; None or nothing for what is not known.

    Attributes:
        training_rows: row of every item among the training items, int64 `[n]`, -1 for others: an item is not compared
            with itself.
        texts: of the items.
        neighbours: of the items.
        codes: by the part of the recommender that has the quantizer.
    """

    training_rows: np.ndarray
    texts: TextFeatures | None = None
    neighbours: Neighbours | None = None
    codes: Mapping[str, CodeFeatures] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.training_rows)


def text_features(training: Sequence[str], new: Sequence[str]) -> tuple[TextFeatures, TextFeatures]:
    """Return words and letters of training texts, and those of new ones in the same columns.

    Words are runs of letters and digits, without case; letters are counted in the first thousand characters.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # takes a second to import

    texts = [*training, *new]
    words = _counted(CountVectorizer(token_pattern=r"\w+"), texts)
    letters = _counted(CountVectorizer(analyzer=_letters), texts)
    count = len(training)
    return TextFeatures(words[:count], letters[:count]), TextFeatures(words[count:], letters[count:])


def _counted(vectorizer: Any, texts: Sequence[str]) -> csr_matrix:
    try:
        return csr_matrix(vectorizer.fit_transform(texts))
    except ValueError:  # no text has any
        return csr_matrix((len(texts), 1), dtype=np.int64)


def _letters(text: str) -> list[str]:
    return [letter for letter in text[:MAX_LETTERS].casefold() if letter.isalpha()]


def nearest(vectors: np.ndarray, others: np.ndarray, own: np.ndarray) -> Neighbours:
    """Return the items that are nearest by cosine.

    Args:
        vectors: of n items, `[n, E]`.
        others: vectors of the items that are searched, `[M, E]`.
        own: row of every item among the others, which is left out, int64 `[n]`; -1 where it is none of them.
    """
    width = min(NEIGHBOURS, len(others) - 1)
    units = unit_vectors(others).astype(np.float32)
    rows = []
    cosines = []
    step = max(1, CHUNK_ENTRIES // len(others))
    for start in range(0, len(vectors), step):
        scores = unit_vectors(vectors[start : start + step]).astype(np.float32) @ units.T
        known = np.flatnonzero(own[start : start + step] >= 0)
        scores[known, own[start : start + step][known]] = -np.inf
        best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        rows.append(np.take_along_axis(best, order, axis=1))
        cosines.append(np.take_along_axis(found, order, axis=1))
    return Neighbours(np.concatenate(rows), np.concatenate(cosines))
