"""The generative recommender: generator, catalog, vocabulary, quantizer and text encoder, back from one load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import PreTrainedModel

from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.pretrained import BaseModel
from cost_hf.generators.prompts import PromptBuilder, PromptLayout
from cost_hf.quantizers.base import Quantizer
from cost_hf.recommenders.base import Recommender, checked_device
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.bundle import read_bundle, write_bundle
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.repository import locate
from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.sizes import MAX_HISTORY, ranked_number, whole_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


class SidSnapshot(CatalogSnapshot):
    """A catalog of semantic IDs with the index and the token table that a search reads."""

    def __init__(self, catalog: Catalog, clicks: np.ndarray, prompts: PromptBuilder):
        super().__init__(catalog, clicks)
        self.prompts = prompts
        self.trie = SidTrie.from_catalog(catalog, popularity=self.popularity)


class GenerativeRecommender(Recommender):
    """Recommends catalog items by constrained generation of semantic IDs.

    Args:
        generator: causal or seq2seq model trained on the catalog's SIDs.
        catalog: the items.
        vocabulary: token ids of the SIDs.
        popularity: training clicks of every catalog row, `[N]`; answers empty histories and orders items of one SID.
        max_history: most recent items in the prompt.
        num_beams: beams of the search, raised to `top_k` where that is larger.
        normalization: of its scores, as for `beam_search`.
        layout: tokens around a history; the bare one by default.
        tokenizer: of a pretrained backbone; saved beside the generator.
        base: the pretrained model that an adapter in `generator` belongs to.
        quantizer: gives vectors their codes; None for codes that came without a model.
        encoder: gives texts their vectors.
        journal, versions: of `CatalogUpdates`.
    """

    kind = "generator"
    source = "generator"
    snapshot: SidSnapshot

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
        layout: PromptLayout | None = None,
        tokenizer: Any = None,
        base: BaseModel | None = None,
        quantizer: Quantizer | None = None,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        if len(popularity) != len(catalog) or vocabulary.level_sizes != catalog.level_sizes:
            raise ValueError(
                f"popularity and vocabulary must fit the catalog of {len(catalog)} items and levels "
                f"{catalog.level_sizes}, got {len(popularity)} counts and levels {vocabulary.level_sizes}; "
                "take all of them from one run"
            )
        check_normalization(normalization)
        whole_number(max_history, "max_history", most=MAX_HISTORY)
        ranked_number(num_beams, "num_beams", len(catalog))
        self.generator, self.vocabulary, self.tokenizer = generator.eval(), vocabulary, tokenizer
        is_causal = not generator.config.is_encoder_decoder
        self.layout = PromptLayout.bare(vocabulary, is_causal=is_causal) if layout is None else layout
        self.base = base
        self.max_history, self.num_beams, self.normalization = max_history, num_beams, normalization
        self.quantizer = None if quantizer is None else quantizer.eval()
        self.needs_user_ids = vocabulary.num_user_tokens > 0
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @classmethod
    def of(cls, backbone: Backbone, catalog: Catalog, **parts: Any) -> "GenerativeRecommender":
        """Return the recommender of a trained backbone; `parts` are the other arguments."""
        return cls(
            backbone.model,
            catalog,
            backbone.vocabulary,
            max_history=backbone.max_history,
            layout=backbone.layouts[0],
            tokenizer=backbone.tokenizer,
            base=backbone.base,
            **parts,
        )

    def to(self, device: torch.device | str) -> Self:
        """Move the generator to a device, in place; answers are the same but for rounding."""
        self.generator.to(checked_device(device))
        return self

    def merge(self) -> "GenerativeRecommender":
        """Add an adapter to the weights of its base, in place; without one nothing changes.

        The recommender then needs no base model and saves whole weights, which their Auto class loads. Scores change
        by rounding alone.
        """
        if self.base is not None:
            self.generator, self.base = self.generator.merge_and_unload().eval(), None
        return self

    @property
    def trie(self) -> SidTrie:
        """Index of the catalog's SIDs."""
        return self.snapshot.trie

    @property
    def prompts(self) -> PromptBuilder:
        """Layout of histories for this generator and catalog."""
        return self.snapshot.prompts

    @property
    def sid_keys(self) -> np.ndarray:
        """Number of each row's group of equal model-level codes, `[N]`."""
        return self.catalog.sid_keys

    @property
    def network(self) -> PreTrainedModel:
        """The generator."""
        return self.generator

    @property
    def identity(self) -> dict[str, str]:
        """The digests that tie catalog, quantizer and generator together."""
        return {"vocabulary_digest": self.vocabulary.digest, "assignment_digest": self.catalog.quantizer_digest}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> BeamRanker:
        """Return the beam search over the present (or the given) snapshot, with at least `top_k` beams."""
        at = snapshot if isinstance(snapshot, SidSnapshot) else self.snapshot
        return BeamRanker(
            self.generator,
            at.prompts,
            at.trie,
            num_beams=max(self.num_beams, top_k),
            normalization=self.normalization,
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the model-level codes of texts, int64 `[n, L_model]`; the catalog settles what collides.

        Raises:
            ValueError: where the text encoder or the quantizer is missing.
        """
        vectors = torch.from_numpy(self._vectors_of(texts))
        return self._required_quantizer.encode(vectors).cpu().numpy()

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the whole recommender into `directory`, in place of one that is there: all of it, or nothing."""
        with self._writing:
            write_bundle(directory, self)

    @classmethod
    def read(
        cls, directory: str | Path, *, revision: str | None = None, generator: PreTrainedModel | None = None
    ) -> "GenerativeRecommender":
        """Load a generative recommender; `from_pretrained` loads any kind.

        Args:
            revision: of a Hub id.
            generator: its model, where that is loaded already.
        """
        return cls(**read_bundle(locate(directory, revision=revision), generator=generator))

    @property
    def _required_quantizer(self) -> Quantizer:
        if self.quantizer is None:
            raise ValueError(
                "this recommender has no quantizer: its codes came from elsewhere; pass the codes of new items"
            )
        return self.quantizer

    def _require_encoder(self, *, by_codes: bool) -> None:
        if not by_codes:
            _ = self._required_quantizer

    def _snapshot_of(self, catalog: Any) -> SidSnapshot:
        prompts = PromptBuilder.for_catalog(
            catalog,
            self.vocabulary,
            is_causal=not self.generator.config.is_encoder_decoder,
            max_history=self.max_history,
            layout=self.layout,
        )
        return SidSnapshot(catalog, self._clicks, prompts)

    def _with_appended_items(
        self,
        catalog: Catalog,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
    ) -> Catalog:
        if codes is not None:
            return catalog.with_items(item_ids, codes=codes, titles=titles)
        table = torch.from_numpy(np.asarray(vectors, dtype=np.float32))
        return catalog.with_embeddings(item_ids, table, self._required_quantizer, titles=titles)

    def _with_updated_texts(self, catalog: Catalog, item_ids: list[str], texts: Sequence[str]) -> tuple[Catalog, int]:
        if self.quantizer is None or self.encoder is None:
            return catalog, 0
        held = catalog.codes[catalog.rows_of(item_ids)][:, : catalog.model_levels]
        return catalog, int((self.encode(texts) != held).any(1).sum())
