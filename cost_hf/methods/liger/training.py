"""The model of a LIGER recipe, from scratch, and how it is ranked with while it is trained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.options import GeneratorOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.liger.modeling_liger import LigerForCausalLM, LigerForConditionalGeneration
from cost_hf.methods.liger.options import DenseOptions
from cost_hf.methods.liger.ranker import DenseIndex, LigerRanker, LigerSearch
from cost_hf.recommenders.text_generative import ItemTable
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie


def build_liger(
    generator: GeneratorOptions,
    dense: DenseOptions,
    catalog: Catalog,
    *,
    popularity: np.ndarray | Sequence[int],
    seed: int,
) -> Backbone:
    """Return an untrained LIGER; its weights depend on `seed` alone.

    Weights that the generator without texts has are those of that generator, unless `dense.initializer_std` is set.

    Args:
        generator: section `generator`; `seq2seq` is the paper's T5, `causal` the decoder-only body of this package.
        dense: section `dense`.
        catalog: with item vectors where texts are read.
        popularity: training clicks of every catalog row, `[N]`; items without one are no candidates of the dense loss.
        seed: of the weights.

    Raises:
        ValueError: for a pretrained backbone, or a catalog without the vectors that are read.
    """
    if generator.backbone is not None:
        raise ValueError(
            f"LIGER is trained from scratch, got generator.backbone={generator.backbone!r}; set it to null"
        )
    if dense.reads_text and catalog.vectors is None:
        raise ValueError(
            "dense.text_input and dense.weight read item vectors, and the catalog holds none; give it some "
            "(Catalog.with_vectors)"
        )
    fields: dict[str, Any] = {
        "num_levels": len(catalog.level_sizes),
        "use_text_input": dense.text_input,
        "dense_loss_weight": dense.weight,
        "sid_loss_weight": dense.sid_weight,
        "logits_temperature": dense.temperature,
        "text_dim": catalog.vectors.shape[1] if dense.reads_text and catalog.vectors is not None else None,
        "text_hidden_sizes": list(dense.hidden_sizes),
        "text_dropout": dense.text_dropout,
        "input_dropout": dense.input_dropout,
        "dense_negatives": dense.negatives,
    }
    if generator.kind == "seq2seq":
        fields["max_items"] = generator.max_history
    classes = ModelClasses({"t5": LigerForConditionalGeneration, "llama": LigerForCausalLM}, fields)
    backbone = build_backbone(generator, catalog, seed=seed, model_classes=classes)
    if dense.initializer_std is not None and generator.kind == "seq2seq":
        draw_weights(backbone.model, std=dense.initializer_std, seed=seed)
    attach_catalog(backbone.model, catalog, popularity)
    return backbone


@torch.no_grad()
def draw_weights(model: PreTrainedModel, *, std: float, seed: int) -> None:
    """Draw the linear maps and the shared embedding of a T5 anew, as the published code does; norms stay at 1.

    T5's own embedding has a standard deviation of 1, which AdamW with a small learning rate hardly moves.

    Args:
        model: changed in place; what LIGER adds to T5 stays.
        std: standard deviation.
        seed: of the draws.
    """
    draws = torch.Generator().manual_seed(seed)
    parts = [model.get_input_embeddings(), *model.get_encoder().modules(), *model.get_decoder().modules()]
    known: set[int] = set()  # the shared embedding stands in several places
    for part in parts:
        if isinstance(part, nn.Linear | nn.Embedding) and id(part.weight) not in known:
            known.add(id(part.weight))
            part.weight.copy_(torch.randn(part.weight.shape, generator=draws) * std)


def attach_catalog(model: Any, catalog: Catalog, popularity: np.ndarray | Sequence[int]) -> None:
    """Give a model the texts of the items for its training, where it reads any; unclicked items are no negatives."""
    if model.config.reads_text:
        is_clicked = torch.from_numpy(np.asarray(popularity) > 0)
        model.attach_catalog(torch.tensor(catalog.vectors), is_clicked)


def ranker_of(
    model: PreTrainedModel,
    prompts: PromptBuilder,
    trie: SidTrie,
    catalog: Catalog,
    popularity: np.ndarray,
    search: LigerSearch,
    *,
    only_clicked: bool = False,
) -> LigerRanker:
    """Return the ranker of a model in training.

    Args:
        model: in eval mode.
        prompts, trie: of the catalog.
        catalog: with item vectors where the model reads texts.
        popularity: training clicks, `[N]`.
        search: how candidates are found.
        only_clicked: rank items with a training click alone: the metric is then of such targets (in-set), whatever
            others there are.
    """
    device = model.device
    table = None
    if model.config.reads_text:
        table = ItemTable(model, torch.tensor(catalog.vectors, device=device))
    index = DenseIndex.of(catalog, popularity, table, device)
    if only_clicked:
        is_clicked = torch.from_numpy(np.asarray(popularity) > 0).to(device)
        index = replace(index, present=index.present & is_clicked, unclicked=torch.zeros_like(is_clicked))
    return LigerRanker(model, prompts, trie, index, search)
