"""A trained SASRec as a recommender: the same door as the generative one, without semantic IDs.

Its weights with ids know their items by row, so a digest of these rows ties them to the catalog. A model of text alone
takes new items as the generative one does.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.files import check_fields, content_digest, load_all_weights
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.scorer import SasRecScorer
from cost_hf.recommenders.base import Recommender, checked_device
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.recommenders.repository import (
    MANIFEST,
    check_kind,
    check_parts,
    locate,
    read_catalog_parts,
    read_whole,
    save_whole,
)
from cost_hf.semantic_ids.item_list import ItemList


class SasRecSnapshot(CatalogSnapshot):
    """A catalog with the table of item vectors that scoring reads, and the ranking by it."""

    def __init__(self, catalog: ItemList, clicks: np.ndarray, model: SasRecModel):
        super().__init__(catalog, clicks)
        self.scorer = SasRecScorer(model, catalog.vectors)

    @cached_property
    def ranker(self) -> ScoringRanker:
        """The ranking of the whole catalog; it sorts the ids, so it is made once."""
        return ScoringRanker(self.scorer, popularity=self.popularity, item_ids=self.catalog.item_ids)


class SasRecRecommender(Recommender):
    """Recommends catalog items by the scores of a SASRec model.

    Args:
        model: trained on the first rows of `catalog`.
        catalog: the items; with their vectors, for models with text inputs.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for models of text alone.
        journal, versions: of `CatalogUpdates`.
    """

    kind = "sasrec"
    source = "sasrec"
    snapshot: SasRecSnapshot

    def __init__(
        self,
        model: SasRecModel,
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

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same but for rounding."""
        with self._writing:
            self.model.to(checked_device(device))
            self.snapshot = self._snapshot_of(self.catalog)
        return self

    @property
    def network(self) -> SasRecModel:
        """The SASRec model."""
        return self.model

    @property
    def scorer(self) -> SasRecScorer:
        """Scores of the present catalog."""
        return self.snapshot.scorer

    @property
    def identity(self) -> dict[str, str]:
        """The digest that ties the items of training to the weights."""
        return {"weights_items_digest": content_digest(list(self.catalog.item_ids[: self.model.config.num_items]))}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> ScoringRanker:
        """Return the ranking of the whole catalog; any length is possible."""
        return snapshot.ranker if isinstance(snapshot, SasRecSnapshot) else self.snapshot.ranker

    def save_pretrained(self, directory: str | Path) -> None:
        """Write model, items, popularity and encoder in place of a recommender that is there: all of it, or nothing."""
        with self._writing:
            save_whole(directory, self, self._write_model)

    def _write_model(self, folder: Path) -> dict[str, Any]:
        self.model.save_pretrained(folder)
        return {}

    @classmethod
    def read(cls, directory: str | Path) -> "SasRecRecommender":
        """Load a SASRec recommender; `from_pretrained` loads any kind.

        Raises:
            OSError: where the directory holds no recommender, or a file can't be read.
            ValueError: for a damaged file, or items or an encoder that are not those of the model.
        """
        source = locate(directory)
        return read_whole(source, lambda manifest: cls._read_parts(source, manifest))

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> "SasRecRecommender":
        check_kind(source, manifest, cls.kind)
        check_fields(manifest, {"weights_items_digest": str}, source=source / MANIFEST)
        parts = read_catalog_parts(source, manifest, ItemList.load)
        model = load_all_weights("the model", source, SasRecModel.from_pretrained)
        recommender = cls(model, **parts)
        trained = recommender.identity["weights_items_digest"]
        check_parts(source, [("the list of trained items", trained, manifest["weights_items_digest"])])
        return recommender

    def _snapshot_of(self, catalog: Any) -> SasRecSnapshot:
        return SasRecSnapshot(catalog, self._clicks, self.model)

    def _require_encoder(self, *, by_codes: bool) -> None:
        if self.model.config.has_ids or by_codes:
            reason = "has no codes" if by_codes else "knows its items by the rows of its weights"
            raise ValueError(
                f"this SASRec (inputs={self.model.config.inputs!r}) {reason}, so it takes no new items in this way; "
                "train with --model.inputs text, and pass texts or vectors"
            )

    def _with_appended_items(
        self,
        catalog: ItemList,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
    ) -> ItemList:
        return catalog.with_items(item_ids, vectors=vectors, titles=titles)

    def _with_updated_texts(self, catalog: ItemList, item_ids: list[str], texts: Sequence[str]) -> tuple[ItemList, int]:
        return (catalog, 0) if catalog.vectors is None else (catalog.with_vectors(item_ids, self._vectors_of(texts)), 0)
