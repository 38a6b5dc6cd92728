"""GLASS as a recommender: requests bring whole histories, of which the prompt holds the most recent items.

Item vectors are stored with the catalog, where the model reads any. A new item has its tiers at once, from its text;
the prototypes are those of the training.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from cost_hf.generators.backbones import Backbone
from cost_hf.methods.glass.ranker import GlassRanker
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.text_generative import TextGenerativeRecommender, TextSnapshot
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import MAX_HISTORY, whole_number


class GlassRecommender(TextGenerativeRecommender):
    """Recommends items by GLASS; its scores are log-probabilities of beams.

    Args:
        backbone: trained model with its vocabulary and prompt.
        catalog: the items; with vectors, where the model reads them.
        long_history: most recent items of a history that are read at all.
        parts: the other arguments of `TextGenerativeRecommender`.
    """

    kind = "glass"
    source = "glass"
    search_fields: ClassVar[dict[str, type]] = {"long_history": int}

    def __init__(self, backbone: Backbone, catalog: Catalog, *, long_history: int = 1000, **parts: Any):
        self.long_history = whole_number(long_history, "long_history", most=MAX_HISTORY)
        super().__init__(backbone, catalog, **parts)

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> GlassRanker:
        """Return the ranker of the present (or the given) snapshot, with at least `top_k` beams."""
        at = snapshot if isinstance(snapshot, TextSnapshot) else self.snapshot
        return GlassRanker(
            self.generator,
            at.prompts,
            at.trie,
            long_history=self.long_history,
            item_tiers=None if at.table is None else at.table.rows,
            num_beams=max(self.num_beams, top_k),
            normalization=self.normalization,
        )

    def prompt_inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return histories as embedded prompts for `generate()`, with the items by which the decoder is retrieved."""
        ids, attention_mask = self.prompts.inputs(histories, user_ids=user_ids)
        input_ids = ids.to(self.generator.device)
        found = self.ranker_for(1).history_inputs(histories)
        with torch.inference_mode():
            embeds = self.generator.embed_prompt(input_ids, **found)
        found.pop("tier_features", None)
        return {"inputs_embeds": embeds, "attention_mask": attention_mask.to(self.generator.device), **found}
