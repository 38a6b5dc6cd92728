"""A learned ranker as a recommender: boosted trees over what the parts and the catalog say of a candidate."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import save_file

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import DamagedFileError, check_fields, read_object, read_tensors, write_json
from cost_hf.methods.ranker.booster import contributions, model_names, predict, read_booster
from cost_hf.methods.ranker.features import TREND, ItemFacts, ItemTable, candidate_features, feature_names
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.candidates import Candidates
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.hybrid import Effects, HybridRecommender, HybridSnapshot, bare_parts, text_vectors_of
from cost_hf.recommenders.hybrid_catalog import HybridCatalog
from cost_hf.recommenders.repository import MANIFEST

MODEL = "ranker.txt"  # in LightGBM's text format
ITEMS = "items.safetensors"  # the trend of the training items
CATEGORIES = "categories.json"  # texts of the categories of every column that has some


class RankerSnapshot(HybridSnapshot):
    """A catalog with the snapshots of the parts, and what features are made from."""

    of_columns = ("facts",)

    def __init__(
        self,
        catalog: HybridCatalog,
        clicks: np.ndarray,
        parts: Mapping[str, Any],
        *,
        vectors: np.ndarray | None,
        table: ItemTable,
    ):
        super().__init__(catalog, clicks, parts)
        self.vectors = vectors
        self.table = table

    @cached_property
    def facts(self) -> ItemFacts:
        """What the features of this catalog are made from."""
        return replace(self._facts_without_columns, table=self.table.at(self.catalog.columns, len(self.catalog)))

    @cached_property
    def _facts_without_columns(self) -> ItemFacts:
        return ItemFacts.of(self.catalog, self.vectors, self.popularity, self.table)


class RankerRecommender(HybridRecommender):
    """Recommends by boosted trees over the candidates of several recommenders.

    Args:
        parts: recommenders over the same items by name.
        model: the trees, in LightGBM's text format.
        catalog: the items, with the catalogs of the parts.
        table: what features know of the items; its columns are those of the catalog, whatever their values are now.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for all parts.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for a model of other features, or a catalog of other parts.
    """

    kind = "ranker"
    source = "ranker"
    packages = ("lightgbm>=4.5",)
    published_files: ClassVar[str] = (
        rf"{HybridRecommender.published_files}|ranker\.txt|items\.safetensors|categories\.json"
    )
    snapshot: RankerSnapshot

    def __init__(
        self,
        parts: Mapping[str, Recommender],
        model: str,
        catalog: HybridCatalog,
        *,
        table: ItemTable,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        self.model = model
        self.booster = read_booster(model)
        self.table = table
        super().__init__(parts, catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)
        expected = model_names(self.features)
        found = self.booster.feature_name()
        if found != expected:
            raise ValueError(f"the model reads the features {found}, these parts and this catalog give {expected}")

    @classmethod
    def combine(cls, parts: Mapping[str, Recommender], model: str, table: ItemTable) -> "RankerRecommender":
        """Return the ranker of recommenders that were fitted on the same data; they stay as they are.

        Args:
            parts: recommenders by name.
            model: trained on their candidates, in LightGBM's text format.
            table: what its features know of the items.
        """
        inputs = bare_parts(parts)
        return cls(inputs.pop("parts"), model, inputs.pop("catalog"), table=table, **inputs)

    def with_table(self, table: ItemTable) -> Self:
        """Return the ranker of the same trees and parts with another table of what features know of the items."""
        other = copy.copy(self)
        other.table = table
        other.snapshot = other._snapshot_of(self.catalog)
        return other

    @property
    def reads_columns(self) -> bool:
        """Whether features are made from columns of the catalog."""
        return any(name != TREND for name in self.table.columns)

    @property
    def features(self) -> list[str]:
        """Names of the features, in the order of the model."""
        return feature_names(list(self.parts), self.snapshot.facts)

    def score_candidates(self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates) -> np.ndarray:
        """Return the scores of the trees, `[B, C]`."""
        return score_by(self.booster, self._facts_of(snapshot), histories, candidates)

    def explain_candidates(
        self, snapshot: HybridSnapshot, histories: np.ndarray, candidates: Candidates, columns: np.ndarray
    ) -> Effects:
        """Return the SHAP values of every feature for candidates `[B, R]`."""
        facts = self._facts_of(snapshot)
        features = candidate_features(histories, candidates, facts)
        chosen = np.take_along_axis(features, columns[:, :, None], axis=1)  # [B, R, F]
        values = contributions(self.booster, chosen.reshape(-1, chosen.shape[2])).reshape(*columns.shape, -1)
        base_value = float(values[0, 0, -1]) if values.size else 0.0  # the same for all
        return Effects(feature_names(list(self.parts), facts), values[:, :, :-1], base_value)

    def _facts_of(self, snapshot: HybridSnapshot) -> ItemFacts:
        return snapshot.facts if isinstance(snapshot, RankerSnapshot) else self.snapshot.facts

    def _snapshot_of(self, catalog: Any) -> RankerSnapshot:
        parts = {name: part._snapshot_of(catalog.parts[name]) for name, part in self.parts.items()}
        vectors = text_vectors_of(self.parts, catalog)
        return RankerSnapshot(catalog, self._clicks, parts, vectors=vectors, table=self.table)

    def _combination(self) -> list[Any]:
        values = {name: list(texts) for name, texts in self.table.values.items()}
        trend = [self.table.columns[TREND]] if TREND in self.table.columns else []
        return [self.model, list(self.table.columns), values, *trend]

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        (folder / MODEL).write_text(self.model, encoding="utf-8")
        if TREND in self.table.columns:
            save_file({TREND: np.ascontiguousarray(self.table.columns[TREND])}, folder / ITEMS)
        write_json(folder / CATEGORIES, {name: list(texts) for name, texts in self.table.values.items()})
        return super()._write_own_parts(folder) | {"columns": list(self.table.columns)}

    @classmethod
    def _of_parts(
        cls, source: Path, manifest: dict[str, Any], parts: dict[str, Recommender], catalog_parts: dict[str, Any]
    ) -> Self:
        check_fields(manifest, {"columns": list[str]}, source=source / MANIFEST)
        tensors = read_tensors(source / ITEMS) if TREND in manifest["columns"] else {}
        if set(tensors) != {TREND} & set(manifest["columns"]):
            raise DamagedFileError(f"{source / ITEMS} holds {sorted(tensors)}, expected {TREND}; copy it again")
        values = read_object(source / CATEGORIES)
        check_fields(values, {name: list[str] for name in values}, source=source / CATEGORIES)
        if not set(values) <= set(manifest["columns"]):
            raise DamagedFileError(
                f"{source / CATEGORIES} has categories of {sorted(values)}, expected some of "
                f"{sorted(manifest['columns'])}; copy it again"
            )
        categories = tuple(name for name in manifest["columns"] if name in values)
        unknown = np.empty(0)  # of the catalog, which is read for every state of it
        table = ItemTable(
            {name: tensors.get(name, unknown) for name in manifest["columns"]},
            categories,
            {name: tuple(values[name]) for name in categories},
        )
        model = (source / MODEL).read_text(encoding="utf-8")
        return cls(parts, model, catalog_parts.pop("catalog"), table=table, **catalog_parts)


def score_by(booster: Any, facts: ItemFacts, histories: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Return the scores of a booster for candidates, float64 `[B, C]`, 0 for padding."""
    is_item = candidates.items >= 0
    scores = np.zeros(is_item.shape)
    if is_item.any():
        scores[is_item] = predict(booster, candidate_features(histories, candidates, facts)[is_item])
    return scores
