"""A generator as a ranker: constrained beam search over the catalog."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.rankers import Ranking
from cost_hf.search.beam_search import beam_search
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.options import ranked_number
from cost_hf.semantic_ids.trie import SidTrie


class BeamRanker:
    """Ranks catalog items by constrained beam search; a `Ranker`.

    Args:
        generator: the model, on its own device, in eval mode.
        prompts: histories as tokens, for this generator and catalog.
        trie: the legal SIDs.
        num_beams: beams, and so the longest list.
        normalization: of the scores, as for `beam_search`.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        prompts: PromptBuilder,
        trie: SidTrie,
        *,
        num_beams: int,
        normalization: str = "vocabulary",
    ):
        self.generator = generator
        self.prompts = prompts
        self.num_beams = num_beams
        self.normalization = normalization
        self.trie = trie.to(generator.device)

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `min(top_k, num_beams)` items of every history `[B, T]` (-1 pads on the right)."""
        top_k = ranked_number(top_k, "top_k", self.trie.num_items)
        device = self.generator.device
        input_ids, attention_mask = (part.to(device) for part in self.prompts.inputs(histories, user_ids=user_ids))
        found = beam_search(
            self.generator,
            input_ids,
            attention_mask,
            trie=self.trie,
            vocabulary=self.prompts.vocabulary,
            num_beams=self.num_beams,
            mask=mask,
            normalization=self.normalization,
        )
        return Ranking(found.items[:, :top_k].cpu(), found.scores[:, :top_k].cpu())
