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

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.collation import CausalCollator, Seq2SeqCollator
from cost_hf.generators.prompts import PromptBuilder, PromptLayout
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary


def toy_catalog(items: int = 40, level_sizes: tuple[int, ...] = (4, 5, 3), seed: int = 0, **options) -> Catalog:
    codes = np.stack([np.random.default_rng([seed, size]).integers(0, size, items) for size in level_sizes], axis=1)
    return Catalog.from_codes(
        [f"item{row:03d}" for row in range(items)], codes, level_sizes=level_sizes, quantizer_digest="toy", **options
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


def toy_batch(prompts: PromptBuilder, examples) -> dict[str, torch.Tensor]:
    """The training batch of rows as a data set gives them: (user, rows, first label), or (user, history, target)."""
    write = prompts.sequence if prompts.learns_all_positions else prompts.pair
    pad_id = prompts.vocabulary.pad_id
    collate = CausalCollator(pad_id) if prompts.is_causal else Seq2SeqCollator(pad_id)
    return collate([write(*example) for example in examples])


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


def recommender_of(backbone: Backbone, catalog: Catalog, **parts) -> GenerativeRecommender:
    """The recommender of a trained backbone in which every item has one click."""
    return GenerativeRecommender(backbone, catalog, popularity=np.ones(len(catalog)), **{"num_beams": 10} | parts)


def toy_backbone(generator, vocabulary: SidVocabulary, max_history: int = 6) -> Backbone:
    """A generator that reads bare histories."""
    layout = PromptLayout.bare(vocabulary, is_causal=not generator.config.is_encoder_decoder)
    return Backbone(generator, vocabulary, (layout,), max_history)


def toy_recommender(catalog: Catalog | None = None, build=toy_causal, **options) -> GenerativeRecommender:
    catalog = toy_catalog(TOY_ITEMS, (4, 5, 3)) if catalog is None else catalog
    vocabulary = SidVocabulary.for_catalog(catalog)
    settings = {"popularity": TOY_CLICKS, "num_beams": 8} | options
    backbone = toy_backbone(build(vocabulary), vocabulary, settings.pop("max_history", 6))
    return GenerativeRecommender(backbone, catalog, **settings)


THEMES, PLACES = ("football", "theatre", "weather", "markets"), ("lisbon", "oslo", "quito", "dakar", "lima")
TOY_TEXTS = [f"{theme} in {place}" for theme in THEMES for place in PLACES]


def toy_text_recommender(build=toy_causal, *, titles: bool = True, **options) -> GenerativeRecommender:
    """A recommender whose SIDs come from texts: a fitted lsa, a seeded quantizer without layers, a random generator."""
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS))
    torch.manual_seed(0)
    width = vectors.shape[1]
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 5)))
    for level, codes in enumerate((vectors[::5], vectors[:5] - vectors[0])):
        quantizer.quantizer.replace_codes(level, torch.arange(len(codes)), codes)
    catalog = Catalog.from_embeddings(TOY_IDS, vectors, quantizer, append_size=8, titles=TOY_TEXTS if titles else None)
    encoder = ItemEncoder.of(lsa, VectorOptions())
    return toy_recommender(catalog, build, quantizer=quantizer, encoder=encoder, **options)


# a brand fills the first ranks of many lists, and the last item has no values
TOY_COLUMNS = {
    "price": [*(2.5 * row for row in range(TOY_ITEMS - 1)), None],
    "brand": [*(("Alba", "Alba", "Alba", "Brisa", "Corva")[row % 5] for row in range(TOY_ITEMS - 1)), None],
    "in_stock": [*(row % 3 > 0 for row in range(TOY_ITEMS - 1)), None],
    "tags": [*([PLACES[row % 5], THEMES[row // 5]] for row in range(TOY_ITEMS - 1)), None],
}


def with_columns(system):
    """Return a recommender with the toy columns of its first items, added to its catalog."""
    system.add_columns(TOY_IDS, TOY_COLUMNS)
    return system
