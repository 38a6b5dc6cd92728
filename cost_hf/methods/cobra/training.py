"""The model of a COBRA recipe, from scratch, with the layout of its input, and how it is ranked with in training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.options import GeneratorOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.cobra.modeling_cobra import CobraForCausalLM
from cost_hf.methods.cobra.options import DenseOptions
from cost_hf.methods.cobra.ranker import BeamFusion, CobraRanker
from cost_hf.recommenders.rankers import popularity_order
from cost_hf.recommenders.text_generative import ItemTable
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie


@dataclass(frozen=True)
class CobraBackbone(Backbone):
    """A generator whose prompts have a token for the dense vector of every item."""

    def prompts(self, catalog: Catalog) -> list[PromptBuilder]:
        """Return the prompt builders of a catalog."""
        return [with_dense_tokens(prompts) for prompts in super().prompts(catalog)]


def with_dense_tokens(prompts: PromptBuilder) -> PromptBuilder:
    """Return prompts in which `<|sid_end|>` follows the codes of every item, where the model reads its dense vector."""
    codes = prompts.item_tokens
    ends = torch.full_like(codes[:, :1], prompts.vocabulary.end_id)
    return replace(prompts, item_tokens=torch.cat([codes, ends], 1))


def build_cobra(
    generator: GeneratorOptions,
    dense: DenseOptions,
    catalog: Catalog,
    *,
    popularity: np.ndarray | Sequence[int],
    seed: int,
) -> Backbone:
    """Return an untrained COBRA; its weights depend on `seed` alone.

    Weights that the generator without texts has are those of that generator.

    Args:
        generator: section `generator`, of a causal model from scratch.
        dense: section `dense`.
        catalog: with the texts of items where they are read.
        popularity: training clicks of every catalog row, `[N]`; items without one are no negatives of their leaf.
        seed: of the weights.

    Raises:
        ValueError: for another generator, or a catalog without the texts that are read.
    """
    if generator.backbone is not None or generator.kind != "causal":
        raise ValueError(
            f"COBRA is a causal generator from scratch, got generator.kind={generator.kind!r} and generator.backbone="
            f"{generator.backbone!r}; set them to causal and null"
        )
    if dense.reads_text and catalog.vectors is None:
        raise ValueError(
            "dense.inputs and dense.weight read the texts of items, and the catalog holds none; give it some "
            "(Catalog.with_vectors)"
        )
    levels = len(catalog.level_sizes)
    items = generator.max_history + 1  # a full prompt and its answer
    fields: dict[str, Any] = {
        "num_levels": levels,
        "use_text_input": dense.inputs,
        "dense_loss_weight": dense.weight,
        "dense_temperature": dense.temperature,
        "detach_targets": dense.detach_targets,
        "mask_duplicates": dense.mask_duplicates,
        "mask_same_user": dense.mask_same_user,
        "leaf_negatives": dense.leaf_negatives,
        "text_encoder": dense.text_encoder,
        "text_dim": catalog.vectors.shape[1] if dense.reads_text and catalog.vectors is not None else None,
        "text_hidden_sizes": list(dense.hidden_sizes),
        "text_vocab_size": dense.word_ids,
        "text_layers": dense.layers,
        "text_pooling": dense.pooling,
        "text_dropout": dense.text_dropout,
        "input_dropout": dense.input_dropout,
        "max_items": items,
    }
    if dense.inputs:
        fields["max_position_embeddings"] = (levels + 1) * items + 2
    classes = ModelClasses({"llama": CobraForCausalLM}, fields)
    backbone = build_backbone(generator, catalog, seed=seed, model_classes=classes)
    attach_catalog(backbone.model, catalog, popularity)
    return CobraBackbone(**vars(backbone)) if dense.inputs else backbone


def attach_catalog(model: Any, catalog: Catalog, popularity: np.ndarray | Sequence[int]) -> None:
    """Give a model the texts of the items for its training, where it reads any; unclicked items are no negatives."""
    if model.config.reads_text:
        is_clicked = torch.from_numpy(np.asarray(popularity) > 0)
        model.attach_catalog(torch.tensor(catalog.vectors), torch.tensor(catalog.codes), is_clicked)


def ranker_of(
    model: PreTrainedModel,
    prompts: PromptBuilder,
    trie: SidTrie,
    catalog: Catalog,
    popularity: np.ndarray,
    fusion: BeamFusion,
) -> CobraRanker:
    """Return the ranker of a model in training.

    Args:
        model: in eval mode.
        prompts, trie: of the catalog.
        catalog: with the texts of items where the model reads them.
        popularity: training clicks, `[N]`.
        fusion: how the items of the beams are ranked.
    """
    table = None
    if model.config.reads_text:
        table = ItemTable(model, torch.tensor(catalog.vectors, device=model.device))
    tie_rank = torch.from_numpy(popularity_order(popularity, catalog.item_ids)).argsort().to(model.device)
    return CobraRanker(model, prompts, trie, table, tie_rank, fusion)


def with_noise(catalog: Catalog, dense: DenseOptions, width: int) -> Catalog:
    """Return a catalog with texts of seeded noise, for estimates of costs.

    Args:
        catalog: the items.
        dense: section `dense`.
        width: of frozen text vectors.
    """
    draws = np.random.default_rng(0)
    if dense.text_encoder == "light":
        texts = draws.integers(2, dense.word_ids, size=(len(catalog), dense.words)).astype(np.float32)
    else:
        texts = draws.normal(size=(len(catalog), width)).astype(np.float32)
    return catalog.with_vectors(list(catalog.item_ids), texts)
