"""A fusion as a recommender: the weighted sum of what its parts give to a candidate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import check_fields
from cost_hf.methods.fusion.options import KINDS
from cost_hf.methods.fusion.weights import check_weights, part_values, weighted_sum
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.candidates import Candidates
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.hybrid import Effects, HybridRecommender, HybridSnapshot, bare_parts
from cost_hf.recommenders.hybrid_catalog import HybridCatalog
from cost_hf.recommenders.repository import MANIFEST


class FusionRecommender(HybridRecommender):
    """Recommends by the fused lists of several recommenders.

    Args:
        parts: recommenders over the same items by name.
        weights: one a part, above 0.
        catalog: the items, with the catalogs of the parts.
        fusion: `reciprocal_rank` or `score_sum`, as in `weights.part_values`.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for all parts.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for weights, a kind of fusion or a catalog that do not fit the parts.
    """

    kind = "fusion"
    source = "fusion"

    def __init__(
        self,
        parts: Mapping[str, Recommender],
        weights: Sequence[float] | np.ndarray,
        catalog: HybridCatalog,
        *,
        fusion: str,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        check_weights(np.asarray(weights), len(parts))
        if fusion not in KINDS:
            raise ValueError(f"the kind of fusion must be one of {', '.join(KINDS)}, got {fusion!r:.80}")
        self.weights = tuple(float(weight) for weight in weights)
        self.fusion = fusion
        super().__init__(parts, catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @classmethod
    def combine(
        cls,
        parts: Mapping[str, Recommender],
        weights: Sequence[float] | np.ndarray,
        *,
        kind: str = "reciprocal_rank",
    ) -> "FusionRecommender":
        """Return the fusion of recommenders that were fitted on the same data; they stay as they are.

        Args:
            parts: recommenders by name.
            weights: one a part; parts of weight 0 are left out.
            kind: as in `weights.part_values`.

        Raises:
            ValueError: for parts of other items or with another text encoder, or weights that do not fit them.
        """
        check_weights(np.asarray(weights), len(parts))
        chosen = {name: float(weight) for name, weight in zip(parts, weights, strict=True) if weight > 0}
        inputs = bare_parts({name: parts[name] for name in chosen})
        return cls(inputs.pop("parts"), list(chosen.values()), inputs.pop("catalog"), fusion=kind, **inputs)

    def score_candidates(self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates) -> np.ndarray:
        """Return the weighted sum over the parts, `[B, C]`."""
        return weighted_sum(part_values(self.fusion, candidates), np.array(self.weights))

    def explain_candidates(
        self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates, columns: np.ndarray
    ) -> Effects:
        """Return what every part gives to the scores of candidates `[B, R]`."""
        values = part_values(self.fusion, candidates) * np.array(self.weights)  # [B, C, P]
        return Effects(list(self.parts), np.take_along_axis(values, columns[:, :, None], axis=1), 0.0)

    def _combination(self) -> list[Any]:
        return [self.fusion, list(self.weights)]

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        return super()._write_own_parts(folder) | {"fusion": self.fusion, "weights": list(self.weights)}

    @classmethod
    def _of_parts(
        cls, source: Path, manifest: dict[str, Any], parts: dict[str, Recommender], catalog_parts: dict[str, Any]
    ) -> Self:
        check_fields(manifest, {"weights": list[float | int], "fusion": str}, source=source / MANIFEST)
        catalog = catalog_parts.pop("catalog")
        return cls(parts, manifest["weights"], catalog, fusion=manifest["fusion"], **catalog_parts)
