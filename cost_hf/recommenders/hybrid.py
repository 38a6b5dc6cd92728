"""Several recommenders that answer as one: the base of fusions and learned rankers.

Parts keep their weights and answer from the catalog of the hybrid; titles and the text encoder belong to the hybrid
alone. Every part lists its best items, and a subclass scores the union of the lists. A change of the catalog reaches
all parts that can take it: a part that takes no new items (item ids are rows of its weights) stays as it is, never
lists them and leaves them out of the histories that it reads.
"""

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import DamagedFileError, check_fields, content_digest, plain_name
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.candidates import Candidates, merge_lists
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.hybrid_catalog import HybridCatalog
from cost_hf.recommenders.rankers import (
    Ranker,
    Ranking,
    ScoringRanker,
    score_tiles,
    takes_user_ids,
    training_clicks,
)
from cost_hf.recommenders.repository import MANIFEST, PARTS, check_parts, read_catalog_parts
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemRows

logger = logging.getLogger(__name__)
DEPTH = 50  # items taken from every part; more where a longer list is requested


@dataclass(frozen=True)
class PartRanker:
    """The ranker of a part, over the first rows of the hybrid's catalog.

    Attributes:
        ranker: of the part.
        num_items: rows that it knows; items added later are in none of its lists and histories.
    """

    ranker: Ranker
    num_items: int

    def lists(
        self, histories: Tensor, *, top_k: int, mask: CatalogMask | None, user_ids: Sequence[str] | None
    ) -> tuple[np.ndarray, np.ndarray, "Iterable[ScoreTable]"]:
        """Return the part's lists, `[B, R]`, their scores, and the scores of its whole catalog where it gives them.

        A history of which the part knows no item has an empty list; an empty history is ranked as the part ranks it.

        Args:
            histories: rows of the hybrid's catalog, int64 `[B, T]`, -1 pads on the right.
            top_k: longest list.
            mask: items that may be listed, over the hybrid's catalog.
            user_ids: ids of the users, for parts that take them.

        Returns:
            Catalog rows int64 `[B, R]`, -1 after the last one; scores float `[B, R]`; tables of scores for the requests
            that have a list, each made when it is read, none where the part only lists some items.
        """
        own = None if mask is None else mask.first(self.num_items)
        known = _without_unknown(histories, self.num_items)
        if known is histories:
            return self._ranked(histories, np.arange(len(histories)), top_k=top_k, mask=own, user_ids=user_ids)
        # a history that is empty in itself is a request of its own sort; one of unknown items says nothing to the part
        rows = ((known >= 0).any(dim=1) | (histories < 0).all(dim=1)).nonzero()[:, 0]
        if not len(rows):
            return np.full((len(histories), 0), -1, dtype=np.int64), np.empty((len(histories), 0)), ()
        users = None if user_ids is None else [user_ids[number] for number in rows.tolist()]
        listed, values, tables = self._ranked(
            known[rows], rows.numpy(), top_k=top_k, mask=None if own is None else own.take(rows), user_ids=users
        )
        items = np.full((len(histories), listed.shape[1]), -1, dtype=np.int64)
        scores = np.full(items.shape, -np.inf)
        items[rows.numpy()] = listed
        scores[rows.numpy()] = values
        return items, scores, tables

    def _ranked(
        self,
        histories: Tensor,
        requests: np.ndarray,
        *,
        top_k: int,
        mask: CatalogMask | None,
        user_ids: Sequence[str] | None,
    ) -> tuple[np.ndarray, np.ndarray, "Iterable[ScoreTable]"]:
        """Return lists, scores and tables of scores for histories of which the part knows every item.

        Args:
            histories: of the requests.
            requests: their numbers, int64 `[n]`.
            top_k, mask, user_ids: as for `lists`.
        """
        if not isinstance(self.ranker, ScoringRanker):
            extra = {"user_ids": user_ids} if user_ids is not None and takes_user_ids(self.ranker) else {}
            ranking = self.ranker.rank(histories, top_k=top_k, mask=mask, **extra)
            return ranking.items.cpu().numpy(), ranking.scores.cpu().numpy(), ()
        tiles = score_tiles(len(histories), self.num_items)
        if len(tiles) > 1:  # scoring again takes less than keeping all scores until the lists of other parts are known
            ranking = self.ranker.rank(histories, top_k=top_k, mask=mask)
            return (
                ranking.items.numpy(),
                ranking.scores.numpy(),
                _score_tables(self.ranker, histories, requests, mask, tiles),
            )
        table = self.ranker.scores(histories)
        ranking = self.ranker.rank_scores(table, top_k=top_k, mask=mask)
        return ranking.items.numpy(), ranking.scores.numpy(), [ScoreTable(requests, table.numpy())]


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of the whole catalog of a part for some requests.

    Attributes:
        requests: their numbers, int64 `[n]`.
        scores: float `[n, N_part]`, -inf outside the mask.
    """

    requests: np.ndarray
    scores: np.ndarray


def _score_tables(
    ranker: ScoringRanker, histories: Tensor, requests: np.ndarray, mask: CatalogMask | None, tiles: Sequence[range]
) -> Iterator[ScoreTable]:
    """Yield the scores of some requests at a time."""
    for tile in tiles:
        table = ranker.scores(histories[tile])
        if mask is not None:
            mask.take(tile).hide(table)
        yield ScoreTable(requests[tile], table.numpy())


class CandidateLists:
    """Candidates of requests: the union of the lists of several rankers.

    Args:
        parts: rankers by name.
        num_items: N, items of the hybrid's catalog.
        depth: items taken from every part; more where a longer list is requested.
    """

    def __init__(self, parts: Mapping[str, PartRanker], *, num_items: int, depth: int = DEPTH):
        self.parts = dict(parts)
        self.num_items = num_items
        self.depth = depth

    def candidates(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Candidates:
        """Return the candidates of histories `[B, T]`: the items of all lists of `max(top_k, depth)`."""
        histories = histories.cpu()
        own = CatalogMask.of(mask, self.num_items)
        length = max(top_k, self.depth)
        listed = [part.lists(histories, top_k=length, mask=own, user_ids=user_ids) for part in self.parts.values()]
        found = merge_lists([items for items, _, _ in listed], [scores for _, scores, _ in listed])
        for column, (_, scores, tables) in enumerate(listed):
            own_scores = found.scores[:, :, column]
            own_ranks = found.ranks[:, :, column]
            for table in tables:
                rows = table.requests
                own_scores[rows] = _scores_of(table.scores, found.items[rows])
                own_ranks[rows] = _shared_ranks(own_ranks[rows], scores[rows], table.scores)
        return found


class HybridRanker(CandidateLists):
    """Ranks the candidates of several rankers by scores of a hybrid; a `Ranker`.

    Args:
        parts: rankers by name.
        score: returns a score `[B, C]` for the candidates of histories `[B, T]`.
        num_items, depth: as for `CandidateLists`.
    """

    def __init__(
        self,
        parts: Mapping[str, PartRanker],
        score: Callable[[np.ndarray, Candidates], np.ndarray],
        *,
        num_items: int,
        depth: int = DEPTH,
    ):
        super().__init__(parts, num_items=num_items, depth=depth)
        self.score = score

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `top_k` items of every history `[B, T]`, -1 where the parts list fewer."""
        found = self.candidates(histories, top_k=top_k, mask=mask, user_ids=user_ids)
        items, scores = found.ranked(self.score(histories.cpu().numpy(), found), top_k)
        return Ranking(torch.from_numpy(items), torch.from_numpy(scores))


@dataclass(frozen=True, eq=False)
class Effects:
    """How scores of R candidates a request come about: each is the base value plus the sum of its effects.

    Attributes:
        names: of the F causes.
        values: effects, float64 `[B, R, F]`.
        base_value: score without any effect.
    """

    names: Sequence[str]
    values: np.ndarray
    base_value: float

    def of(self, request: int, place: int) -> dict[str, float]:
        """Return the effects on one candidate by name, largest first."""
        own = self.values[request, place]
        return {self.names[cause]: float(own[cause]) for cause in np.argsort(-np.abs(own), kind="stable").tolist()}


class HybridSnapshot(CatalogSnapshot):
    """A catalog with the snapshots that the parts answer from."""

    def __init__(self, catalog: HybridCatalog, clicks: np.ndarray, parts: Mapping[str, CatalogSnapshot]):
        super().__init__(catalog, clicks)
        self.parts = dict(parts)


class HybridRecommender(Recommender):
    """Recommends from the lists of several recommenders; a subclass scores the candidates.

    Args:
        parts: recommenders over the same items by name, as `bare_parts` prepares them.
        catalog: the items, with the catalogs of the parts.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for all parts.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for a catalog of other parts.
    """

    catalog_class = HybridCatalog
    published_files: ClassVar[str] = (
        r"parts/\w[\w.-]*(/\w[\w.-]*)*/\w[\w.-]*\.(safetensors|json|parquet|jinja|model|py|txt)"
    )
    snapshot: HybridSnapshot

    def __init__(
        self,
        parts: Mapping[str, Recommender],
        catalog: HybridCatalog,
        *,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        if list(parts) != list(catalog.parts) or len(popularity) != len(catalog):
            raise ValueError(
                f"catalog and popularity must be those of {list(parts)} and {len(catalog)} items, got "
                f"{list(catalog.parts)} and {len(popularity)}; take all of them from one hybrid"
            )
        self.encoder = encoder
        self._take_parts(parts)
        self.needs_user_ids = any(part.needs_user_ids for part in parts.values())
        self.base = next((part.base for part in parts.values() if part.base is not None), None)
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @abstractmethod
    def score_candidates(self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates) -> np.ndarray:
        """Return the scores of candidates `[B, C]`; those of padding do not matter.

        Args:
            snapshot: state of the catalog that the request reads.
            histories: catalog rows `[B, T]`, oldest first, -1 pads on the right.
            candidates: of these histories.
        """

    @abstractmethod
    def explain_candidates(
        self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates, columns: np.ndarray
    ) -> "Effects":
        """Return what moved the scores of R candidates a history.

        Args:
            snapshot, histories, candidates: as in `score_candidates`.
            columns: columns of the candidates, int64 `[B, R]`.
        """

    def add_items_to_train(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str],
        *,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Add items to all parts, also to those that take no new items without a training.

        A part of the latter sort that lacks items which `add_items` brought stays as it is: their texts are not known.
        """
        with self._writing:
            before = self.catalog
            parts = {}
            for name, part in self.parts.items():
                bare = part.with_catalog(before.parts[name])
                bare.encoder = self.encoder
                if len(bare.catalog) == len(before):
                    with _naming(name):
                        bare.add_items_to_train(item_ids, texts)
                parts[name] = bare
            longest = max((part.catalog for part in parts.values()), key=len)
            named = None
            if before.titles is not None:
                own = {} if titles is None else dict(zip(item_ids, titles, strict=True))
                named = [*before.titles, *map(own.get, longest.item_ids[len(before) :])]
            after = HybridCatalog.of(
                {name: part.catalog for name, part in parts.items()},
                named,
                before.columns.extended(len(longest) - len(before)),
            )
            fresh = [place for place, item in enumerate(item_ids) if item not in before]
            if fresh and columns is not None:
                after = after.with_values([item_ids[place] for place in fresh], ItemColumns.of(columns).taken(fresh))
            self._take_parts(parts)
            new = [item for item in item_ids if item not in before or before.removed[before.row_of(item)]]
            return self._change("add", new, after)

    def with_trained_parts(self, parts: Mapping[str, Recommender], popularity: np.ndarray) -> Self:
        """Return the hybrid of parts that were trained on, as `after_training` does for other kinds.

        Args:
            parts: by name, over the rows of the present catalog.
            popularity: what was clicked in training by now, `[N]`.
        """
        other = copy.copy(self)
        other._take_parts(parts)
        other.versions = ()
        other._clicks = training_clicks(popularity)
        catalogs = {name: part.catalog for name, part in parts.items()}
        other.snapshot = other._snapshot_of(HybridCatalog.of(catalogs, self.catalog.titles, self.catalog.columns))
        return other

    def _take_parts(self, parts: Mapping[str, Recommender]) -> None:
        self.parts = dict(parts)
        for part in self.parts.values():
            part.encoder = self.encoder
        self.fixed_parts = tuple(name for name, part in self.parts.items() if "vectors" not in part.new_item_inputs)

    def merge(self) -> Self:
        """Add the adapters of all parts to the weights of their bases, in place."""
        for part in self.parts.values():
            part.merge()
        self.base = None
        return self

    def to(self, device: torch.device | str) -> Self:
        """Move all parts to a device, in place; answers are the same up to rounding."""
        with self._writing:
            for part in self.parts.values():
                part.to(device)
            self.snapshot = self._snapshot_of(self.catalog)
        return self

    @property
    def network(self) -> None:
        """None: the parts have networks of their own."""
        return None

    @property
    def num_parameters(self) -> int:
        """Number of trained weights of all parts."""
        return sum(part.num_parameters for part in self.parts.values())

    @property
    def needs_vectors(self) -> bool:
        """Whether a part that takes new items needs their vectors."""
        return any(part.needs_vectors for name, part in self.parts.items() if name not in self.fixed_parts)

    @property
    def can_explain(self) -> bool:
        """Whether lists can be explained: by the parts, always."""
        return True

    def text_vectors(self, catalog: HybridCatalog) -> np.ndarray | None:
        """Return the item text vectors `[n, E]` that the catalogs of the parts hold; None for none."""
        return text_vectors_of(self.parts, catalog)

    @property
    def carries_text_vectors(self) -> bool:
        """Whether the catalog of a part holds vectors of item texts, or their words."""
        return any(part.carries_text_vectors for part in self.parts.values())

    @property
    def identity(self) -> dict[str, str]:
        """The digest of the parts and of what combines them."""
        parts = [[name, part.kind, part.identity] for name, part in self.parts.items()]
        return {"parts_digest": content_digest("cost_hf.hybrid_parts.1", parts, *self._combination())}

    def fitted_catalog(self, items: ItemRows) -> HybridCatalog:
        """Return the catalog that the parts were fitted on, with the metadata of these items, which it begins."""
        parts = {name: part.catalog for name, part in self.parts.items()}
        count = max(map(len, parts.values()))
        return HybridCatalog.of(
            parts, None if items.titles is None else items.titles[:count], items.columns.taken(range(count))
        )

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> HybridRanker:
        """Return the ranker of the present (or the given) snapshot."""
        at = snapshot if isinstance(snapshot, HybridSnapshot) else self.snapshot
        rankers = {
            name: PartRanker(part.ranker_for(max(top_k, DEPTH), at.parts[name]), len(at.parts[name].catalog))
            for name, part in self.parts.items()
        }
        return HybridRanker(rankers, partial(self.score_candidates, at), num_items=len(at.catalog))

    def _explanations(
        self, snapshot: CatalogSnapshot, histories: Tensor, items: Tensor, mask: CatalogMask | None, **extra: Any
    ) -> list[dict[str, dict[str, Any]]]:
        at = snapshot if isinstance(snapshot, HybridSnapshot) else self.snapshot
        length = items.shape[1]
        found = self.ranker_for(length, at).candidates(histories, top_k=length, mask=mask, **extra)
        columns = found.columns_of(items.cpu().numpy())
        effects = self.explain_candidates(at, histories.cpu().numpy(), found, np.maximum(columns, 0))
        return [
            {
                at.catalog.item_ids[found.items[request, column]]: {
                    "parts": _listed_by(list(self.parts), found, request, column),
                    "effects": effects.of(request, place),
                    "base_value": effects.base_value,
                }
                for place, column in enumerate(own.tolist())
                if column >= 0
            }
            for request, own in enumerate(columns)
        ]

    def _combination(self) -> list[Any]:
        """Return what combines the parts, as plain values and arrays, for the digest."""
        raise NotImplementedError

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        for name, part in self.parts.items():
            bare = part.with_catalog(part.catalog)
            bare.encoder = None  # the hybrid has it
            bare.save_pretrained(folder / PARTS / plain_name(name, source=folder))
        return {"parts": list(self.parts)}

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> Self:
        path = source / MANIFEST
        check_fields(manifest, {"parts": list[str], "parts_digest": str}, source=path)
        names = [plain_name(name, source=path) for name in manifest["parts"]]
        parts = {name: Recommender.from_pretrained(source / PARTS / name) for name in names}
        catalog_parts = read_catalog_parts(source, manifest, HybridCatalog)
        try:
            recommender = cls._of_parts(source, manifest, parts, catalog_parts)
        except ValueError as error:
            raise DamagedFileError(f"{path} does not fit its parts: {error}; copy the directory again") from error
        found = recommender.identity["parts_digest"]
        check_parts(source, [("the list of parts", found, manifest["parts_digest"])])
        return recommender

    @classmethod
    def _of_parts(
        cls, source: Path, manifest: dict[str, Any], parts: dict[str, Recommender], catalog_parts: dict[str, Any]
    ) -> Self:
        """Return the hybrid of parts that were read; raise ValueError where its own entries do not fit them."""
        raise NotImplementedError

    def _snapshot_of(self, catalog: Any) -> HybridSnapshot:
        snapshots = {name: part._snapshot_of(catalog.parts[name]) for name, part in self.parts.items()}
        return HybridSnapshot(catalog, self._clicks, snapshots)

    def _require_encoder(self, *, by_codes: bool) -> None:
        if by_codes:
            raise ValueError("a hybrid takes new items by texts or vectors, which all of its parts can read, not codes")
        if len(self.fixed_parts) == len(self.parts):
            raise ValueError(
                f"no part takes new items: {', '.join(self.fixed_parts)}; train a hybrid with a part that reads texts"
            )

    def _with_appended_items(
        self,
        catalog: HybridCatalog,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
        texts: Sequence[str] | None = None,
    ) -> HybridCatalog:
        if self.fixed_parts:
            logger.warning(
                "%s of the hybrid take no new items: they never list them, the other parts do",
                ", ".join(map(repr, self.fixed_parts)),
            )
        parts = {}
        for name, part in self.parts.items():
            parts[name] = catalog.parts[name]
            if name not in self.fixed_parts:
                with _naming(name):
                    parts[name] = part._with_appended_items(
                        parts[name], item_ids, vectors=vectors, codes=codes, titles=None, texts=texts
                    )
        longest = max(parts.values(), key=len)
        columns = catalog.columns.extended(len(longest) - len(catalog))
        if catalog.titles is None:
            return HybridCatalog.of(parts, None, columns)
        named = {} if titles is None else dict(zip(item_ids, titles, strict=True))
        appended = longest.item_ids[len(catalog) :]
        return HybridCatalog.of(parts, [*catalog.titles, *map(named.get, appended)], columns)

    def _with_updated_texts(
        self, catalog: HybridCatalog, item_ids: list[str], texts: Sequence[str]
    ) -> tuple[HybridCatalog, int]:
        parts = {}
        counts = [0]
        text_of = dict(zip(item_ids, texts, strict=True))
        for name, part in self.parts.items():
            parts[name] = catalog.parts[name]
            own = [item for item in item_ids if item in parts[name]]
            if own:
                with _naming(name):
                    parts[name], would_differ = part._with_updated_texts(parts[name], own, [text_of[i] for i in own])
                counts.append(would_differ)
        return HybridCatalog.of(parts, catalog.titles, catalog.columns), max(counts)


def bare_parts(parts: Mapping[str, Recommender]) -> dict[str, Any]:
    """Return what `HybridRecommender` is made of, from recommenders fitted on the same data; they stay as they are.

    Raises:
        ValueError: for parts of other items, or with another text encoder.
    """
    encoders = [part.encoder for part in parts.values() if part.encoder is not None]
    if len({encoder.digest for encoder in encoders}) > 1:
        raise ValueError(f"the parts {', '.join(parts)} have different text encoders; fit all of them in one run")
    for name, part in parts.items():
        if isinstance(part, HybridRecommender):
            raise ValueError(f"part {name!r} is a hybrid itself; name its parts instead")
    catalogs = {name: part.catalog for name, part in parts.items()}
    titles = [own.titles for own in catalogs.values() if own.titles is not None]
    columns = [own.columns for own in catalogs.values() if own.columns.names]
    catalog = HybridCatalog.of(catalogs, titles[0] if titles else None, columns[0] if columns else ItemColumns())
    return {
        "parts": {name: part.with_catalog(catalog.parts[name]) for name, part in parts.items()},
        "catalog": catalog,
        "popularity": next(iter(parts.values())).popularity,
        "encoder": encoders[0] if encoders else None,
    }


def text_vectors_of(parts: Mapping[str, Recommender], catalog: HybridCatalog) -> np.ndarray | None:
    """Return item text vectors `[n, E]`, float32, of the part that has them for most items, the first of several.

    They are fewer than there are items where all parts that hold them take no new items; None where no part holds any.
    """
    tables = [part.text_vectors(catalog.parts[name]) for name, part in parts.items()]
    return max((table for table in tables if table is not None), key=len, default=None)


def _without_unknown(histories: Tensor, num_items: int) -> Tensor:
    """Return histories `[B, T]` without the rows from `num_items` on, their other items moved together.

    Histories without such rows are returned as they are.
    """
    if not histories.numel() or int(histories.max()) < num_items:
        return histories
    kept = torch.where(histories < num_items, histories, -1)
    order = (kept < 0).to(torch.uint8).argsort(dim=1, stable=True)
    return kept.gather(1, order)


def _shared_ranks(ranks: np.ndarray, scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ranks `[B, C]` in which items of equal scores share the mean of their ranks, float64, nan where they were.

    A part without evidence about many items, such as counts about new ones, gives all of them one score. Which of them
    are in its list says nothing, and the mean rank of so many is low.

    Args:
        ranks: 1-based, in lists with the scores `[B, R]`, best first.
        scores: of the lists.
        table: scores of the whole catalog, `[B, N]`: the last ones of a list may have equals beyond it.
    """
    if not scores.shape[1]:
        return ranks
    places = np.arange(scores.shape[1])
    begins = np.ones(scores.shape, dtype=bool)
    begins[:, 1:] = scores[:, 1:] != scores[:, :-1]
    num_last = (table == scores[:, -1:]).sum(axis=1)
    if begins.all() and (num_last <= 1).all():
        return ranks
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    ends = np.ones(scores.shape, dtype=bool)
    ends[:, :-1] = begins[:, 1:]
    last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    beyond = num_last - 1 + first[:, -1]
    last = np.where(first == first[:, -1:], np.maximum(beyond, last[:, -1])[:, None], last)
    shared = (first + last) / 2 + 1.0
    own = np.take_along_axis(shared, np.nan_to_num(ranks, nan=1.0).astype(np.int64) - 1, axis=1)
    return np.where(np.isnan(ranks), np.nan, own)


def _scores_of(table: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the scores of items `[B, C]` in a table `[B, N]`, float64, nan where it has none."""
    is_known = (items >= 0) & (items < table.shape[1])
    values = np.take_along_axis(table, np.where(is_known, items, 0), axis=1)
    return np.where(is_known & np.isfinite(values), values, np.nan)


def _listed_by(names: Sequence[str], candidates: Candidates, request: int, column: int) -> dict[str, float]:
    """Return the rank of an item in the lists of the parts that contain it."""
    ranks = candidates.ranks[request, column].tolist()
    own = {name: rank for name, rank in zip(names, ranks, strict=True) if not np.isnan(rank)}
    return {name: int(rank) if rank.is_integer() else rank for name, rank in own.items()}


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the part whose catalog can't take a change; none has changed then."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"part {name!r} of the hybrid refuses the change: {error}") from error
