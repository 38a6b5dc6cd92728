"""A counted scorer as a recommender: saved, served and published like a trained one.

Counts know their items by row, so a digest of both ties them to the catalog. Scorers of texts take new items by their
vectors; counting ones append them without counts, so they stand after all items with any evidence until clicks on them
are counted (`update_from`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.numpy import save_file

from cost_hf.data.encoders import ItemEncoder
from cost_hf.evaluation.sequences import click_counts
from cost_hf.files import DamagedFileError, check_fields, content_digest, read_tensors
from cost_hf.methods.counting.counting import BASELINES, COUNTED, TEXTUAL, add_clicks, build_scorer
from cost_hf.recommenders.base import Recommender, checked_device
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.new_clicks import NewClicks
from cost_hf.recommenders.rankers import Scorer, ScoringRanker
from cost_hf.recommenders.repository import MANIFEST, check_parts, read_catalog_parts
from cost_hf.semantic_ids.item_list import ItemList

TABLES = "model.safetensors"
TABLES_FORMAT = 2  # 2: whole numbers, so that more clicks can be added


class CountingSnapshot(CatalogSnapshot):
    """A catalog with the scorer of its rows, and the ranking by it."""

    def __init__(self, catalog: ItemList, clicks: np.ndarray, scorer: Scorer):
        super().__init__(catalog, clicks)
        self.scorer = scorer

    @cached_property
    def ranker(self) -> ScoringRanker:
        """The ranking of the whole catalog; it sorts the ids, so it is made once."""
        return ScoringRanker(self.scorer, popularity=self.popularity, item_ids=self.catalog.item_ids)


class CountingRecommender(Recommender):
    """Recommends catalog items by a scorer that was counted, not trained.

    Args:
        scorer: name of the scorer, one of `counting.BASELINES`.
        tables: its counts over the first rows of `catalog`, as `counting.fit_tables` returns them.
        catalog: the items; with their text vectors, for scorers that read these.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for scorers that read these.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for tables or vectors that do not fit the scorer or the catalog.
    """

    kind = "counting"
    source = "counting"
    takes_clicks = True
    published_files: ClassVar[str] = r"model\.safetensors"
    snapshot: CountingSnapshot

    def __init__(
        self,
        scorer: str,
        tables: Mapping[str, np.ndarray],
        catalog: ItemList,
        *,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        if len(popularity) != len(catalog):
            raise ValueError(
                f"popularity must hold one count for each of the {len(catalog)} items, got {len(popularity)}; take "
                "both from one run"
            )
        self.scorer_name = scorer
        self.tables = dict(tables)
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    def to(self, device: torch.device | str) -> Self:
        """Return the recommender as it is; counts stay on the CPU.

        Raises:
            ValueError: for a device that is not there.
        """
        checked_device(device)
        return self

    @property
    def network(self) -> None:
        """None: nothing was trained."""
        return None

    @property
    def needs_vectors(self) -> bool:
        """Whether the scorer reads text vectors."""
        return self.scorer_name in TEXTUAL

    @property
    def identity(self) -> dict[str, str]:
        """The digest that ties the counted items to the counts."""
        counted = list(self.catalog.item_ids[: len(self.tables.get("counts", ()))])
        arrays = [part for name in sorted(self.tables) for part in (name, self.tables[name])]
        return {"tables_digest": content_digest("cost_hf.counting.2", self.scorer_name, counted, *arrays)}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> ScoringRanker:
        """Return the ranking of the whole catalog; any length is possible."""
        return snapshot.ranker if isinstance(snapshot, CountingSnapshot) else self.snapshot.ranker

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        if self.tables:
            arrays = {name: np.ascontiguousarray(table) for name, table in self.tables.items()}
            save_file(arrays, folder / TABLES)
        return {"scorer": self.scorer_name, "tables_format": TABLES_FORMAT}

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> Self:
        if manifest.get("tables_format", 1) != TABLES_FORMAT:
            raise ValueError(
                f"{source / MANIFEST}: the counts have format {manifest.get('tables_format', 1)!r}, this version reads "
                f"{TABLES_FORMAT}; use the cost_hf release that wrote them, or train again, which takes seconds"
            )
        check_fields(manifest, {"scorer": str, "tables_digest": str}, source=source / MANIFEST)
        scorer = manifest["scorer"]
        if scorer not in BASELINES:
            raise DamagedFileError(
                f"{source / MANIFEST} has scorer={scorer!r:.80}, expected one of {', '.join(BASELINES)}; use the "
                "cost_hf release that wrote it"
            )
        parts = read_catalog_parts(source, manifest, ItemList)
        tables = read_tensors(source / TABLES) if scorer in COUNTED else {}
        try:
            recommender = cls(scorer, tables, **parts)
        except (ValueError, TypeError, IndexError) as error:  # also of tables with other dimensions
            raise DamagedFileError(f"{source / TABLES} does not fit the recommender: {error}") from error
        found = recommender.identity["tables_digest"]
        check_parts(source, [("the counts and their items", found, manifest["tables_digest"])])
        return recommender

    def _snapshot_of(self, catalog: Any) -> CountingSnapshot:
        counted = max(len(self.tables.get("counts", ())), len(np.trim_zeros(self._clicks, "b")))
        if counted > len(catalog):
            raise ValueError(
                f"clicks were counted for {counted} items, so a catalog of {len(catalog)} lacks some of them; remove "
                "items by remove_items, which keeps their counts"
            )
        scorer = build_scorer(self.scorer_name, self.tables, len(catalog), vectors=catalog.vectors)
        return CountingSnapshot(catalog, self._clicks, scorer)

    def _add_clicks(self, new: NewClicks) -> None:
        is_short = self.popularity < click_counts(new.earlier, num_items=len(self.catalog))
        if is_short.any():
            raise ValueError(
                "expected clicks that were counted before to be in the counts, got more of item "
                f"{self.catalog.item_ids[int(is_short.argmax())]!r} than were counted ({int(is_short.sum())} such "
                "items); correct counted, or leave it out for users who were not counted"
            )
        clicks = self.popularity + new.clicks_of_items(len(self.catalog))
        tables = add_clicks(self.scorer_name, self.tables, new, len(self.catalog))
        scorer = build_scorer(self.scorer_name, tables, len(self.catalog), vectors=self.catalog.vectors)
        snapshot = CountingSnapshot(self.catalog, clicks, scorer)
        self.tables = tables
        self._clicks = clicks
        self.snapshot = snapshot

    def _require_encoder(self, *, by_codes: bool) -> None:
        if by_codes:
            raise ValueError(f"{self.scorer_name} has no codes, so it takes no items by them; pass texts or vectors")

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
