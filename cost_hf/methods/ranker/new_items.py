"""Items of the training that stand in as new ones, so that trees learn what the parts say of a new item.

Nearly all candidates of the training cases have training clicks, so what trees learn of items without any rests on few
ones, which nobody wanted. Here copies of some items are added to the parts as new items are, by their vectors, and
stand for the originals, in histories too: they have no counts, and no semantic ID that a generator was trained on. A
model that reads texts was trained on those of the originals, which is more than it knows of a new item.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from cost_hf.methods.ranker.features import ItemFacts, ItemTable
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.hybrid import bare_parts, text_vectors_of
from cost_hf.recommenders.hybrid_catalog import HybridCatalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask

MARK = "copy of "


@dataclass(frozen=True, eq=False)
class TrainingCatalog:
    """A state of the catalog in which cases are ranked.

    Attributes:
        parts: recommenders over it by name.
        facts: of its items.
        rows: row of every item of the data, int64 `[N]`.
        mask: items that may be listed; None for all.
    """

    parts: Mapping[str, Recommender]
    facts: ItemFacts
    rows: np.ndarray
    mask: CatalogMask | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Recommender], table: ItemTable) -> "TrainingCatalog":
        """Return the catalog that the parts were fitted on."""
        inputs = bare_parts(parts)
        vectors = text_vectors_of(inputs["parts"], inputs["catalog"])
        facts = ItemFacts.of(inputs["catalog"], vectors, inputs["popularity"], table)
        return cls(inputs["parts"], facts, np.arange(len(inputs["catalog"])))

    def with_new_items(self, share: float, vectors: np.ndarray, *, seed: int) -> "TrainingCatalog":
        """Return the catalog in which copies stand for a random share of the clicked items.

        A part that takes no new items lists neither the copies nor the originals.

        Args:
            share: of the items with training clicks.
            vectors: item text vectors, `[N, E]`.
            seed: of the draw.

        Raises:
            ValueError: where no part takes new items.
        """
        growing = [name for name, part in self.parts.items() if "vectors" in part.new_item_inputs]
        if not growing:
            raise ValueError(
                f"ranker.new_item_share needs a part that takes new items, and none of {', '.join(self.parts)} does; "
                "set it to 0"
            )
        clicked = np.flatnonzero(self.facts.clicks)
        drawn = np.random.default_rng(seed).choice(clicked, round(share * len(clicked)), replace=False)
        item_ids = next(iter(self.parts.values())).catalog.item_ids
        mark = MARK
        while any(item_id.startswith(mark) for item_id in item_ids):
            mark += MARK
        copies = [mark + item_ids[row] for row in drawn]
        parts = {}
        for name, part in self.parts.items():
            parts[name] = part.with_catalog(part.catalog)
            if name in growing:
                parts[name].add_items(copies, vectors=vectors[drawn])
        catalog = HybridCatalog.of({name: part.catalog for name, part in parts.items()})
        rows = self.rows.copy()
        rows[drawn] = catalog.rows_of(copies)
        is_allowed = torch.ones(len(catalog), dtype=torch.bool)
        is_allowed[torch.from_numpy(drawn)] = False
        clicks = np.concatenate([self.facts.clicks, np.zeros(len(catalog) - len(item_ids), dtype=np.int64)])
        facts = ItemFacts.of(catalog, text_vectors_of(parts, catalog), clicks, self.facts.table)
        return TrainingCatalog(parts, facts, rows, CatalogMask(len(catalog), is_allowed))
