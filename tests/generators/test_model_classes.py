"""A method with model classes of its own: built, loaded from a backbone, trained, saved and loaded."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import fit_generator, train_generator, training_examples
from cost_hf.generators.model_classes import ModelClasses
from cost_hf.generators.options import AdapterOptions, TrainingOptions
from cost_hf.recommenders.base import Recommender
from cost_hf.search.cached_decoders import unsupported_reason
from tests.generators.backbone_toys import causal_backbone, seq2seq_backbone
from tests.recommenders.toys import recommender_of, toy_catalog

CATALOG = toy_catalog(30, (6, 6))
SEQUENCES = [np.arange(start, start + 5) % 30 for start in range(30)]
USERS = [f"u{number}" for number in range(30)]


class DenseT5Config(T5Config):
    model_type = "test_dense_t5"

    text_dim: int = 0


class DenseLlamaConfig(LlamaConfig):
    model_type = "test_dense_llama"

    text_dim: int = 0


class DenseHead:
    """A linear map of item vectors, whose loss joins that of the codes where a batch has item rows."""

    decodes_like_base = True

    def __init__(self, config):
        super().__init__(config)
        if config.text_dim:
            self.dense = nn.Linear(config.text_dim, config.hidden_size)
            self.post_init()

    def forward(self, *args, item_rows=None, **kwargs):
        output = super().forward(*args, **kwargs)
        if item_rows is not None and output.loss is not None:
            output.loss = output.loss + self.dense(item_rows[..., None].expand(-1, -1, 4).float()).pow(2).mean()
        return output


class DenseT5(DenseHead, T5ForConditionalGeneration):
    config_class = DenseT5Config


class DenseForCausalLM(DenseHead, LlamaForCausalLM):
    config_class = DenseLlamaConfig
    accepts_loss_kwargs = False


AutoConfig.register("test_dense_t5", DenseT5Config)
AutoConfig.register("test_dense_llama", DenseLlamaConfig)
AutoModelForSeq2SeqLM.register(DenseT5Config, DenseT5)
AutoModelForCausalLM.register(DenseLlamaConfig, DenseForCausalLM)
CLASSES = {"t5": DenseT5, "llama": DenseForCausalLM}
OWN = {"causal": DenseForCausalLM, "seq2seq": DenseT5}
BACKBONES = {"causal": causal_backbone, "seq2seq": seq2seq_backbone}


def build(kind: str, *, text_dim: int = 4, **options: Any):
    return build_backbone(
        GeneratorOptions(kind=kind, **({"size": "tiny"} | options)),
        CATALOG,
        seed=3,
        model_classes=ModelClasses(CLASSES, {"text_dim": text_dim}),
    )


@pytest.mark.parametrize("text_dim", [0, 4])
@pytest.mark.parametrize("kind", OWN)
def test_a_class_of_a_method_has_the_weights_of_the_stock_model_and_its_own_beside_them(kind, text_dim):
    stock = build_backbone(GeneratorOptions(kind=kind, size="tiny"), CATALOG, seed=3)
    own = build(kind, text_dim=text_dim)

    assert type(own.model) is OWN[kind] and own.model.config.text_dim == text_dim
    weights = own.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in stock.model.state_dict().items())
    assert sorted(weights.keys() - stock.model.state_dict().keys()) == ["dense.bias", "dense.weight"][:text_dim]
    assert own.layouts == stock.layouts
    assert unsupported_reason(own.model) is None


@pytest.mark.parametrize("kind", OWN)
def test_a_backbone_is_loaded_into_the_class_of_the_method(kind, tmp_path):
    directory = BACKBONES[kind](tmp_path / "backbone")
    stock = build_backbone(GeneratorOptions(kind=kind, backbone=str(directory)), CATALOG, seed=3)
    own = build(kind, backbone=str(directory))

    assert type(own.model) is OWN[kind] and own.model.config.model_type == OWN[kind].config_class.model_type
    weights = own.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in stock.model.state_dict().items())
    assert weights["dense.weight"].shape == (32, 4) and weights["dense.weight"].isfinite().all()
    assert torch.equal(weights["dense.weight"], build(kind, backbone=str(directory)).model.state_dict()["dense.weight"])


def test_config_fields_replace_those_of_the_stock_generator():
    classes = ModelClasses(CLASSES, {"text_dim": 0, "initializer_factor": 0.02, "dropout_rate": 0.3})
    options = GeneratorOptions(kind="seq2seq", size="tiny")

    model = build_backbone(options, CATALOG, seed=3, model_classes=classes).model

    stock = build_backbone(options, CATALOG, seed=3).model
    assert model.config.dropout_rate == 0.3
    torch.testing.assert_close(model.shared.weight, stock.shared.weight * 0.02)


def test_dropout_of_a_backbone_is_set_in_the_class_of_the_method(tmp_path):
    directory = seq2seq_backbone(tmp_path / "backbone")

    assert build("seq2seq", backbone=str(directory), dropout=0.3).model.config.dropout_rate == 0.3
    assert build("seq2seq", backbone=str(directory), dropout=0.3).model.decoder.dropout.p == 0.3


def test_what_a_method_has_no_class_for_is_named(tmp_path):
    directory = causal_backbone(tmp_path / "gpt2", "gpt2")
    with pytest.raises(ValueError, match=r"model classes for t5, llama, got a gpt2; choose another generator.kind"):
        build("causal", backbone=str(directory))
    with pytest.raises(ValueError, match="model classes for llama, got a t5"):
        build_backbone(
            GeneratorOptions(kind="seq2seq"), CATALOG, seed=0, model_classes=ModelClasses({"llama": DenseForCausalLM})
        )
    with pytest.raises(ValueError, match=r"adapter.r=4 trains LoRA on models of transformers alone"):
        build_backbone(
            GeneratorOptions(backbone=str(causal_backbone(tmp_path / "llama"))),
            CATALOG,
            seed=0,
            adapter=AdapterOptions(r=4),
            model_classes=ModelClasses(CLASSES, {"text_dim": 4}),
        )


@pytest.mark.trains
@pytest.mark.parametrize("kind", OWN)
def test_a_generator_of_a_method_trains_saves_and_loads_by_its_auto_class(kind, tmp_path):
    backbone = build(kind, dropout=0.1)
    prompts = backbone.prompts(CATALOG)
    training = TrainingOptions(epochs=2, batch_size=16, warmup_steps=0, gradient_accumulation=2)
    dataset, collate = training_examples(backbone, prompts, SEQUENCES, USERS, training=training)
    before = backbone.model.dense.weight.detach().clone()

    class Collator:
        packs = getattr(collate, "packs", False)

        def __call__(self, examples):
            batch = collate(examples)
            return batch | {"item_rows": batch["input_ids"]}

    fit_generator(
        backbone,
        dataset,
        Collator(),
        generator=GeneratorOptions(kind=kind, size="tiny", dropout=0.1),
        training=training,
        validate=lambda model: {"ndcg@10": 0.0},
        output_dir=tmp_path / "work",
        seed=0,
    )
    recommender = recommender_of(backbone, CATALOG)
    recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")

    assert not torch.equal(backbone.model.dense.weight, before)
    assert type(loaded.generator) is OWN[kind]
    assert loaded.generator.config.text_dim == 4
    weights = loaded.generator.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in backbone.model.state_dict().items())
    assert len(loaded.recommend(["item001"], top_k=5)) == 5


@pytest.mark.trains
@pytest.mark.parametrize("kind", OWN)
def test_a_class_without_additions_trains_as_the_stock_model_to_the_last_bit(kind, tmp_path):
    trained = []
    for name in ("stock", "own"):
        options = GeneratorOptions(kind=kind, size="tiny", dropout=0.1)
        backbone = build_backbone(options, CATALOG, seed=3) if name == "stock" else build(kind, text_dim=0, dropout=0.1)
        if name == "own" and kind == "causal":
            backbone.model.accepts_loss_kwargs = True
        train_generator(
            backbone,
            backbone.prompts(CATALOG),
            SEQUENCES,
            USERS,
            generator=options,
            training=TrainingOptions(epochs=1, batch_size=16, warmup_steps=1),
            validate=lambda model: {"ndcg@10": 0.0},
            output_dir=tmp_path / name,
            seed=0,
        )
        trained.append(backbone.model.state_dict())

    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
