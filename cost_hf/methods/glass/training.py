"""The model of a GLASS recipe, from scratch, and what it reads of the items of a catalog."""

import dataclasses
from typing import Any

import numpy as np
import torch

from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.options import GeneratorOptions
from cost_hf.generators.prompts import PromptLayout
from cost_hf.methods.glass.modeling_glass import GlassForCausalLM, GlassForConditionalGeneration
from cost_hf.methods.glass.options import LongHistoryOptions
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

PROMPT_MARKS = 3  # tokens of a prompt that are no codes: where the tier token stands, a user's token, the end


def build_glass(
    generator: GeneratorOptions,
    long_history: LongHistoryOptions,
    catalog: Catalog,
    *,
    fit_rows: np.ndarray | None = None,
    seed: int,
) -> Backbone:
    """Return an untrained GLASS; its weights depend on `seed` alone.

    Weights that the generator without additions has are those of that generator.

    Args:
        generator: section `generator`; `seq2seq` is the paper's T5, `causal` the decoder-only body of this package.
        long_history: section `long_history`.
        catalog: with item vectors where they are read.
        fit_rows: items that prototypes may be fitted to, bool `[N]`; None for all.
        seed: of the weights.

    Raises:
        ValueError: for a pretrained backbone, or a catalog without the vectors that are read.
    """
    if generator.backbone is not None:
        raise ValueError(
            f"GLASS is trained from scratch, got generator.backbone={generator.backbone!r}; set it to null"
        )
    vectors = catalog.vectors
    if long_history.reads_vectors and vectors is None:
        raise ValueError(
            "long_history.tier_token and long_history.neighbour_codes read item vectors, and the catalog holds none; "
            "give it some (Catalog.with_vectors)"
        )
    reads_vectors = long_history.reads_vectors and vectors is not None
    fields: dict[str, Any] = {
        "level_sizes": list(catalog.level_sizes),
        "first_code_id": SidVocabulary.for_catalog(catalog, num_user_tokens=generator.num_user_tokens).first_id,
        "use_tier_token": long_history.tier_token,
        "content_dim": vectors.shape[1] if reads_vectors and vectors is not None else 0,
        "tier_edges": list(long_history.tier_edges),
        "use_retrieval": long_history.retrieval,
        "retrieved_items": long_history.retrieved_items,
        "neighbour_codes": long_history.neighbour_codes,
        "min_retrieved": long_history.min_retrieved,
        "initial_gate": long_history.initial_gate,
    }
    if long_history.positions:
        fields["max_positions"] = generator.max_history * len(catalog.level_sizes) + PROMPT_MARKS
    classes = ModelClasses({"t5": GlassForConditionalGeneration, "llama": GlassForCausalLM}, fields)
    backbone = build_backbone(generator, catalog, seed=seed, model_classes=classes)
    if reads_vectors:
        rows = np.arange(len(catalog)) if fit_rows is None else np.flatnonzero(fit_rows)
        first_codes = torch.tensor(np.asarray(catalog.codes)[rows, 0]).long()
        backbone.model.attach_prototypes(torch.tensor(np.asarray(vectors)[rows]), first_codes)
    attach_catalog(backbone.model, catalog)
    if long_history.tier_token and not backbone.is_causal:
        vocabulary = backbone.vocabulary
        layout = PromptLayout((vocabulary.begin_id,), (vocabulary.eos_id,))
        backbone = dataclasses.replace(backbone, layouts=(layout,))
    return backbone


def attach_catalog(model: Any, catalog: Catalog) -> None:
    """Give a model what its training reads of the items: their code tokens and, where it reads any, their vectors."""
    if not model.config.use_text_input:
        return
    vocabulary = SidVocabulary.for_catalog(catalog, first_id=model.config.first_code_id)
    tokens = vocabulary.encode(torch.tensor(np.asarray(catalog.codes)))
    vectors = torch.tensor(catalog.vectors) if model.config.reads_text else None
    model.attach_catalog(tokens, vectors)
