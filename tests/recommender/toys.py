"""Tiny seeded catalogs and generators shared by the recommender tests."""

import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from cost_hf.recommender.recommender import Recommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary


def toy_catalog(items: int = 40, level_sizes: tuple[int, ...] = (4, 5, 3), seed: int = 0, **options) -> Catalog:
    codes = np.stack([np.random.default_rng([seed, size]).integers(0, size, items) for size in level_sizes], axis=1)
    return Catalog.from_codes(
        [f"item{row:03d}" for row in range(items)], codes, level_sizes=level_sizes, lineage="toy", **options
    )


def toy_causal(vocabulary: SidVocabulary, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,  # spread scores: near ties would hide an error
        pad_token_id=vocabulary.pad_id,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def toy_qwen2(vocabulary: SidVocabulary, seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary.size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        pad_token_id=vocabulary.pad_id,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
    )
    return Qwen2ForCausalLM(config).eval()


def toy_gpt2(vocabulary: SidVocabulary, seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary.size,
        n_positions=128,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        pad_token_id=vocabulary.pad_id,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
    )
    return GPT2LMHeadModel(config).eval()


def toy_t5(vocabulary: SidVocabulary, seed: int = 0, **options) -> T5ForConditionalGeneration:
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary.size,
        d_model=16,
        d_ff=32,
        d_kv=8,
        num_heads=2,
        num_layers=2,
        num_decoder_layers=2,
        decoder_start_token_id=vocabulary.pad_id,
        pad_token_id=vocabulary.pad_id,
        eos_token_id=vocabulary.eos_id,
        **options,
    )
    return T5ForConditionalGeneration(config).eval()


def toy_histories(catalog: Catalog, batch: int, longest: int = 6, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    histories = np.full((batch, longest), -1, dtype=np.int64)
    for line in histories:
        length = generator.integers(1, longest + 1)
        line[:length] = generator.integers(0, len(catalog), length)
    return torch.from_numpy(histories)


TOY_ITEMS = 20
TOY_IDS = [f"item{row:03d}" for row in range(TOY_ITEMS)]
TOY_CLICKS = np.arange(TOY_ITEMS)  # the last item is the most popular


def toy_recommender(catalog: Catalog | None = None, build=toy_causal, **options) -> Recommender:
    catalog = toy_catalog(TOY_ITEMS, (4, 5, 3)) if catalog is None else catalog
    vocabulary = SidVocabulary.for_catalog(catalog)
    settings = {"popularity": TOY_CLICKS, "max_history": 6, "num_beams": 8} | options
    return Recommender(build(vocabulary), catalog, vocabulary, **settings)
