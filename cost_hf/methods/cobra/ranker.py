"""COBRA as a ranker: the items of M beams, by the probability of their beam and the cosine of their dense vector.

BeamFusion of arXiv 2503.02453: each beam gives a dense vector, which is compared with those of the items that have the
semantic ID of the beam.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.rankers import Ranking
from cost_hf.recommenders.text_generative import ItemTable
from cost_hf.search.beam_search import beam_search
from cost_hf.search.leaf_search import LeafBeams, leaf_search
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.options import ranked_number
from cost_hf.semantic_ids.trie import SidTrie


@dataclass(frozen=True)
class BeamFusion:
    """How the items of the beams are found and ranked.

    Attributes:
        num_beams: M.
        tau: factor on the log-probabilities of beams.
        psi: factor on the cosines of dense vectors.
        items_per_leaf: N, items of a semantic ID that become candidates, nearest by cosine first.
        domain: candidates that the softmax of the cosines is over: those of one `leaf`, or `all` of a request.
        normalization: of the beams' log-probabilities, as for `beam_search`.
    """

    num_beams: int = 20
    tau: float = 0.9
    psi: float = 16.0
    items_per_leaf: int = 50
    domain: str = "leaf"
    normalization: str = "vocabulary"

    def log_scores(self, beams: Tensor, cosines: Tensor, present: Tensor) -> Tensor:
        """Return log softmax(tau · log p_k) + log softmax(psi · cos_ka) for the items a of beams k, `[B, M, m]`.

        The first softmax is over the M beams. Where `present` is False the result is -inf.

        Args:
            beams: log-probabilities, `[B, M]`, -inf where there is no beam.
            cosines: of the items of every beam, `[B, M, m]`.
            present: which of them are candidates, bool `[B, M, m]`.
        """
        by_beam = _log_softmax(self.tau * beams.masked_fill(~beams.isfinite(), 0.0), beams.isfinite())
        scaled = self.psi * cosines
        if self.domain == "leaf":
            by_item = _log_softmax(scaled, present)
        else:
            by_item = _log_softmax(scaled.flatten(1), present.flatten(1)).view_as(scaled)
        return (by_beam[..., None] + by_item).masked_fill(~present, -torch.inf)


class CobraRanker:
    """Ranks the items of the beams by BeamFusion; a `Ranker`.

    A model without a dense head returns its beams, with their log-probabilities.

    Args:
        generator: a COBRA, in eval mode, used on its own device.
        prompts: layout of histories for this generator and catalog.
        trie: the legal SIDs.
        table: dense vectors of the catalog; None for a model that reads no texts.
        tie_rank: rank of every row among equal scores, int64 `[N]`.
        fusion: how items are found and ranked.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        prompts: PromptBuilder,
        trie: SidTrie,
        table: ItemTable | None,
        tie_rank: Tensor,
        fusion: BeamFusion,
    ):
        self.generator = generator
        self.prompts = prompts
        self.fusion = fusion
        self.trie = trie.to(generator.device)
        self.table = table
        self.tie_rank = tie_rank

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best items of the beams of every history `[B, T]` (-1 pads on the right).

        Lists are shorter than `top_k` where the beams have fewer items.
        """
        top_k = ranked_number(top_k, "top_k", self.trie.num_items)
        device = self.generator.device
        parts = self.prompts.inputs_with_items(histories, user_ids=user_ids)
        input_ids, attention_mask, item_rows = (part.to(device) for part in parts)
        search: dict[str, Any] = {
            "trie": self.trie,
            "vocabulary": self.prompts.vocabulary,
            "num_beams": self.fusion.num_beams,
            "mask": mask,
            "normalization": self.fusion.normalization,
            "model_kwargs": {"item_rows": item_rows, "item_table": None if self.table is None else self.table.rows},
        }
        if not self.generator.config.has_dense_head:
            found = beam_search(self.generator, input_ids, attention_mask, **search)
            return Ranking(found.items[:, :top_k].cpu(), found.scores[:, :top_k].cpu())
        with torch.inference_mode():
            items, scores = self._fused(leaf_search(self.generator, input_ids, attention_mask, **search), top_k)
        return Ranking(items.cpu().clone(), scores.cpu().clone())

    def _fused(self, beams: LeafBeams, top_k: int) -> tuple[Tensor, Tensor]:
        """Return the best items and their scores, `[B, min(top_k, candidates)]`."""
        cosines, present = self._nearest(beams)
        scores = self.fusion.log_scores(beams.scores, cosines, present).flatten(1)
        rows = beams.rows.flatten(1)
        order = self.tie_rank[rows].argsort(dim=1)
        rows = rows.gather(1, order)
        scores = scores.gather(1, order)
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        rows = rows.gather(1, best)
        scores = scores.gather(1, best)
        return rows.masked_fill(scores == -torch.inf, -1), scores

    def _nearest(self, beams: LeafBeams) -> tuple[Tensor, Tensor]:
        """Return the cosines of the items of every beam, and which are among its N nearest, `[B, M, m]` each.

        Equal cosines keep the order of the trie, which is that of training clicks.
        """
        if self.table is None:
            raise ValueError("dense vectors of items are compared, and the ranker was given none; pass their table")
        queries = functional.normalize(beams.states.float(), dim=-1)
        # pairs alone: a large leaf beside many small ones would make a large padded table of vectors
        pairs = beams.present.nonzero()
        vectors = self.table.targets[beams.rows[beams.present]]
        cosines = torch.zeros(beams.rows.shape, device=queries.device)
        cosines[beams.present] = torch.linalg.vecdot(queries[pairs[:, 0], pairs[:, 1]], vectors)
        if beams.rows.shape[-1] <= self.fusion.items_per_leaf:
            return cosines, beams.present
        order = cosines.masked_fill(~beams.present, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        is_near = order.argsort(dim=-1) < self.fusion.items_per_leaf
        return cosines, beams.present & is_near


def _log_softmax(values: Tensor, present: Tensor) -> Tensor:
    """Return the log-softmax over the last dimension of the values that are present, -inf for the others."""
    lowest = torch.finfo(values.dtype).min
    return values.masked_fill(~present, lowest).log_softmax(-1).masked_fill(~present, -torch.inf)
