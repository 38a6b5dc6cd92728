"""Dense retrieval: recommenders that score the whole catalog by one product of user and item vectors.

Weights with an id embedding know their items by row, so a digest of these rows ties them to the catalog. A model of
texts alone takes new items.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import check_fields, content_digest
from cost_hf.model_files import load_all_weights
from cost_hf.recommenders.base import Recommender, checked_device
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.recommenders.repository import MANIFEST, WEIGHT_FILES, check_parts, read_catalog_parts
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemList


class DenseModel(Protocol):
    """What a `PreTrainedModel` of users and items must offer to be a `DenseRecommender`.

    Its configuration has `num_items` N (items of the training catalog), `has_ids` (whether the weights know items by
    their rows) and `text_dim` E (width of the frozen item vectors that it reads; None where it reads none). It may have
    `seen_score` (score that items of a history get in place of their own; None for their own).
    """

    config: Any
    device: Any

    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return what histories are made of, `[N, D]`, from item vectors `[N, E]` where the model reads them."""
        ...

    def targets(self, table: Tensor) -> Tensor:
        """Return the item side of the scores, `[N, D]`."""
        ...

    def with_items(self, num_items: int) -> "DenseModel":
        """Return a model with rows for `num_items` items, those beyond the present ones fresh; others share weights."""
        ...

    def users(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return the user side, `[B, D]`, of histories `[B, T]` (rows, oldest first, -1 pads on the right)."""
        ...


class DenseScorer:
    """Scores the whole catalog by one product with item vectors that are computed once.

    Args:
        model: in eval mode, whose weights stay as they are from now on.
        item_vectors: frozen item vectors of the catalog `[N, E]`, for models that read them. A model of texts alone
            also scores items that its training never saw.
    """

    def __init__(self, model: DenseModel, item_vectors: np.ndarray | None = None):
        self.model = model
        self.seen_score: float | None = getattr(model.config, "seen_score", None)
        vectors = None if item_vectors is None else torch.from_numpy(item_vectors).to(model.device)
        with torch.inference_mode():
            self.table = model.item_table(vectors)  # [N, D]
            self.targets = model.targets(self.table)  # [N, D], for cosines the same at unit length

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return scores, float32 `[B, N]`, of histories `[B, T]` (catalog rows, oldest first, -1 pads on the right)."""
        with torch.inference_mode():
            rows = torch.from_numpy(histories).to(self.model.device)
            scores = (self.model.users(rows, self.table) @ self.targets.T).float()
            if self.seen_score is not None:
                users, places = (rows >= 0).nonzero(as_tuple=True)
                scores[users, rows[users, places]] = self.seen_score
            return scores.cpu().numpy()


class DenseSnapshot(CatalogSnapshot):
    """A catalog with the table of item vectors that scoring reads, and the ranking by it."""

    def __init__(self, catalog: ItemList, clicks: np.ndarray, model: Any):
        super().__init__(catalog, clicks)
        self.scorer = DenseScorer(model, catalog.vectors)

    @cached_property
    def ranker(self) -> ScoringRanker:
        """The ranking of the whole catalog; it sorts the ids, so it is made once."""
        return ScoringRanker(self.scorer, popularity=self.popularity, item_ids=self.catalog.item_ids)


class ModelRecommender(Recommender):
    """A recommender that scores the catalog by one model, `model`, whose snapshots hold what scoring reads."""

    model: Any
    has_own_code = True

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same up to rounding."""
        with self._writing:
            self.model.to(checked_device(device))
            self.snapshot = self._snapshot_of(self.catalog)
        return self

    @property
    def network(self) -> PreTrainedModel:
        """The model."""
        return self.model

    @property
    def auto_class(self) -> str:
        """Name of the Auto class that loads the model, with its published sources."""
        return "AutoModel"


class DenseRecommender(ModelRecommender):
    """Recommends catalog items by the scores of a `DenseModel`; a method sets `kind` and `model_class`.

    Args:
        model: trained on the first rows of `catalog`.
        catalog: the items; with their vectors, for models with text inputs.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for models of text alone.
        journal, versions: of `CatalogUpdates`.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    text_only_hint: ClassVar[str] = "train a model of texts alone"  # remedy where new items are refused
    published_files = WEIGHT_FILES
    snapshot: DenseSnapshot

    def __init__(
        self,
        model: Any,
        catalog: ItemList,
        *,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        trained = model.config.num_items
        if (
            len(popularity) != len(catalog)
            or len(catalog) < trained
            or (len(catalog) > trained and model.config.has_ids)
        ):
            raise ValueError(
                f"model and popularity must fit the catalog of {len(catalog)} items, got {trained!r} "
                f"items and {len(popularity)!r} counts; take all of them from one run"
            )
        width = None if catalog.vectors is None else catalog.vectors.shape[1]
        if width != model.config.text_dim:
            raise ValueError(
                f"the model reads item vectors of width {model.config.text_dim}, the catalog has {width}; take both "
                "from one run"
            )
        self.model = model.eval()
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @property
    def scorer(self) -> DenseScorer:
        """Scores of the present catalog."""
        return self.snapshot.scorer

    @property
    def identity(self) -> dict[str, str]:
        """The digest that ties the items of training to the weights."""
        return {"weights_items_digest": content_digest(list(self.catalog.item_ids[: self.model.config.num_items]))}

    def add_items_to_train(
        self,
        item_ids: Sequence[str],
        texts: Sequence[str],
        *,
        titles: Sequence[str | None] | None = None,
        columns: Any = None,
    ) -> CatalogChange:
        """Add items, with fresh rows in the weights of a model that knows items by their rows."""
        if not self.model.config.has_ids:
            return super().add_items_to_train(item_ids, texts, titles=titles, columns=columns)
        with self._writing:
            before = self.catalog
            after = before.restored([item for item in item_ids if item in before])
            fresh = [place for place, item in enumerate(item_ids) if item not in before]
            ids = [item_ids[place] for place in fresh]
            if fresh:
                own_titles = None if titles is None else [titles[place] for place in fresh]
                vectors = self._vectors_of([texts[place] for place in fresh]) if self.needs_vectors else None
                after = self._with_appended_items(after, ids, vectors=vectors, codes=None, titles=own_titles)
                self.model = self.model.with_items(len(after)).eval()
            if fresh and columns is not None:
                after = after.with_values(ids, ItemColumns.of(columns).taken(fresh))
            new = [item for item in item_ids if item not in before or before.removed[before.row_of(item)]]
            return self._change("add", new, after)

    @property
    def needs_vectors(self) -> bool:
        """Whether the model reads text vectors."""
        return self.model.config.text_dim is not None

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> ScoringRanker:
        """Return the ranking of the whole catalog; any length is possible."""
        return snapshot.ranker if isinstance(snapshot, DenseSnapshot) else self.snapshot.ranker

    def learned_item_vectors(self, snapshot: CatalogSnapshot) -> np.ndarray | None:
        """Return the item side of the scores, float32 `[N, D]`, of a model without texts."""
        at = snapshot if isinstance(snapshot, DenseSnapshot) else self.snapshot
        return None if self.model.config.text_dim is not None else at.scorer.targets.float().cpu().numpy()

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        self.model.save_pretrained(folder)
        return {}

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> Self:
        check_fields(manifest, {"weights_items_digest": str}, source=source / MANIFEST)
        parts = read_catalog_parts(source, manifest, ItemList)
        model = load_all_weights("the model", source, cls.model_class.from_pretrained)
        recommender = cls(model, **parts)
        trained = recommender.identity["weights_items_digest"]
        check_parts(source, [("the list of trained items", trained, manifest["weights_items_digest"])])
        return recommender

    def _snapshot_of(self, catalog: Any) -> DenseSnapshot:
        return DenseSnapshot(catalog, self._clicks, self.model)

    def _require_encoder(self, *, by_codes: bool) -> None:
        if self.model.config.has_ids or by_codes:
            reason = "has no codes" if by_codes else "knows its items by the rows of its weights"
            raise ValueError(
                f"this recommender of kind {self.kind} {reason}, so it takes no new items in this way; "
                f"{self.text_only_hint}, and pass texts or vectors"
            )

    def _with_appended_items(
        self,
        catalog: ItemList,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
        texts: Sequence[str] | None = None,
    ) -> ItemList:
        return catalog.with_items(item_ids, vectors=vectors, titles=titles)

    def _with_updated_texts(self, catalog: ItemList, item_ids: list[str], texts: Sequence[str]) -> tuple[ItemList, int]:
        return (catalog, 0) if catalog.vectors is None else (catalog.with_vectors(item_ids, self._vectors_of(texts)), 0)
