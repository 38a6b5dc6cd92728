"""ACERec as a recommender: the whole catalog is scored by looking up the digits of its items.

A catalog is one table of digits, 4 bytes each, beside the weights: no vector of an item is stored, and those of a
history are computed with the request. New items have digits by the quantizer and can be recommended at once.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import check_fields
from cost_hf.methods.acerec.modeling_acerec import AceRecModel
from cost_hf.model_files import load_all_weights
from cost_hf.quantizers.base import Quantizer
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.coded import SidRecommender
from cost_hf.recommenders.dense import ModelRecommender
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.recommenders.repository import MANIFEST, QUANTIZER, WEIGHT_FILES, check_parts, read_catalog_parts
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.vocabulary import SidVocabulary


class DigitScorer:
    """Scores the whole catalog by the log-probabilities of its items' digits; a `Scorer`.

    Args:
        model: in eval mode.
        codes: digits of the catalog, int64 `[N, m]`.
    """

    def __init__(self, model: AceRecModel, codes: np.ndarray):
        self.model = model
        self.item_tokens = model.item_tokens(torch.from_numpy(codes.copy()))

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return scores, float32 `[B, N]`, of histories `[B, T]` (catalog rows, oldest first, -1 pads on the right)."""
        with torch.inference_mode():
            rows = torch.from_numpy(histories).to(self.model.device)
            return self.model.scores(rows, self.item_tokens).cpu().numpy()


class DigitSnapshot(CatalogSnapshot):
    """A catalog with the table of digits that scoring reads, and the ranking by it."""

    def __init__(self, catalog: Catalog, clicks: np.ndarray, model: AceRecModel):
        super().__init__(catalog, clicks)
        self.scorer = DigitScorer(model, catalog.codes)

    @cached_property
    def ranker(self) -> ScoringRanker:
        """The ranking of the whole catalog, ties by popularity and then by id; it sorts the ids, so it is made once."""
        return ScoringRanker(self.scorer, popularity=self.popularity, item_ids=self.catalog.item_ids)


class AceRecRecommender(ModelRecommender, SidRecommender):
    """Recommends catalog items by the log-probabilities that ACERec gives to their digits.

    The latest `max_history` items are read. An empty history scores all items 0, so that popularity decides, as it does
    among items with the same digits.

    Args:
        model: trained on codes of the catalog's quantizer.
        catalog: the items; their codes collide where they do (`collisions="none"`), since no search needs them to
            differ.
        popularity: training clicks of every catalog row, `[N]`.
        quantizer: gives vectors their codes; None for codes that came without a model.
        encoder: gives texts their vectors.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for a model of other codes than the catalog's.
    """

    kind = "acerec"
    source = "acerec"
    published_files = rf"{WEIGHT_FILES}|{QUANTIZER}/({WEIGHT_FILES})"
    snapshot: DigitSnapshot

    def __init__(
        self,
        model: AceRecModel,
        catalog: Catalog,
        *,
        popularity: np.ndarray,
        quantizer: Quantizer | None = None,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        learned = model.config.assignment_digest
        if model.config.level_sizes != catalog.level_sizes or learned not in (None, catalog.quantizer_digest):
            raise ValueError(
                f"the model has learned codes of levels {model.config.level_sizes!r:.80} with assignment digest "
                f"{learned}, the catalog has {catalog.level_sizes!r:.80} with {catalog.quantizer_digest}; take both "
                "from one run"
            )
        self.model = model.eval()
        super().__init__(
            catalog,
            popularity=popularity,
            vocabulary=SidVocabulary.for_catalog(catalog),
            quantizer=quantizer,
            encoder=encoder,
            journal=journal,
            versions=versions,
        )

    @property
    def identity(self) -> dict[str, str]:
        """The digest that ties the codes of the catalog to the weights."""
        return {"assignment_digest": self.catalog.quantizer_digest}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> ScoringRanker:
        """Return the ranking of the whole catalog; any length is possible."""
        return snapshot.ranker if isinstance(snapshot, DigitSnapshot) else self.snapshot.ranker

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        self._write_quantizer(folder)
        self.model.config.assignment_digest = self.catalog.quantizer_digest
        self.model.save_pretrained(folder)
        return {}

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> Self:
        check_fields(manifest, {"assignment_digest": str}, source=source / MANIFEST)
        parts = read_catalog_parts(source, manifest, Catalog)
        model = load_all_weights("the model", source, AceRecModel.from_pretrained)
        quantizer = cls._read_quantizer(source)
        assigned = [
            ("the assignment of the catalog", parts["catalog"].quantizer_digest),
            ("the assignment that the model learned", model.config.assignment_digest),
        ]
        if quantizer is not None:
            assigned.append(("the quantizer", assignment_digest(quantizer)))
        check_parts(source, [(*part, manifest["assignment_digest"]) for part in assigned])
        return cls(model, quantizer=quantizer, **parts)

    def _snapshot_of(self, catalog: Catalog) -> DigitSnapshot:
        return DigitSnapshot(catalog, self._clicks, self.model)
