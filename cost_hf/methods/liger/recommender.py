"""LIGER as a recommender: beams and items without a click, ranked by what the model knows of their texts.

The text vectors of all items are stored with the catalog. A new item has no click, so it is a candidate of every
request at once, whatever the generator gives its semantic ID.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.files import check_fields
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.liger.ranker import DenseIndex, ItemTable, LigerRanker, LigerSearch
from cost_hf.recommenders.base import checked_device
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.generative import CUSTOM_GENERATE, GenerativeRecommender, SidSnapshot
from cost_hf.recommenders.repository import MANIFEST
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import whole_number

FIELDS = {"is_constrained": bool, "ranks_catalog": bool, "dense_top_k": int}  # of its manifest


class LigerSnapshot(SidSnapshot):
    """A catalog with the trie, the prompts and the table of items that a request reads.

    Args:
        catalog: with text vectors, where the model reads them.
        clicks: training clicks of the rows that were there at training, `[M]`.
        prompts: layout of histories.
        model: a LIGER, in eval mode.
        earlier: an earlier state of the catalog under the same model and device, whose table is used again.
    """

    def __init__(
        self,
        catalog: Catalog,
        clicks: np.ndarray,
        prompts: PromptBuilder,
        model: PreTrainedModel,
        earlier: "LigerSnapshot | None" = None,
    ):
        super().__init__(catalog, clicks, prompts)
        self.table = None
        if model.config.reads_text:
            # a copy: the catalog's own array is read-only, which tensors can't be
            vectors = torch.tensor(catalog.vectors, device=model.device)
            self.table = ItemTable(model, vectors, None if earlier is None else earlier.table)

    @cached_property
    def index(self) -> DenseIndex:
        """What the dense side needs of this catalog."""
        device = torch.device("cpu") if self.table is None else self.table.rows.device
        return DenseIndex.of(self.catalog, self.popularity, self.table, device)


class LigerRecommender(GenerativeRecommender):
    """Recommends items by LIGER; its scores are cosines of user and item over the temperature.

    A model without a dense head (`dense.weight: 0`) ranks by its beams alone, with their scores.

    Args:
        backbone: trained LIGER with its vocabulary and prompt.
        catalog: the items; with text vectors, where the model reads them.
        num_beams: beams, and so candidates that are generated; raised to `top_k` where that is larger.
        is_constrained: whether beams are items of the catalog only; free beams that are none are dropped.
        ranks_catalog: rank the whole catalog by cosine, without beams.
        dense_top_k: items of the whole catalog nearest by cosine that become candidates as well.
        parts: the other arguments of `GenerativeRecommender`.
    """

    kind = "liger"
    source = "liger"
    has_own_code = True
    snapshot: LigerSnapshot

    def __init__(
        self,
        backbone: Backbone,
        catalog: Catalog,
        *,
        num_beams: int = 20,
        is_constrained: bool = True,
        ranks_catalog: bool = False,
        dense_top_k: int = 0,
        **parts: Any,
    ):
        config = backbone.model.config
        width = None if catalog.vectors is None else catalog.vectors.shape[1]
        if config.reads_text and width != config.text_dim:
            raise ValueError(
                f"the model reads text vectors of width {config.text_dim}, the catalog has {width}; take both from one "
                "run"
            )
        if (ranks_catalog or dense_top_k) and not config.has_dense_head:
            raise ValueError(
                f"ranks_catalog={ranks_catalog!r} and dense_top_k={dense_top_k!r} rank by a dense head, and the model "
                "has none; leave them out"
            )
        whole_number(dense_top_k, "dense_top_k", least=0)
        self.is_constrained = is_constrained
        self.ranks_catalog = ranks_catalog
        self.dense_top_k = dense_top_k
        super().__init__(backbone, catalog, num_beams=num_beams, **parts)

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same up to rounding."""
        with self._writing:
            self.generator.to(checked_device(device))
            self.snapshot = self._new_snapshot(self.catalog, earlier=None)
        return self

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

    def prompt_inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return histories as embedded prompts for `generate()`, with the texts of their items."""
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
        return entries | {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def _read_arguments(
        cls, source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None
    ) -> dict[str, Any]:
        check_fields(manifest, FIELDS, source=source / MANIFEST)
        arguments = super()._read_arguments(source, manifest, generator)
        return arguments | {name: manifest[name] for name in FIELDS}

    def _require_encoder(self, *, by_codes: bool) -> None:
        super()._require_encoder(by_codes=by_codes)
        if by_codes and self.generator.config.reads_text:
            raise ValueError(
                "this LIGER ranks items by their texts, which codes do not hold; pass texts or vectors of new items"
            )

    def _snapshot_of(self, catalog: Any) -> LigerSnapshot:
        return self._new_snapshot(catalog, earlier=getattr(self, "snapshot", None))

    def _new_snapshot(self, catalog: Catalog, *, earlier: LigerSnapshot | None) -> LigerSnapshot:
        return LigerSnapshot(catalog, self._clicks, self._prompts_for(catalog), self.generator, earlier)

    def _with_updated_texts(self, catalog: Catalog, item_ids: list[str], texts: Sequence[str]) -> tuple[Catalog, int]:
        if catalog.vectors is None:
            return super()._with_updated_texts(catalog, item_ids, texts)
        vectors = self._vectors_of(texts)
        would_differ = 0
        if self.quantizer is not None:
            held = catalog.codes[catalog.rows_of(item_ids)][:, : catalog.model_levels]
            codes = self.quantizer.encode(torch.from_numpy(vectors)).cpu().numpy()
            would_differ = int((codes != held).any(1).sum())
        return catalog.with_vectors(item_ids, vectors), would_differ
