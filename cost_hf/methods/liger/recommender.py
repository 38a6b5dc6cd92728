"""LIGER as a recommender: beams and items without a click, ranked by what the model knows of their texts.

The text vectors of all items are stored with the catalog. A new item has no click, so it is a candidate of every
request at once, whatever the generator gives its semantic ID.
"""

from functools import cached_property
from typing import Any, ClassVar

from cost_hf.generators.backbones import Backbone
from cost_hf.methods.liger.ranker import DenseIndex, LigerRanker, LigerSearch
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.text_generative import TextGenerativeRecommender, TextSnapshot
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import whole_number


class LigerSnapshot(TextSnapshot):
    """A catalog with what LIGER reads of it."""

    @cached_property
    def index(self) -> DenseIndex:
        """What the dense side needs of this catalog."""
        return DenseIndex.of(self.catalog, self.popularity, self.table, self.device)


class LigerRecommender(TextGenerativeRecommender):
    """Recommends items by LIGER; its scores are cosines of user and item over the temperature.

    A model without a dense head (`dense.weight: 0`) ranks by its beams alone, with their scores.

    Args:
        backbone: trained LIGER with its vocabulary and prompt.
        catalog: the items; with text vectors, where the model reads them.
        is_constrained: whether beams are items of the catalog only; free beams that are none are dropped.
        ranks_catalog: rank the whole catalog by cosine, without beams.
        dense_top_k: items of the whole catalog nearest by cosine that become candidates as well.
        parts: the other arguments of `TextGenerativeRecommender`; its beams become candidates, raised to `top_k` where
            that is larger.
    """

    kind = "liger"
    source = "liger"
    search_fields: ClassVar[dict[str, type]] = {"is_constrained": bool, "ranks_catalog": bool, "dense_top_k": int}
    snapshot_class = LigerSnapshot
    snapshot: LigerSnapshot

    def __init__(
        self,
        backbone: Backbone,
        catalog: Catalog,
        *,
        is_constrained: bool = True,
        ranks_catalog: bool = False,
        dense_top_k: int = 0,
        **parts: Any,
    ):
        if (ranks_catalog or dense_top_k) and not backbone.model.config.has_dense_head:
            raise ValueError(
                f"ranks_catalog={ranks_catalog!r} and dense_top_k={dense_top_k!r} rank by a dense head, and the model "
                "has none; leave them out"
            )
        whole_number(dense_top_k, "dense_top_k", least=0)
        self.is_constrained = is_constrained
        self.ranks_catalog = ranks_catalog
        self.dense_top_k = dense_top_k
        super().__init__(backbone, catalog, **parts)

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> LigerRanker:  # type: ignore[override]
        """Return the ranker of the present (or the given) snapshot, with at least `top_k` beams."""
        at = snapshot if isinstance(snapshot, LigerSnapshot) else self.snapshot
        search = LigerSearch(
            num_beams=max(self.num_beams, top_k),
            is_constrained=self.is_constrained,
            ranks_catalog=self.ranks_catalog,
            dense_top_k=self.dense_top_k,
            normalization=self.normalization,
        )
        return LigerRanker(self.generator, at.prompts, at.trie, at.index, search)
