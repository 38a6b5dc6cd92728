"""The user's door: item ids in, recommended items out, whatever ranks behind it."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.recommender.collation import pad_rows
from cost_hf.recommender.rankers import Ranker
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_rows import ItemRows
from cost_hf.semantic_ids.trie_mask import check_batch

BATCH = 64


class Recommendation(NamedTuple):
    """One recommended item: its id, its score and what is known about it (`title`, `source`)."""

    item_id: str
    score: float
    fields: dict[str, Any]


class BaseRecommender:
    """Histories of item ids to lists of item ids; subclasses say what ranks.

    Args:
        catalog: the items.
        popularity: training clicks of every catalog row, `[N]`; answers empty histories.
    """

    source = "model"
    needs_user_ids = False

    def __init__(self, catalog: ItemRows, *, popularity: np.ndarray):
        self.catalog, self.popularity = catalog, np.asarray(popularity)

    @property
    def sid_keys(self) -> np.ndarray | None:
        """Number of each row's group of equal model-level codes, `[N]`; None without semantic IDs."""
        return None

    @property
    def network(self) -> PreTrainedModel:
        """The trained model behind the lists."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Number of trained weights."""
        return self.network.num_parameters()

    def ranker_for(self, top_k: int) -> Ranker:
        """Return a ranker whose lists can be `top_k` long."""
        raise NotImplementedError

    def recommend(
        self,
        histories: Sequence[str] | Sequence[Sequence[str]],
        top_k: int = 10,
        exclude_seen: bool = True,
        *,
        allowed: Sequence[str] | CatalogMask | Tensor | None = None,
        denied: Sequence[str] | None = None,
        on_unknown: str = "error",
        on_empty: str = "error",
        user_ids: Sequence[str] | str | None = None,
    ) -> list[Any]:
        """Return the best items for a history, or a list of such lists for a batch of histories.

        Args:
            histories: item ids, oldest first; or a list of such lists.
            top_k: items wanted; fewer come back only where fewer are legal.
            exclude_seen: leave out the items of the history.
            allowed: only these items may be recommended; item ids, or a mask that serves many calls, as `mask` makes
                it, or a bool `[N]` or `[B, N]` over catalog rows (lines are taken in the order of the histories).
            denied: these items may not be recommended.
            on_unknown: `error`, or `drop` history items that the catalog does not hold.
            on_empty: `error`, or `popularity` to answer an empty history with the most clicked items.
            user_ids: one per history (or the one user's id), needed by generators trained with user tokens.

        Returns:
            `Recommendation(item_id, score, fields)` best first; the score is that of the model (`fields["source"]`: a
            generator gives sums of natural-log probabilities), for answers by popularity the log of the smoothed share
            of training clicks (`fields["source"] == "popularity"`).

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for an empty history, ids that are no strings, a mask of another catalog or number of requests,
                or an option that does not exist.
        """
        _check_choice("on_unknown", on_unknown, ("error", "drop"))
        _check_choice("on_empty", on_empty, ("error", "popularity"))
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k!r}")
        batch, is_single = _as_batch(histories)
        users = self._users(user_ids, len(batch))
        rows = [self._rows(history, on_unknown) for history in batch]
        base = self._base_mask(allowed, denied)
        if base is not None and base.batch is not None:
            check_batch(len(rows), base.batch)
        answers: list[list[Recommendation]] = [[] for _ in rows]
        filled = [number for number, history in enumerate(rows) if len(history)]
        empty = [number for number, history in enumerate(rows) if not len(history)]
        if empty and on_empty == "error":
            raise ValueError(
                f"history {empty[0]} is empty; give at least one item the catalog holds, or pass on_empty='popularity'"
            )
        for number in empty:
            answers[number] = self._popular(top_k, None if base is None else base.take([number]))
        for start in range(0, len(filled), BATCH):
            part = filled[start : start + BATCH]
            own = None if users is None else [users[number] for number in part]
            mask = None if base is None else base.take(part)
            ranked = self._rank([rows[number] for number in part], top_k, exclude_seen, mask, own)
            for number, answer in zip(part, ranked, strict=True):
                answers[number] = answer
        return answers[0] if is_single else answers

    def mask(self, *, allowed: Sequence[str] | None = None, denied: Sequence[str] | None = None) -> CatalogMask:
        """Return the mask of items that may be recommended (the stock of a shop, a category, fresh items).

        Build it once and hand it to any number of `recommend(..., allowed=mask)`: ids are looked up and the mask is
        compiled for the model only once. Arguments and errors are those of `CatalogMask.from_item_ids`.
        """
        return CatalogMask.from_item_ids(self.catalog, allowed=allowed, denied=denied)

    def _rank(
        self,
        histories: list[np.ndarray],
        top_k: int,
        exclude_seen: bool,
        mask: CatalogMask | None,
        user_ids: list[str] | None,
    ) -> list[list[Recommendation]]:
        rows = pad_rows(histories)
        if exclude_seen:
            mask = CatalogMask(len(self.catalog), denied=rows) if mask is None else mask.without(rows)
        extra = {} if user_ids is None else {"user_ids": user_ids}
        ranking = self.ranker_for(top_k).rank(rows, top_k=top_k, mask=mask, **extra)
        return [
            [self._answer(row, score, self.source) for row, score in zip(items, scores, strict=True) if row >= 0]
            for items, scores in zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
        ]

    def _popular(self, top_k: int, mask: CatalogMask | None) -> list[Recommendation]:
        order = self._popularity_order
        best = (order if mask is None else order[mask.dense(1)[0].cpu().numpy()[order]])[:top_k]
        shares = np.log((self.popularity[best] + 1) / (self.popularity.sum() + len(self.popularity)))
        return [
            self._answer(row, share, "popularity") for row, share in zip(best.tolist(), shares.tolist(), strict=True)
        ]

    @cached_property
    def _popularity_order(self) -> np.ndarray:
        return np.lexsort((np.array(self.catalog.item_ids), -self.popularity))

    def _answer(self, row: int, score: float, source: str) -> Recommendation:
        title = self.catalog.titles[row] if self.catalog.titles is not None else None
        fields = {"source": source} if title is None else {"title": title, "source": source}
        return Recommendation(self.catalog.item_ids[row], score, fields)

    def _rows(self, history: Sequence[str], on_unknown: str) -> np.ndarray:
        if on_unknown == "drop":
            history = [item for item in history if item in self.catalog]
        return np.asarray(self.catalog.rows_of(history), dtype=np.int64)

    def _users(self, user_ids: Sequence[str] | str | None, histories: int) -> list[str] | None:
        if not self.needs_user_ids:
            return None
        users = [user_ids] if isinstance(user_ids, str) else list(user_ids or [])
        if len(users) != histories:
            raise ValueError(
                f"this generator was trained with user tokens and needs one user id per history, got {len(users)} for "
                f"{histories}; pass user_ids="
            )
        return users

    @cached_property
    def _present(self) -> CatalogMask | None:
        """What is not removed from the catalog; None where that is all."""
        return self.mask() if self.catalog.removed.any() else None

    @cached_property
    def _narrowed(self) -> WeakKeyDictionary[CatalogMask, CatalogMask]:
        """Callers' masks that allowed removed items, without these."""
        return WeakKeyDictionary()

    def _base_mask(
        self, allowed: Sequence[str] | CatalogMask | Tensor | None, denied: Sequence[str] | None
    ) -> CatalogMask | None:
        if not isinstance(allowed, CatalogMask | Tensor):
            return self._present if allowed is None and denied is None else self.mask(allowed=allowed, denied=denied)
        mask = CatalogMask(len(self.catalog), allowed) if isinstance(allowed, Tensor) else allowed
        mask.check_items(len(self.catalog))
        if denied is not None:
            return mask.within(self.mask(denied=denied).dense(1)[0])
        if self._present is None:
            return mask
        if mask not in self._narrowed:
            narrowed = mask.within(self._present.dense(1)[0])
            if narrowed is mask:
                return mask
            self._narrowed[mask] = narrowed
        return self._narrowed[mask]


def _as_batch(histories: Any) -> tuple[list[list[str]], bool]:
    """Return the histories as a list of lists, and whether a single one was given."""
    if isinstance(histories, str):
        raise ValueError(
            f"expected a list of item ids or a list of such lists, got the string {histories!r}; pass [{histories!r}]"
        )
    entries = list(histories)
    if all(isinstance(entry, str) for entry in entries):
        return [entries], True
    wrong = [entry for entry in entries if isinstance(entry, str) or not isinstance(entry, Iterable)]
    wrong = wrong or [item for entry in entries for item in entry if not isinstance(item, str)]
    if wrong:
        raise ValueError(
            f"expected item ids (strings) only or lists of them only, got {wrong[0]!r} in a list of {len(entries)}; "
            "convert ids by str, and make every history of a batch a list"
        )
    return [list(entry) for entry in entries], False


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
