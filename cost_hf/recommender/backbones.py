"""The generators: causal from scratch, T5 from scratch, or a pretrained seq2seq whose vocabulary is extended.

From-scratch models know SID tokens only. A saved generator is a stock `transformers` model: it loads with its Auto
class alone. Sizes: `letter` is the generator of LETTER's released code (d_model 128), `tiger` the one whose parameter
count matches TIGER's text (d_model 384; arXiv 2305.05065 section 4 gives both 128 and 13 M, which do not fit together).
"""

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from cost_hf.semantic_ids.catalog import Catalog
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
        default=None, metadata={"help": "pretrained seq2seq model, Hub id or directory; null trains from scratch"}
    )
    max_history: int = field(default=20, metadata={"help": "most recent items in the prompt"})
    dropout: float | None = field(default=0.2, metadata={"help": "dropout in training; null keeps a backbone's own"})
    num_user_tokens: int = field(default=0, metadata={"help": "hashed user tokens; 0 for none (TIGER: 2000)"})

    def validate(self) -> None:
        """Raise ValueError for a combination that names no generator."""
        sizes = {"causal": CAUSAL_SIZES, "seq2seq": SEQ2SEQ_SIZES}.get(self.kind)
        if sizes is None:
            raise ValueError(f"generator.kind must be causal or seq2seq, got {self.kind!r}")
        if self.backbone is not None and self.kind == "causal":
            raise ValueError(
                f"generator.backbone={self.backbone!r} needs generator.kind=seq2seq, got kind={self.kind!r}, which is "
                "trained from scratch; set generator.backbone to null or generator.kind to seq2seq"
            )
        if self.backbone is None and self.size not in sizes:
            raise ValueError(f"generator.size of kind {self.kind} must be one of {sorted(sizes)}, got {self.size!r}")
        for name, least in (("max_history", 1), ("num_user_tokens", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"generator.{name} must be at least {least}, got {getattr(self, name)!r}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(
                f"generator.dropout must be a share from 0 to below 1, got {self.dropout!r}; "
                "0 drops nothing, null keeps a backbone's own"
            )


@dataclass(frozen=True)
class Backbone:
    """A generator ready for training: model, the vocabulary it speaks, and its tokenizer if it has one."""

    model: PreTrainedModel
    vocabulary: SidVocabulary
    tokenizer: PreTrainedTokenizerBase | None = None


def build_backbone(options: GeneratorOptions, catalog: Catalog, *, seed: int) -> Backbone:
    """Build or load the generator of a recipe; weights depend on `seed` alone.

    Raises:
        ValueError: for options that name no generator.
        OSError: where a backbone can't be loaded.
    """
    options.validate()
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=options.num_user_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.backbone is not None:
            return _load_seq2seq(options, vocabulary, seed=seed)
        if options.kind == "causal":
            return Backbone(_new_causal(options, vocabulary), vocabulary)
        return Backbone(_new_seq2seq(options, vocabulary), vocabulary)


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
        dropout_rate=options.dropout or 0.0,
        feed_forward_proj="relu",
        decoder_start_token_id=vocabulary.pad_id,
        pad_token_id=vocabulary.pad_id,
        eos_token_id=vocabulary.eos_id,
        **SEQ2SEQ_SIZES[options.size],
    )
    return T5ForConditionalGeneration(config)


def _load_seq2seq(options: GeneratorOptions, vocabulary: SidVocabulary, *, seed: int) -> Backbone:
    config = AutoConfig.from_pretrained(options.backbone)
    name = "dropout_rate" if hasattr(config, "dropout_rate") else "dropout"  # T5's name, and that of the others
    overrides: dict[str, Any] = {} if options.dropout is None else {name: options.dropout}
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.backbone, dtype=torch.float32, **overrides)
    extended = vocabulary.extend(tokenizer, model, seed=seed)
    logger.info("%s: %d SID tokens added, vocabulary now %d", options.backbone, len(extended.tokens), len(tokenizer))
    return Backbone(model, extended, tokenizer)
