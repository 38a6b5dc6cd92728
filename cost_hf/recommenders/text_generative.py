"""Generators of semantic IDs that also read items by vectors of their texts.

The vectors are stored with the catalog, and what the model makes of them is computed once for each state of it. What
such a model must offer is `TextGenerator`.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from cost_hf.files import check_fields
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.generative import CUSTOM_GENERATE, GenerativeRecommender, SidSnapshot
from cost_hf.recommenders.repository import MANIFEST
from cost_hf.semantic_ids.catalog import Catalog

ROWS_AT_ONCE = 8192  # of a catalog


class TextGenerator(Protocol):
    """What a generator must offer to be served with the vectors of its items.

    Its configuration has `reads_text` (whether it reads them at all), `text_dim` E (their width) and `use_text_input`
    (whether prompts hold them).
    """

    config: Any

    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the item embeddings `[N, D]` of vectors `[N, E]`."""
        ...

    def embed_prompt(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_table: Tensor | None = None,
    ) -> Tensor:
        """Return embedded prompts `[B, S, D]`.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none.
            item_table: item embeddings of the catalog, `[N, D]`.
        """
        ...


class ItemTable:
    """Item embeddings of one catalog, `[N, D]`, as the model reads them and, at unit length, as it may score them.

    They are computed in blocks of rows. Blocks with the vectors of an earlier table are copied from it; a block has the
    same bits either way, since it is always computed by itself.

    Args:
        model: a `TextGenerator` that reads texts, in eval mode.
        vectors: item vectors of the catalog, `[N, E]`.
        earlier: table of an earlier state of the catalog, by the same model on the same device.
    """

    def __init__(self, model: PreTrainedModel, vectors: Tensor, earlier: "ItemTable | None" = None):
        self.vectors = vectors
        blocks: list[Tensor] = []
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = vectors[start : start + ROWS_AT_ONCE]
            known = None if earlier is None else earlier.vectors[start : start + ROWS_AT_ONCE]
            is_known = known is not None and known.shape == part.shape and torch.equal(known, part)
            if earlier is not None and is_known:
                blocks.append(earlier.rows[start : start + ROWS_AT_ONCE])
            else:
                blocks.append(model.item_table(part))
        self.rows: Tensor = torch.cat(blocks)  # [N, D]

    @cached_property
    def targets(self) -> Tensor:
        """The embeddings at unit length, fp32 `[N, D]`."""
        return functional.normalize(self.rows.float(), dim=-1)


class TextSnapshot(SidSnapshot):
    """A catalog with the trie, the prompts and the table of items that a request reads.

    Args:
        catalog: with item vectors, where the model reads them.
        clicks: training clicks of the rows that were there at training, `[M]`.
        prompts: layout of histories.
        model: a `TextGenerator`, in eval mode.
        earlier: an earlier state of the catalog under the same model and device, whose table is used again.
    """

    def __init__(
        self,
        catalog: Catalog,
        clicks: np.ndarray,
        prompts: PromptBuilder,
        model: PreTrainedModel,
        earlier: "TextSnapshot | None" = None,
    ):
        super().__init__(catalog, clicks, prompts)
        self.table: ItemTable | None = None
        if model.config.reads_text:
            # a copy: the catalog's own array is read-only, which tensors can't be
            vectors = torch.tensor(catalog.vectors, device=model.device)
            self.table = ItemTable(model, vectors, None if earlier is None else earlier.table)

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        return torch.device("cpu") if self.table is None else self.table.rows.device

    @cached_property
    def tie_rank(self) -> Tensor:
        """Rank of every row among equal scores: most training clicks first, then item id; int64 `[N]`."""
        return torch.from_numpy(self.popularity_order).argsort().to(self.device)


class TextGenerativeRecommender(GenerativeRecommender):
    """A `GenerativeRecommender` whose generator is a `TextGenerator`; a method sets its kind and ranks.

    New items need texts or vectors, and changed texts change what the model reads.

    Args:
        backbone: trained generator with its vocabulary and prompt.
        catalog: the items; with vectors, where the model reads them.
        num_beams: beams of the search.
        parts: the other arguments of `GenerativeRecommender`.

    Attributes:
        search_fields: attributes that set the search besides those of `GenerativeRecommender`, and their types; they
            are arguments of the class and entries of its manifest.
        snapshot_class: of its snapshots.
    """

    search_fields: ClassVar[dict[str, type]] = {}
    snapshot_class: ClassVar[type[TextSnapshot]] = TextSnapshot
    has_own_code = True
    snapshot: TextSnapshot

    def __init__(self, backbone: Backbone, catalog: Catalog, *, num_beams: int = 20, **parts: Any):
        config = backbone.model.config
        width = None if catalog.vectors is None else catalog.vectors.shape[1]
        if config.reads_text and width != config.text_dim:
            raise ValueError(
                f"the model reads text vectors of width {config.text_dim}, the catalog has {width}; take both from one "
                "run"
            )
        super().__init__(backbone, catalog, num_beams=num_beams, **parts)

    @property
    def needs_vectors(self) -> bool:
        """Whether a new item needs a text vector: for its codes, or for the model."""
        return super().needs_vectors or self.generator.config.reads_text

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same up to rounding."""
        with self._writing:
            super().to(device)
            self.snapshot = self._new_snapshot(self.catalog, earlier=None)
        return self

    @property
    def search_settings(self) -> dict[str, Any]:
        """How histories are read and searched, as JSON."""
        return super().search_settings | {name: getattr(self, name) for name in self.search_fields}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> BeamRanker:
        """Return the ranker of the present (or the given) snapshot, with at least `top_k` beams: beam search."""
        at = snapshot if isinstance(snapshot, TextSnapshot) else self.snapshot
        return BeamRanker(
            self.generator,
            at.prompts,
            at.trie,
            num_beams=max(self.num_beams, top_k),
            normalization=self.normalization,
            names_items=self.generator.config.use_text_input,
            item_table=None if at.table is None else at.table.rows,
        )

    def prompt_inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return histories as embedded prompts for `generate()`, with what the model reads of their items."""
        parts = self.prompts.inputs_with_items(histories, user_ids=user_ids)
        input_ids, attention_mask, item_rows = (part.to(self.generator.device) for part in parts)
        table = None if self.snapshot.table is None else self.snapshot.table.rows
        with torch.inference_mode():
            embeds = self.generator.embed_prompt(input_ids, attention_mask, item_rows=item_rows, item_table=table)
        return {"inputs_embeds": embeds, "attention_mask": attention_mask}

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        entries = super()._write_own_parts(folder)
        if self.generator.config.use_text_input:  # that script searches from tokens alone
            (folder / CUSTOM_GENERATE / "generate.py").unlink()
            (folder / CUSTOM_GENERATE).rmdir()
        return entries

    @classmethod
    def _read_arguments(
        cls, source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None
    ) -> dict[str, Any]:
        check_fields(manifest, cls.search_fields, source=source / MANIFEST)
        arguments = super()._read_arguments(source, manifest, generator)
        return arguments | {name: manifest[name] for name in cls.search_fields}

    def _require_encoder(self, *, by_codes: bool) -> None:
        super()._require_encoder(by_codes=by_codes)
        if by_codes and self.generator.config.reads_text:
            raise ValueError(
                f"this recommender of kind {self.kind} reads the texts of items, which codes do not hold; pass texts "
                "or vectors of new items"
            )

    def _snapshot_of(self, catalog: Any) -> TextSnapshot:
        return self._new_snapshot(catalog, earlier=getattr(self, "snapshot", None))

    def _fresh_snapshot(self) -> TextSnapshot:
        return self._new_snapshot(self.catalog, earlier=None)

    def _new_snapshot(self, catalog: Catalog, *, earlier: TextSnapshot | None) -> TextSnapshot:
        return self.snapshot_class(catalog, self._clicks, self._prompts_for(catalog), self.generator, earlier)

    def _with_updated_texts(self, catalog: Catalog, item_ids: list[str], texts: Sequence[str]) -> tuple[Catalog, int]:
        if catalog.vectors is None:
            return super()._with_updated_texts(catalog, item_ids, texts)
        vectors = self._vectors_of(texts)
        would_differ = 0
        if self.quantizer is not None:
            would_differ = self._would_differ(catalog, item_ids, self._coded_inputs(texts, vectors))
        return catalog.with_vectors(item_ids, self._stored_vectors(catalog, item_ids, vectors)), would_differ
