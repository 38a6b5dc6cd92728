"""A generator as a ranker: constrained beam search over the catalog."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

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
        is_exact: whether the search widens until a list is proved to be the best of the catalog, or its budget is
            spent; lists are then of any length, and `num_beams` has no effect.
        names_items: give the generator's `embed_prompt` the catalog row of every token (`item_rows` `[B, S]`, -1 where
            there is none) and `item_table`.
        item_table: what the generator made of the vectors of the catalog's items, `[N, D]`; None where it reads none.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        prompts: PromptBuilder,
        trie: SidTrie,
        *,
        num_beams: int,
        normalization: str = "vocabulary",
        is_exact: bool = False,
        names_items: bool = False,
        item_table: Tensor | None = None,
    ):
        self.generator = generator
        self.prompts = prompts
        self.num_beams = num_beams
        self.normalization = normalization
        self.is_exact = is_exact
        self.names_items = names_items
        self.item_table = item_table
        self.trie = trie.to(generator.device)

    def exact(self) -> Self:
        """Return the ranker whose searches are exact."""
        ranker = copy(self)
        ranker.is_exact = True
        return ranker

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `min(top_k, num_beams)` items of every history `[B, T]` (-1 pads on the right).

        The `certificate` counts the positions that are proved.
        """
        top_k = ranked_number(top_k, "top_k", self.trie.num_items)
        device = self.generator.device
        parts = self.prompts.inputs_with_items(histories, user_ids=user_ids)
        input_ids, attention_mask, item_rows = (part.to(device) for part in parts)
        found = beam_search(
            self.generator,
            input_ids,
            attention_mask,
            trie=self.trie,
            vocabulary=self.prompts.vocabulary,
            num_beams=top_k if self.is_exact else self.num_beams,
            mask=mask,
            normalization=self.normalization,
            model_kwargs=self._model_kwargs(histories, item_rows),
            exact=self.is_exact,
        )
        certificate = None if found.certificate is None else found.certificate.cut(top_k)
        return Ranking(found.items[:, :top_k].cpu(), found.scores[:, :top_k].cpu(), certificate)

    def _model_kwargs(self, histories: Tensor, item_rows: Tensor) -> Mapping[str, Any] | None:
        """Return what the generator reads of requests beside their tokens.

        Args:
            histories: `[B, T]`, whole ones.
            item_rows: catalog row of every token, `[B, S]`, on the device of the generator.
        """
        return {"item_rows": item_rows, "item_table": self.item_table} if self.names_items else None
