"""The generators: causal or T5 from scratch, or a pretrained model of either kind whose vocabulary is extended.

From-scratch models know SID tokens only. A saved generator is a stock `transformers` model: it loads with its Auto
class alone. Sizes: `letter` is the generator of LETTER's released code (d_model 128), `tiger` the one whose parameter
count matches TIGER's text (d_model 384; arXiv 2305.05065 section 4 gives both 128 and 13 M, which do not fit together).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from cost_hf.recommender.adapters import AdapterOptions, add_adapter
from cost_hf.recommender.pretrained import (
    BaseModel,
    code_vectors,
    commit_of,
    context_of,
    fitting_history,
    layouts_of,
    load_model,
    load_tokenizer,
    weights_digest,
)
from cost_hf.recommender.prompts import PromptBuilder, PromptLayout
from cost_hf.recommender.tasks import TaskOptions
from cost_hf.recommender.templates import Conversation
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.token_rows import ANCHOR, ROW_INITS
from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)

CAUSAL_SIZES: dict[str, dict[str, int]] = {
    # gated layers hold three matrices: two thirds of 4·d keeps the parameter count of a plain layer
    "tiny": {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 168, "num_attention_heads": 2},
    "small": {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4},
    "medium": {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 4},
    "large": {"num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1368, "num_attention_heads": 8},
}
SEQ2SEQ_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 64, "d_ff": 256, "num_heads": 4, "d_kv": 16},
    "small": {"num_layers": 2, "num_decoder_layers": 2, "d_model": 96, "d_ff": 384, "num_heads": 4, "d_kv": 32},
    "letter": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 128, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
    "tiger": {"num_layers": 4, "num_decoder_layers": 4, "d_model": 384, "d_ff": 1024, "num_heads": 6, "d_kv": 64},
}
PROMPTS = ("bare", "continuation", "instruction")
OVERFLOWS = ("error", "drop_oldest")
SCRATCH_DROPOUT = 0.2
CAUSAL_INIT_STD = 0.04  # at width 128; with a tied head this learns at lr 2e-3 from the first steps


@dataclass
class GeneratorOptions:
    """Recipe section `generator`."""

    kind: str = field(default="causal", metadata={"help": "causal (decoder-only) or seq2seq (T5)"})
    size: str = field(
        default="small",
        metadata={
            "help": "from scratch: causal tiny|small (CPU) or medium|large (5 M and 26 M weights, for a GPU), seq2seq "
            "tiny|small (CPU), letter or tiger; unused with a backbone"
        },
    )
    backbone: str | None = field(
        default=None,
        metadata={"help": "pretrained causal or seq2seq model, Hub id or directory; null trains from scratch"},
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a backbone on the Hub"})
    prompt: str = field(
        default="bare",
        metadata={
            "help": "bare (SIDs alone), or in words for a backbone: continuation (causal; the answer goes on with the "
            "list, every next item of a user is learned in one pass) or instruction (the history in a question)"
        },
    )
    row_init: str | None = field(
        default=None,
        metadata={
            "help": "rows of SID tokens in a backbone: text (an anchor's row), codebook (near codes near it), mean or "
            "normal; null is text for causal, normal for seq2seq"
        },
    )
    row_anchor: str = field(default=ANCHOR, metadata={"help": "words that text and codebook start from"})
    max_history: int = field(default=20, metadata={"help": "most recent items in the prompt"})
    overflow: str = field(
        default="error",
        metadata={"help": "prompts longer than a backbone's context: error, or drop_oldest items"},
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": f"dropout in training; null is {SCRATCH_DROPOUT} from scratch, and a backbone's own"},
    )
    num_user_tokens: int = field(default=0, metadata={"help": "hashed user tokens; 0 for none (TIGER: 2000)"})

    def validate(self) -> None:
        """Raise ValueError for a combination that names no generator."""
        sizes = {"causal": CAUSAL_SIZES, "seq2seq": SEQ2SEQ_SIZES}.get(self.kind)
        if sizes is None:
            raise ValueError(f"generator.kind must be causal or seq2seq, got {self.kind!r}")
        for name, known in (("prompt", PROMPTS), ("overflow", OVERFLOWS), ("row_init", (None, *ROW_INITS))):
            if getattr(self, name) not in known:
                choices = ", ".join("null" if choice is None else choice for choice in known)
                raise ValueError(f"generator.{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.backbone is None:
            self._check_scratch(sizes)
        else:
            self._check_backbone()
        for name, least in (("max_history", 1), ("num_user_tokens", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"generator.{name} must be at least {least}, got {getattr(self, name)!r}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(
                f"generator.dropout must be a share from 0 to below 1, got {self.dropout!r}; "
                "0 drops nothing, null keeps a backbone's own"
            )

    @property
    def scratch_dropout(self) -> float:
        """Dropout of a model from scratch."""
        return SCRATCH_DROPOUT if self.dropout is None else self.dropout

    def _check_scratch(self, sizes: dict[str, dict[str, int]]) -> None:
        if self.size not in sizes:
            raise ValueError(f"generator.size of kind {self.kind} must be one of {sorted(sizes)}, got {self.size!r}")
        if self.prompt != "bare" or self.row_init is not None:
            raise ValueError(
                f"generator.prompt={self.prompt!r} and row_init={self.row_init!r} need a generator.backbone: a model "
                "from scratch knows no words; leave them out, or name a backbone"
            )

    def _check_backbone(self) -> None:
        if self.kind == "seq2seq" and self.prompt == "continuation":
            raise ValueError(
                "generator.prompt 'continuation' is for generator.kind causal, got seq2seq, whose answer is a text of "
                "its own; use instruction or bare"
            )
        if self.kind == "causal" and self.dropout:
            raise ValueError(
                f"generator.dropout of a pretrained causal model must be null, got {self.dropout!r}; adapter.dropout "
                "regularises LoRA"
            )
        if self.num_user_tokens and self.prompt != "bare":
            raise ValueError(
                f"generator.num_user_tokens needs generator.prompt 'bare', got {self.prompt!r}; set it to 0"
            )


@dataclass(frozen=True)
class Backbone:
    """A generator ready for training.

    Attributes:
        model: with an adapter where the recipe asks for one.
        vocabulary: the tokens it speaks.
        layouts: prompts of histories, the one that recommends first.
        max_history: items of a history that fit.
        tokenizer: of a pretrained model.
        base: the pretrained model that the adapter belongs to; None where all weights are trained.
    """

    model: PreTrainedModel
    vocabulary: SidVocabulary
    layouts: tuple[PromptLayout, ...]
    max_history: int
    tokenizer: PreTrainedTokenizerBase | None = None
    base: BaseModel | None = None

    @property
    def is_causal(self) -> bool:
        """Tell whether the model is decoder-only."""
        return not self.model.config.is_encoder_decoder

    @property
    def is_pretrained(self) -> bool:
        """Tell whether the model knows words."""
        return self.tokenizer is not None

    def prompts(self, catalog: Catalog) -> list[PromptBuilder]:
        """Return the prompts of a catalog, the one that recommends first."""
        return [
            PromptBuilder.for_catalog(
                catalog, self.vocabulary, is_causal=self.is_causal, max_history=self.max_history, layout=layout
            )
            for layout in self.layouts
        ]

    @property
    def context(self) -> int | None:
        """Positions that the model has; None for one without a limit."""
        return context_of(self.model)

    def conversation(self) -> Conversation:
        """Return the token ids of templates under this backbone's tokenizer."""
        return Conversation(self.tokenizer, self.vocabulary, is_causal=self.is_causal)


def build_backbone(
    options: GeneratorOptions,
    catalog: Catalog,
    *,
    seed: int,
    adapter: AdapterOptions | None = None,
    tasks: TaskOptions | None = None,
    level_vectors: Sequence[Tensor | None] = (),
) -> Backbone:
    """Build or load the generator of a recipe; new weights depend on `seed` alone.

    Args:
        options: section `generator`.
        catalog: its level sizes are those of the vocabulary.
        seed: of weights and rows that are not pretrained.
        adapter: section `adapter`; LoRA where it has a rank.
        tasks: section `tasks`, which says where prompt templates come from.
        level_vectors: code vectors of the quantizer's levels, for rows that start from them.

    Raises:
        ValueError: for options that name no generator, or that the backbone can't have.
        OSError: where a backbone can't be loaded.
    """
    options.validate()
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=options.num_user_tokens)
    is_causal = options.kind == "causal"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.backbone is not None:
            adapter, tasks = adapter or AdapterOptions(), tasks or TaskOptions()
            return _load(options, vocabulary, adapter, tasks, level_vectors, seed=seed)
        model = _new_causal(options, vocabulary) if is_causal else _new_seq2seq(options, vocabulary)
        layout = PromptLayout.bare(vocabulary, is_causal=is_causal)
        return Backbone(model, vocabulary, (layout,), options.max_history)


def _new_causal(options: GeneratorOptions, vocabulary: SidVocabulary) -> LlamaForCausalLM:
    positions = len(vocabulary.level_sizes) * (options.max_history + 1) + 2
    shape = CAUSAL_SIZES[options.size]
    # a product over d inputs grows with sqrt(d): wider models start with logits and gates as large as those of 128
    shrink = min(1.0, (128 / shape["hidden_size"]) ** 0.5)
    config = LlamaConfig(
        vocab_size=vocabulary.size,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        initializer_range=CAUSAL_INIT_STD * shrink,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
        pad_token_id=vocabulary.pad_id,
        **shape,
    )
    return LlamaForCausalLM(config)


def _new_seq2seq(options: GeneratorOptions, vocabulary: SidVocabulary) -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=vocabulary.size,
        dropout_rate=options.scratch_dropout,
        feed_forward_proj="relu",
        decoder_start_token_id=vocabulary.pad_id,
        pad_token_id=vocabulary.pad_id,
        eos_token_id=vocabulary.eos_id,
        **SEQ2SEQ_SIZES[options.size],
    )
    return T5ForConditionalGeneration(config)


def _load(
    options: GeneratorOptions,
    vocabulary: SidVocabulary,
    adapter: AdapterOptions,
    tasks: TaskOptions,
    level_vectors: Sequence[Tensor | None],
    *,
    seed: int,
) -> Backbone:
    """Load a pretrained model and give it the vocabulary, and LoRA where it is asked for."""
    name, is_causal = str(options.backbone), options.kind == "causal"
    model = load_model(name, is_causal=is_causal, revision=options.revision, **_dropout_of(options, name))
    tokenizer = load_tokenizer(name, revision=options.revision)
    digest = None if adapter.r is None else weights_digest(model)
    extended = vocabulary.extend(
        tokenizer,
        model,
        row_init=options.row_init or ("text" if is_causal else "normal"),
        anchor=options.row_anchor,
        code_vectors=code_vectors(level_vectors, vocabulary),
        seed=seed,
    )
    logger.info("%s: %d SID tokens added, vocabulary now %d", name, len(extended.tokens), len(tokenizer))
    conversation = Conversation(tokenizer, extended, is_causal=is_causal)
    layouts = layouts_of(options.prompt, conversation, templates=tasks.templates, paraphrases=tasks.paraphrases)
    max_history = fitting_history(
        layouts,
        levels=len(extended.level_sizes),
        max_history=options.max_history,
        context=context_of(model),
        overflow=options.overflow,
    )
    if digest is None:
        return Backbone(model, extended, tuple(layouts), max_history, tokenizer)
    base = BaseModel(name, commit_of(name, options.revision), digest, len(extended.tokens))
    return Backbone(add_adapter(model, adapter, extended), extended, tuple(layouts), max_history, tokenizer, base)


def _dropout_of(options: GeneratorOptions, name: str) -> dict[str, Any]:
    if options.dropout is None or options.kind == "causal":
        return {}
    config = AutoConfig.from_pretrained(name, revision=options.revision)
    key = "dropout_rate" if hasattr(config, "dropout_rate") else "dropout"  # T5's name, and that of the others
    return {key: options.dropout}
