"""The generators: causal or T5 from scratch, or a pretrained model of either kind whose vocabulary is extended.

The vocabulary of a model from scratch has SID tokens only. A saved generator is a stock `transformers` model, or of a
class that a method registers: its Auto class loads it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cost_hf.base_models import commit_of, weights_digest
from cost_hf.generators.model_classes import STOCK, ModelClasses
from cost_hf.generators.options import CAUSAL_SIZES, SEQ2SEQ_SIZES, AdapterOptions, GeneratorOptions, TaskOptions
from cost_hf.generators.pretrained import (
    BaseModel,
    code_vectors,
    context_of,
    layouts_of,
    load_model,
    load_tokenizer,
)
from cost_hf.generators.prompts import PromptBuilder, PromptLayout
from cost_hf.generators.templates import PromptEncoder, fitting_items
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import CODED_INITS
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)
CAUSAL_INIT_STD = 0.04  # at width 128; with a tied head this learns at lr 2e-3 from the first steps


@dataclass(frozen=True)
class Backbone:
    """A generator ready for training.

    Attributes:
        model: with an adapter where the recipe has one.
        vocabulary: token ids of SIDs.
        layouts: of history prompts; the first one is used for recommendations.
        max_history: items of a history that fit.
        tokenizer: of a pretrained model.
        base: the pretrained model that the adapter belongs to; None where all weights are trained.
        users: token ids of the SIDs of users, in the same tokenizer; None where users have none.
    """

    model: PreTrainedModel
    vocabulary: SidVocabulary
    layouts: tuple[PromptLayout, ...]
    max_history: int
    tokenizer: PreTrainedTokenizerBase | None = None
    base: BaseModel | None = None
    users: SidVocabulary | None = None

    @property
    def is_causal(self) -> bool:
        """Tell whether the model is decoder-only."""
        return not self.model.config.is_encoder_decoder

    @property
    def is_pretrained(self) -> bool:
        """Tell whether the model was pretrained on text."""
        return self.tokenizer is not None

    def prompts(self, catalog: Catalog) -> list[PromptBuilder]:
        """Return the prompt builders of a catalog; the first one is used for recommendations."""
        return [
            PromptBuilder.for_catalog(
                catalog, self.vocabulary, is_causal=self.is_causal, max_history=self.max_history, layout=layout
            )
            for layout in self.layouts
        ]

    @property
    def context(self) -> int | None:
        """Number of positions of the model; None for one without a limit."""
        return context_of(self.model)

    def prompt_encoder(self) -> PromptEncoder:
        """Return the encoder of templates under this backbone's tokenizer."""
        return PromptEncoder(self.tokenizer, self.vocabulary, is_causal=self.is_causal, users=self.users)


def build_backbone(
    options: GeneratorOptions,
    catalog: Catalog,
    *,
    seed: int,
    adapter: AdapterOptions | None = None,
    tasks: TaskOptions | None = None,
    level_vectors: Sequence[Tensor] = (),
    model_classes: ModelClasses | None = None,
    users: SidVocabulary | None = None,
) -> Backbone:
    """Build or load the generator of a recipe; new weights depend on `seed` alone.

    Args:
        options: section `generator`.
        catalog: its level sizes are those of the vocabulary.
        seed: of all weights that are not pretrained.
        adapter: section `adapter`; LoRA where it has a rank.
        tasks: section `tasks`, for the directory of prompt templates.
        level_vectors: code vectors of the quantizer's levels, `[K, D]` each, for SID embeddings that start from them.
        model_classes: of a method with a model of its own; those of transformers by default.
        users: tokens of the SIDs of users, which are added to a backbone after those of items; None for none.

    Raises:
        ValueError: for options that name no generator or do not apply to the backbone, and for an adapter on a model
            class of a method.
        OSError: where a backbone can't be loaded.
    """
    options.validate()
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=options.num_user_tokens)
    is_causal = options.kind == "causal"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.backbone is not None:
            adapter = adapter or AdapterOptions()
            tasks = tasks or TaskOptions()
            return _load(options, vocabulary, users, adapter, tasks, level_vectors, model_classes, seed=seed)
        build = _new_causal if is_causal else _new_seq2seq
        model = build(options, vocabulary, model_classes or STOCK)
        layout = PromptLayout.bare(vocabulary, is_causal=is_causal)
        return Backbone(model, vocabulary, (layout,), options.max_history)


def _new_causal(options: GeneratorOptions, vocabulary: SidVocabulary, classes: ModelClasses) -> PreTrainedModel:
    positions = len(vocabulary.level_sizes) * (options.max_history + 1) + 2
    shape = CAUSAL_SIZES[options.size]
    # a product over d inputs grows with sqrt(d): wider models start with logits and gates as large as those of 128
    shrink = min(1.0, (128 / shape["hidden_size"]) ** 0.5)
    return classes.build(
        "llama",
        vocab_size=vocabulary.size,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        initializer_range=CAUSAL_INIT_STD * shrink,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
        pad_token_id=vocabulary.pad_id,
        **shape,
    )


def _new_seq2seq(options: GeneratorOptions, vocabulary: SidVocabulary, classes: ModelClasses) -> PreTrainedModel:
    return classes.build(
        "t5",
        vocab_size=vocabulary.size,
        dropout_rate=options.scratch_dropout,
        feed_forward_proj="relu",
        decoder_start_token_id=vocabulary.pad_id,
        pad_token_id=vocabulary.pad_id,
        eos_token_id=vocabulary.eos_id,
        **SEQ2SEQ_SIZES[options.size],
    )


def _load(
    options: GeneratorOptions,
    vocabulary: SidVocabulary,
    users: SidVocabulary | None,
    adapter: AdapterOptions,
    tasks: TaskOptions,
    level_vectors: Sequence[Tensor],
    model_classes: ModelClasses | None,
    *,
    seed: int,
) -> Backbone:
    """Load a pretrained model, extend its vocabulary, and add LoRA where the recipe has it."""
    name = str(options.backbone)
    is_causal = options.kind == "causal"
    if model_classes is not None and adapter.r is not None:
        raise ValueError(
            f"adapter.r={adapter.r!r} trains LoRA on models of transformers alone, and this method has model classes "
            "of its own; set adapter.r to null"
        )
    model = load_model(
        name, is_causal=is_causal, revision=options.revision, dropout=options.dropout, model_classes=model_classes
    )
    tokenizer = load_tokenizer(name, revision=options.revision)
    digest = None if adapter.r is None else weights_digest(model)
    embedding_init = options.embedding_init or ("text" if is_causal else "normal")
    extended = vocabulary.extend(
        tokenizer,
        model,
        embedding_init=embedding_init,
        anchor=options.embedding_init_text,
        code_vectors=code_vectors(level_vectors, vocabulary.level_sizes),
        seed=seed,
    )
    logger.info("%s: %d SID tokens added, vocabulary now %d", name, len(extended.tokens), len(tokenizer))
    if users is not None:
        # code vectors of users are those of another quantizer: their tokens start from the anchor text instead
        init = "text" if embedding_init in CODED_INITS else embedding_init
        users = users.extend(tokenizer, model, embedding_init=init, anchor=options.embedding_init_text, seed=seed)
    prompt_encoder = PromptEncoder(tokenizer, extended, is_causal=is_causal)
    layouts = layouts_of(options.prompt, prompt_encoder, templates=tasks.templates, paraphrases=tasks.paraphrases)
    max_history = fitting_items(
        options.max_history,
        text=max(layout.constant_tokens for layout in layouts),
        item=len(extended.level_sizes),
        answer=len(extended.level_sizes),
        context=context_of(model),
        overflow=options.overflow,
    )
    if digest is None or adapter.r is None:
        return Backbone(model, extended, tuple(layouts), max_history, tokenizer, users=users)
    added = len(extended.tokens) + (0 if users is None else len(users.tokens))
    base = BaseModel(name, commit_of(name, options.revision), digest, added)
    from cost_hf.generators.adapters import add_adapter  # peft takes a while to import, and few need it

    adapted = add_adapter(model, adapter, extended, rank=adapter.r, users=users)
    return Backbone(adapted, extended, tuple(layouts), max_history, tokenizer, base, users)
