"""Tiny seeded catalogs and generators shared by the recommender tests."""

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
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


def toy_decoder(model_type: str, vocabulary: SidVocabulary, seed: int = 0, **options):
    """A tiny decoder-only model of any architecture that shares the names of Llama's configuration."""
    torch.manual_seed(seed)
    options = {"num_key_value_heads": 2} | options
    config = AutoConfig.for_model(
        model_type,
        vocab_size=vocabulary.size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=vocabulary.pad_id,
        bos_token_id=vocabulary.begin_id,
        eos_token_id=vocabulary.end_id,
        **options,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def toy_qwen2(vocabulary: SidVocabulary, seed: int = 0):
    return toy_decoder("qwen2", vocabulary, seed, num_key_value_heads=1)


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


def toy_t5(vocabulary: SidVocabulary, seed: int = 0, family: str = "t5", **options):
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
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
    return AutoModelForSeq2SeqLM.from_config(config).eval()


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
