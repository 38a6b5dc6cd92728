"""STORE-style method: what belongs together, where the second adapter starts, and what is said of texts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import cost_hf
from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.options import AdapterOptions, GeneratorOptions
from cost_hf.methods.base import Fitted, methods, variants
from cost_hf.methods.store.options import StoreOptions
from cost_hf.methods.store.reconstruction import describe_reconstruction
from cost_hf.methods.store.start import start_adapter
from cost_hf.quantizers.base import CodesOptions
from cost_hf.recommenders.base import Recommender
from tests.generators.backbone_toys import causal_backbone
from tests.methods.store.store_toys import TEXTS, store_recommender
from tests.quantizers.text_slots.slot_toys import slot_model
from tests.recommenders.toys import toy_catalog
from tests.runs import tiny_fields

LAYERS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return causal_backbone(tmp_path_factory.mktemp("store") / "base")


def adapted(base, **adapter) -> Any:
    options = GeneratorOptions(backbone=str(base), prompt="continuation", max_history=5)
    return build_backbone(options, toy_catalog(), seed=0, adapter=AdapterOptions(**adapter)).model


def test_the_defaults_are_valid_and_those_of_the_rows_too():
    StoreOptions().validate()

    rows = {name: row for name, row in variants().items() if row.method == "store"}
    assert set(rows) == {"store", "store_contrastive", "store_alignment", "store_residual", "store_fresh"}
    assert methods()["store"](StoreOptions()).requires_texts


def with_sections(**sections) -> StoreOptions:
    options = StoreOptions()
    for name, changes in sections.items():
        for field, value in changes.items():
            setattr(getattr(options, name), field, value)
    return options


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"codes": {"backbone": "org/other"}}, r"one causal language model for codes and recommendations, got .*other"),
        ({"generator": {"revision": "v2"}}, r"one causal language model .* generator.backbone=.* \(revision 'v2'"),
        ({"adapter": {"r": None}}, r"adapter.r must be a rank, got null"),
        (
            {"adapter": {"r": 4}},
            r"the same rank, scale and layers, got .*\(4, 8, None\) and, of codes, \(8,",
        ),
        ({"adapter": {"target_modules": LAYERS}}, r"start.from_tokenizer to false"),
    ],
)
def test_what_does_not_belong_together_is_refused(sections, message):
    with pytest.raises(ValueError, match=message):
        with_sections(**sections).validate()


def test_other_codes_are_refused_and_another_rank_is_not_where_the_adapter_starts_from_nothing():
    options = StoreOptions(codes=CodesOptions.of("cost"))
    with pytest.raises(ValueError, match=r"makes of texts, got codes.kind='cost' .*; set them to text_slots and null"):
        options.validate()

    with_sections(adapter={"r": 4}, start={"from_tokenizer": False}).validate()


def test_the_second_adapter_starts_from_the_first(base):
    quantizer = slot_model(base)
    generator = adapted(base, r=2, target_modules=LAYERS)
    rows = generator.get_input_embeddings().weight.detach().clone()

    start_adapter(generator, quantizer)

    weights = dict(generator.named_parameters())
    for key in quantizer.adapter.inner:
        path = f"base_model.model.{key.replace('/', '.')}"
        assert torch.equal(weights[f"{path}.lora_A.default.weight"], quantizer.adapter.inner[key])
        assert torch.equal(weights[f"{path}.lora_B.default.weight"], quantizer.adapter.outer[key])
    ids = torch.tensor(quantizer.tokenized(TEXTS[:1]))
    told = generator(ids).logits[..., : quantizer.config.vocab_size]
    torch.testing.assert_close(told, quantizer.base(ids).logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(generator.get_input_embeddings().weight, rows)


@pytest.mark.parametrize("adapter", [{"r": 3, "target_modules": LAYERS}, {"r": 2, "target_modules": ["q_proj"]}])
def test_an_adapter_of_another_shape_does_not_start_from_it(base, adapter):
    with pytest.raises(ValueError, match=r"must have the layers and the rank .*, got another at model"):
        start_adapter(adapted(base, **adapter), slot_model(base))


@pytest.mark.parametrize("fit_rows", [None, np.arange(30) < 20])
def test_reconstruction_says_how_texts_of_the_training_come_back_and_what_a_step_took(base, fit_rows):
    logged = {
        "text_perplexity_slots": 2.0,
        "text_perplexity_codes": 3.0,
        "text_perplexity_others": 9.0,
        "steps": 4,
        "tokens_per_step": 100.0,
        "seconds_per_step": 0.5,
    }
    recommender = store_recommender(base)
    fitted = Fitted(recommender, parts={"codes": SimpleNamespace(history=[{"loss": 1.0}, logged])})
    workspace: Any = SimpleNamespace(
        text_vectors=lambda: SimpleNamespace(texts=tuple(TEXTS)), data=SimpleNamespace(fit_rows=fit_rows)
    )
    recommender.quantizer.write_texts = lambda slots: TEXTS[: len(slots)]  # in order, as items are asked for

    found = describe_reconstruction(fitted, workspace, seed=0)

    assert found["perplexity"] == {"slots": 2.0, "codes": 3.0, "others": 9.0}
    assert found["step"] == {"steps": 4, "tokens_per_step": 100.0, "seconds_per_step": 0.5}
    assert found["texts"]["cases"] == (30 if fit_rows is None else 20)
    assert found["texts"]["slots"]["exact_match"] == found["texts"]["codes"]["rougeL"] == 1.0


@pytest.mark.trains
def test_a_run_learns_its_tasks_and_comes_back_with_one_language_model(base, tmp_path):
    own = {"data.synthetic_users": 30, "data.synthetic_items": 48, "generator.max_history": 5}
    own |= {"codes.backbone": str(base), "generator.backbone": str(base), "codes.slot_dim": 8, "codes.max_tokens": 16}
    own |= {"codes.adapter_rank": 2, "adapter.r": 2, "codes.adapter_modules": LAYERS, "adapter.target_modules": LAYERS}
    own |= {"codes.level_sizes": [8, 8], "codes.epochs": 1, "training.epochs": 1, "evaluation.bootstrap_draws": 20}
    fields = tiny_fields(method="store", codes__kind="text_slots") | own | {"evaluation.baselines": ["popularity"]}

    run = cost_hf.train(recipe="cost_quickstart", overrides=fields, output_dir=tmp_path / "run")

    found = run.results
    assert set(found["reconstruction"]) == {"texts", "perplexity", "step"}
    assert {"slots", "codes"} <= set(found["reconstruction"]["texts"]) and set(found["titles"]) == {"item_to_title"}
    loaded = Recommender.from_pretrained(tmp_path / "run")
    history = list(loaded.catalog.item_ids[:3])
    assert loaded.recommend(history, top_k=5) == run.recommender.recommend(history, top_k=5)
    before = loaded.catalog.codes.copy()
    loaded.add_items(["new"], ["a red lamp"])
    assert (loaded.catalog.codes[:-1] == before).all()
    assert (loaded.catalog.codes[-1, :2] == run.recommender.encode(["a red lamp"])[0]).all()
    quantizer: Any = loaded.quantizer
    own_words = quantizer.base.get_input_embeddings().weight
    assert own_words.data_ptr() in {weight.data_ptr() for weight in loaded.network.parameters()}
