"""The generative recommender: a generator, its catalog and its vocabulary, back from one load."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from cost_hf.recommender.beam_ranker import BeamRanker
from cost_hf.recommender.bundle import PROTOCOL, read_bundle, write_bundle
from cost_hf.recommender.door import BaseRecommender
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.search.level_head import check_normalization
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


class Recommender(BaseRecommender):
    """Recommends catalog items by constrained generation of semantic IDs.

    Args:
        generator: causal or seq2seq model trained on the catalog's SIDs.
        catalog: the items.
        vocabulary: token ids of the SIDs.
        popularity: training clicks of every catalog row, `[N]`; answers empty histories and orders items of one SID.
        max_history: most recent items in the prompt.
        num_beams: beams of the search, raised to `top_k` where that is larger.
        normalization: of its scores, as for `beam_search`.
        tokenizer: of a pretrained backbone; saved beside the generator.
    """

    source = "generator"
    catalog: Catalog

    def __init__(
        self,
        generator: PreTrainedModel,
        catalog: Catalog,
        vocabulary: SidVocabulary,
        *,
        popularity: np.ndarray,
        max_history: int,
        num_beams: int = 50,
        normalization: str = "vocabulary",
        tokenizer: Any = None,
    ):
        if len(popularity) != len(catalog) or vocabulary.level_sizes != catalog.level_sizes:
            raise ValueError(
                f"popularity and vocabulary must fit the catalog of {len(catalog)} items and levels "
                f"{catalog.level_sizes}, got {len(popularity)} counts and levels {vocabulary.level_sizes}; "
                "take all of them from one run"
            )
        check_normalization(normalization)
        super().__init__(catalog, popularity=popularity)
        self.generator, self.vocabulary, self.tokenizer = generator.eval(), vocabulary, tokenizer
        self.max_history, self.num_beams, self.normalization = max_history, num_beams, normalization
        self.trie = SidTrie.from_catalog(catalog, popularity=self.popularity)
        self.needs_user_ids = vocabulary.num_user_tokens > 0
        self.prompts = PromptBuilder.for_catalog(
            catalog, vocabulary, is_causal=not generator.config.is_encoder_decoder, max_history=max_history
        )

    def to(self, device: torch.device | str) -> "Recommender":
        """Move the generator to a device, in place; answers are the same but for rounding."""
        self.generator.to(device)
        return self

    @property
    def sid_keys(self) -> np.ndarray:
        """Number of each row's group of equal model-level codes, `[N]`."""
        return self.catalog.sid_keys

    @property
    def network(self) -> PreTrainedModel:
        """The generator."""
        return self.generator

    def ranker_for(self, top_k: int) -> BeamRanker:
        """Return the beam search over this catalog, with at least `top_k` beams."""
        return BeamRanker(
            self.generator,
            self.prompts,
            self.trie,
            num_beams=max(self.num_beams, top_k),
            normalization=self.normalization,
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the whole recommender into `directory`."""
        write_bundle(
            directory,
            generator=self.generator,
            tokenizer=self.tokenizer,
            catalog=self.catalog,
            vocabulary=self.vocabulary,
            popularity=self.popularity,
            protocol={name: getattr(self, name) for name in PROTOCOL},
        )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> "Recommender":
        """Load a recommender from a run directory, a recommender directory or a Hub id.

        Raises:
            ValueError: where a part does not belong to the others; both digests are named.
            OSError: where nothing is found.
        """
        bundle = read_bundle(name_or_path)
        return cls(
            bundle.generator,
            bundle.catalog,
            bundle.vocabulary,
            popularity=bundle.popularity,
            tokenizer=bundle.tokenizer,
            **bundle.protocol,
        )
