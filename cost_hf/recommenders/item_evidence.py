"""What items have in common: codes of their semantic IDs, and their texts.

It shows which items of a history a recommended one is like. It is read from the catalog and not from the model, so it
says nothing about how a score came about.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_hf.semantic_ids.catalog_table import num_equal_levels
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.semantic_ids.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from cost_hf.recommenders.base import Recommender

COSINE_DIGITS = 4
MOST_NAMED = 3  # items of a history that are named for one recommended item


@dataclass(frozen=True, eq=False)
class ItemEvidence:
    """Semantic IDs and text vectors of a catalog's items, as far as its recommender has them.

    Parts of a hybrid may know only the first rows of its catalog: items added later have no semantic ID, or no vector.

    Attributes:
        catalog: of the recommender.
        vectors: item text vectors, or other ones that items are encoded by, `[n, E]`; n is 0 without any.
        codes: codes of all levels, `[n, L]`; n is 0 without semantic IDs.
        model_levels: levels that the quantizer gives; a last one may be appended to tell items apart.
        vocabulary: of these codes; None without any.
        is_of_texts: whether the vectors are those of texts.
        has_parallel_levels: whether levels of the codes do not depend on each other, so that no prefix means anything.
    """

    catalog: ItemRows
    vectors: np.ndarray
    codes: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    model_levels: int = 0
    vocabulary: SidVocabulary | None = None
    is_of_texts: bool = True
    has_parallel_levels: bool = False

    @classmethod
    def of(cls, recommender: "Recommender", catalog: Any) -> "ItemEvidence":
        """Return what a recommender knows of the items of its catalog; of the first parts that know it for a hybrid."""
        held = recommender.text_vectors(catalog)
        vectors = np.empty((0, 0), dtype=np.float32) if held is None else held
        is_of_texts = recommender.encoder is None or recommender.encoder.options.is_text
        owners = [(recommender, catalog)] if recommender.has_semantic_ids() else []
        owners += [(part, catalog.parts[name]) for name, part in recommender.parts.items() if part.has_semantic_ids()]
        if not owners:
            return cls(catalog, vectors, is_of_texts=is_of_texts)
        owner: Any
        owner, own = owners[0]
        return cls(
            catalog, vectors, own.codes, own.model_levels, owner.vocabulary, is_of_texts, own.has_parallel_levels
        )

    @property
    def is_known(self) -> bool:
        """Whether any item has a semantic ID or a text vector."""
        return len(self.codes) > 0 or len(self.vectors) > 0

    def shared_levels(self, row: int, others: np.ndarray | slice) -> np.ndarray:
        """Return how many codes of the quantizer an item shares with others, int64 `[n]`.

        Leading codes count, or, where levels are parallel, any.

        Args:
            row: of an item that has codes.
            others: rows of items that have codes.
        """
        same = self.codes[others, : self.model_levels] == self.codes[row, : self.model_levels]
        return num_equal_levels(same, are_parallel=self.has_parallel_levels)

    def explain(self, rows: Sequence[int], history: Sequence[int]) -> list[dict[str, Any]]:
        """Return what recommended items have in common with those of a history, one dict an item, as JSON.

        Args:
            rows: of the recommended items.
            history: rows, oldest first.

        Returns:
            `semantic_id` (`codes`, their `tokens`, `model_levels`) and `shared_prefixes` (history items with at least
            one leading code in common, most codes first, then the latest; `shared_codes` in their place, with any codes
            in common, where levels are parallel) of items that have codes; `nearest_texts`
            (history items by the cosine of text vectors) of items that have vectors. An item is not compared with
            itself.
        """
        latest = np.array(list(dict.fromkeys(reversed(history))), dtype=np.int64)  # the last click first
        with_codes = latest[latest < len(self.codes)]
        with_vectors = latest[latest < len(self.vectors)]
        found = []
        for row in rows:
            entry = self._codes_in_common(row, with_codes[with_codes != row]) if row < len(self.codes) else {}
            if row < len(self.vectors):
                entry["nearest_texts"] = self._nearest(row, with_vectors[with_vectors != row])
            found.append(entry)
        return found

    def _codes_in_common(self, row: int, others: np.ndarray) -> dict[str, Any]:
        codes = self.codes[row]
        tokens = [] if self.vocabulary is None else self.vocabulary.texts(codes[None])[0]
        shared = self.shared_levels(row, others)
        best = np.argsort(-shared, kind="stable")[:MOST_NAMED]
        named = [
            {**self._item(others[place]), "shared_levels": int(shared[place])} for place in best if shared[place] > 0
        ]
        path = {"codes": codes.tolist(), "tokens": tokens, "model_levels": self.model_levels}
        return {"semantic_id": path, "shared_codes" if self.has_parallel_levels else "shared_prefixes": named}

    def _nearest(self, row: int, others: np.ndarray) -> list[dict[str, Any]]:
        # rounded, so that equal texts are in the order of the history on every machine
        cosines = cosines_with(self.vectors[row], self.vectors[others]).astype(np.float64).round(COSINE_DIGITS)
        best = np.argsort(-cosines, kind="stable")[:MOST_NAMED]  # NaN, of items without words, comes last
        return [
            {**self._item(others[place]), "cosine": float(cosines[place])}
            for place in best
            if np.isfinite(cosines[place])
        ]

    def _item(self, row: int) -> dict[str, Any]:
        """Return id and, where it has one, title of an item."""
        titles = self.catalog.titles
        title = None if titles is None else titles[row]
        return {"item_id": self.catalog.item_ids[row]} | ({} if title is None else {"title": title})


def cosines_with(vector: np.ndarray, others: np.ndarray, norms: np.ndarray | None = None) -> np.ndarray:
    """Return the cosines of a vector `[E]` with others `[n, E]`, float32 `[n]`; NaN where one of both is zero.

    Args:
        norms: of the others, `[n]`, where they are known.
    """
    lengths = np.linalg.norm(others, axis=1) if norms is None else norms
    with np.errstate(invalid="ignore", divide="ignore"):
        return (others @ vector) / (lengths * np.linalg.norm(vector))
