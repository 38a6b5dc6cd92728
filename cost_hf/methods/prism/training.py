"""The model of a PRISM recipe, from scratch, and what it reads of the items of a catalog."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cost_hf.data.category_tags import CategoryTags
from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.options import GeneratorOptions
from cost_hf.methods.prism.modeling_prism_isr import PrismForCausalLM, PrismForConditionalGeneration
from cost_hf.methods.prism.options import IsrOptions
from cost_hf.quantizers.base import Quantizer
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary


def build_prism(
    generator: GeneratorOptions,
    isr: IsrOptions,
    catalog: Catalog,
    *,
    levels: Sequence[Tensor] = (),
    tags: CategoryTags | None = None,
    seed: int,
) -> Backbone:
    """Return an untrained recommender model of PRISM; its weights depend on `seed` alone.

    Weights that the generator without additions has are those of that generator.

    Args:
        generator: section `generator`; `seq2seq` is the paper's T5, `causal` the decoder-only body of this package.
        isr: section `isr`.
        catalog: with text vectors and, after them, collaborative vectors, where items are fused.
        levels: code vectors of the quantizer's levels, `[K, D]` each; empty where the codes have none, which leaves
            them out of the fusion and leaves out the codebook head.
        tags: of the items; None where `isr.tag_column` is.
        seed: of the weights.

    Raises:
        ValueError: for a pretrained backbone, or a catalog without the vectors that are read.
    """
    if generator.backbone is not None:
        raise ValueError(
            f"PRISM's generator is trained from scratch, got generator.backbone={generator.backbone!r}; set it to null"
        )
    collaborative_dim = 0 if isr.collaborative_method is None else isr.collaborative_dim
    content_dim = 0
    if isr.fusion:
        if catalog.vectors is None or catalog.vectors.shape[1] <= collaborative_dim:
            raise ValueError(
                f"isr.fusion reads item vectors, of which the last {collaborative_dim} numbers are collaborative, and "
                "the catalog holds none; give it some (Catalog.with_vectors)"
            )
        content_dim = catalog.vectors.shape[1] - collaborative_dim
    predicts_codes = isr.codebook_weight > 0 and len(levels) > 0
    reads_codes = len(levels) > 0 and (isr.fusion or predicts_codes)
    fields: dict[str, Any] = {
        "level_sizes": list(catalog.level_sizes),
        "first_code_id": SidVocabulary.for_catalog(catalog, num_user_tokens=generator.num_user_tokens).first_id,
        "use_fusion": isr.fusion,
        "content_dim": content_dim,
        "collaborative_dim": collaborative_dim,
        "code_dim": levels[0].shape[1] if reads_codes else 0,
        "code_levels": len(levels) if reads_codes else 0,
        "content_size": isr.content_size,
        "collaborative_size": isr.collaborative_size,
        "num_experts": isr.experts,
        "active_experts": isr.active_experts,
        "expert_sizes": list(isr.expert_sizes),
        "initial_gate": isr.initial_gate,
        "use_positions": isr.adds_positions(generator.kind),
        "max_items": generator.max_history,
        "codebook_loss_weight": isr.codebook_weight if predicts_codes else 0.0,
        "tag_loss_weight": 0.0 if tags is None else isr.tag_weight,
        "tag_sizes": [] if tags is None else list(tags.sizes),
        "density_temperatures": isr.density_temperatures,
    }
    classes = ModelClasses({"t5": PrismForConditionalGeneration, "llama": PrismForCausalLM}, fields)
    backbone = build_backbone(generator, catalog, seed=seed, model_classes=classes)
    if reads_codes:
        backbone.model.attach_code_vectors(levels)
    attach_catalog(backbone.model, catalog, tags)
    return backbone


def code_vectors(model: Quantizer | None, levels: int) -> list[Tensor]:
    """Return the code vectors of a quantizer's levels, `[K, D]` each; empty where it has not one width for all.

    Args:
        model: None for codes without a model.
        levels: of the quantizer.
    """
    if model is None:
        return []
    found = [model.level_vectors(level) for level in range(levels)]
    known = [vectors.detach().float().cpu() for vectors in found if vectors is not None]
    widths = {vectors.shape[1] for vectors in known}
    return known if len(known) == levels and len(widths) == 1 else []


def attach_catalog(model: Any, catalog: Catalog, tags: CategoryTags | None = None) -> None:
    """Give a model what its training reads of the items: vectors, branches of the trie and tags."""
    config = model.config
    branches = None
    if config.density_temperatures is not None:
        branches = branch_counts(SidTrie.from_catalog(catalog), torch.tensor(catalog.codes))
    model.attach_catalog(
        torch.tensor(catalog.vectors) if config.use_fusion else None,
        branches=branches,
        item_tags=None if tags is None else torch.from_numpy(tags.tags),
    )


def branch_counts(trie: SidTrie, codes: Tensor) -> Tensor:
    """Return how many codes may follow the true prefix of every level, int64 `[N, L]`; 0 below a removed item.

    Args:
        trie: of the catalog.
        codes: of its rows, `[N, L]`.
    """
    counts = [trie.ranges[level].spans(trie.prefix(codes[:, :level]))[1] for level in range(codes.shape[1])]
    return torch.stack(counts, 1).long()
