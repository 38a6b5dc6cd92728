"""What visitors do in the demo, without Gradio: recommend, browse the tree, encode a text, add an item."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cost_hf.files import content_digest
from cost_hf.hub.space.catalog_view import CatalogView, Listed, Prefix
from cost_hf.recommenders.base import Recommendation, Recommender
from cost_hf.recommenders.explanations import explanation_text
from cost_hf.recommenders.requests import EncodeRequest, RecommendRequest
from cost_hf.recommenders.service import RecommenderService

MAX_ADDED = 200
MAX_CHARACTERS = 2_000
COLD_SHARE = 0.2  # of the list that shows an added item
MAX_SHOWN = 50
MAX_HISTORY = 1_000  # items of a history that are read, the latest
FIRST = 10  # places of the list that shows an added item


class Visit:
    """One recommender with all of its visitors: an item that one of them adds exists for all, until the demo restarts.

    Args:
        recommender: of any kind.
        results: content of results.json, None where there is none.
    """

    def __init__(self, recommender: Recommender, results: Mapping[str, Any] | None = None):
        self.recommender = recommender
        self.service = RecommenderService(recommender)
        self.results = results
        self.added: list[str] = []
        self._adding = threading.Lock()
        self._view = CatalogView(recommender.catalog)

    @property
    def view(self) -> CatalogView:
        """The present catalog."""
        catalog = self.recommender.catalog
        if self._view.catalog is not catalog:
            self._view = CatalogView(catalog)
        return self._view

    def recommend(
        self,
        history: Sequence[str],
        top_k: int = 10,
        exclude_seen: bool = True,
        cold_share: float = 0.0,
        where: Mapping[str, Any] | None = None,
        diversify: Mapping[str, int] | None = None,
    ) -> list[Listed]:
        """Return the recommended items for a history of item ids, best first.

        Raises:
            ValueError: for a filter that no item fulfils.
        """
        request = RecommendRequest.of(
            [[item for item in history[-MAX_HISTORY:] if isinstance(item, str)]],
            top_k=max(1, min(int(top_k), MAX_SHOWN)),
            exclude_seen=bool(exclude_seen),
            cold_share=cold_share,
            where=where,
            diversify=diversify,
            explain=self.recommender.can_explain,
        )
        (answers,) = self.service.recommend(request)
        return [self._listed(answer) for answer in answers]

    def _listed(self, answer: Mapping[str, Any]) -> Listed:
        """Return an answer of the service for display."""
        item = answer["item_id"]
        explanation = ""
        if self.recommender.can_explain:
            # the page shows the codes themselves where all items have them
            explanation = explanation_text(
                Recommendation(item, answer["score"], dict(answer)), shows_id=not self.view.has_sids
            )
        shared = answer.get("explanation", {}).get("shared_prefixes")
        return Listed(
            self.recommender.catalog.row_of(item),
            answer["score"],
            item in self.added,
            explanation,
            shared[0]["shared_levels"] if shared else 0,
        )

    @property
    def takes_texts(self) -> bool:
        """Whether a text is enough to add an item."""
        return "texts" in self.recommender.new_item_inputs

    def example(self) -> list[str]:
        """Return a history to start with: the most clicked item and those with the most similar IDs."""
        snapshot = self.recommender.snapshot
        view = self.view
        row = int(snapshot.popularity_order[0])
        near = [other for other, _ in view.neighbours(view.sid(row), without=row, limit=2)] if view.has_sids else []
        rows = [*reversed(near), row] if near else snapshot.popularity_order[:3].tolist()
        return [view.catalog.item_ids[other] for other in rows]

    def encode(self, text: str) -> Prefix:
        """Return the codes of a text.

        Raises:
            ValueError: for an empty or too long text, or a copy that can't encode texts.
        """
        _check(text)
        (found,) = self.service.encode(EncodeRequest((text,), None))
        return tuple(found["codes"])

    def add(self, text: str) -> int:
        """Add an item with this text; return its row. The same text again is the same item.

        Raises:
            ValueError: for an empty or too long text, a copy that can't encode texts, or where the demo holds as many
                added items as it may.
        """
        _check(text)
        with self._adding:
            item = f"demo-{content_digest(text.strip())[:12]}"
            if item not in self.recommender.catalog:
                if len(self.added) >= MAX_ADDED:
                    raise ValueError(f"this demo holds {MAX_ADDED} added items already; restart it to add more")
                self.recommender.add_items([item], [text], titles=[text.strip()[:200]])
                self.added.append(item)
        return self.recommender.catalog.row_of(item)

    def seen_recommended(self, row: int) -> tuple[list[str], list[Listed], int | None]:
        """Return a history of the item's neighbours, the first recommendations for it, and the place of the item.

        A share of the places is reserved for items without clicks. The place counts from 1; it is None beyond the
        longest list of the demo.
        """
        view = self.view
        near = [other for other, _ in view.neighbours(view.sid(row), without=row, limit=3)] if view.has_sids else []
        rows = near or [int(self.recommender.snapshot.popularity_order[0])]
        history = [view.catalog.item_ids[other] for other in reversed(rows)]
        first = self.recommend(history, FIRST, cold_share=COLD_SHARE)
        place = _place(row, first)
        if place is None:
            place = _place(row, self.recommend(history, MAX_SHOWN, cold_share=COLD_SHARE))
        return history, first, place


def _check(text: str) -> None:
    """Raise ValueError for an empty or too long text."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("write a few words about the item first")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the demo takes at most {MAX_CHARACTERS} characters, got {len(text)}; shorten the text")


def _place(row: int, answers: Sequence[Listed]) -> int | None:
    return next((place for place, listed in enumerate(answers, start=1) if listed.row == row), None)
