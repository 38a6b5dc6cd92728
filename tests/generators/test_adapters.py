"""LoRA with the rows of SID tokens: what is trained, saved, resumed, merged and refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cost_hf.base_models import weights_digest
from cost_hf.checkpoints import last_complete_checkpoint
from cost_hf.files import read_json
from cost_hf.generators.adapters import add_adapter
from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import AdapterOptions, TrainingOptions
from cost_hf.generators.pretrained import load_model
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import renew_files, update_manifest
from cost_hf.search.beam_search import beam_search, make_prompt
from cost_hf.search.generate_search import generate_search
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.generators.backbone_toys import causal_backbone, seq2seq_backbone
from tests.near_ties import assert_same_list, assert_same_rows
from tests.recommenders.toys import recommender_of, toy_catalog
from tests.runs import child_environment

pytestmark = pytest.mark.trains
CATALOG = toy_catalog(40, (8, 8))
SEQUENCES = [(start + np.arange(5)) % 40 for start in range(32)]
LLAMA = ["q_proj", "v_proj"]
CASES = {
    "llama": ("llama", "continuation", LLAMA, {}),
    "llama_untied": ("llama", "instruction", LLAMA, {"tie_word_embeddings": False}),
    "qwen2": ("qwen2", "continuation", "all-linear", {}),
    "gpt2": ("gpt2", "bare", None, {}),
    "t5": ("t5", "instruction", ["q", "v"], {}),
    "flan_t5": ("t5", "bare", ["q", "v"], {"tie_word_embeddings": False}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    family, prompt, targets, options = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "base"
    make = seq2seq_backbone if family == "t5" else lambda path, **o: causal_backbone(path, family, **o)
    make(folder, **options)
    kind = "seq2seq" if family == "t5" else "causal"
    return GeneratorOptions(kind=kind, backbone=str(folder), prompt=prompt, max_history=5), targets


@pytest.fixture
def llama(tmp_path):
    directory = causal_backbone(tmp_path / "base")
    return GeneratorOptions(backbone=str(directory), prompt="continuation", max_history=5)


def backbone_of(options, targets=LLAMA, **adapter):
    return build_backbone(
        options, CATALOG, seed=0, adapter=AdapterOptions(**{"r": 4, "target_modules": targets, **adapter})
    )


def fit(directory, backbone, options, *, stop_after=None, **training):
    calls = []

    def validate(model):
        calls.append(model)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return {"ndcg@10": float(len(calls))}

    settings = {"epochs": 3, "batch_size": 8, "warmup_steps": 1, "learning_rate": 1e-2, "precision": "fp32"} | training
    return train_generator(
        backbone,
        backbone.prompts(CATALOG),
        SEQUENCES,
        ["u"] * len(SEQUENCES),
        generator=options,
        training=TrainingOptions(**settings),
        validate=validate,
        output_dir=directory,
        seed=0,
    )


def trained(tmp_path, options, targets=LLAMA) -> GenerativeRecommender:
    backbone = backbone_of(options, targets)
    fit(tmp_path / "work", backbone, options, epochs=1)
    return recommender_of(backbone, CATALOG)


@pytest.fixture(scope="module")
def trained_case(case, tmp_path_factory) -> tuple[GenerativeRecommender, Path]:
    """A recommender of every case and its directory, which no test changes."""
    folder = tmp_path_factory.mktemp("trained")
    recommender = trained(folder, *case)
    recommender.save_pretrained(folder / "saved")
    return recommender, folder / "saved"


def answer(recommender):
    """Ask for the whole catalog: with fewer beams than items, rounding may decide which beam goes on."""
    return recommender.recommend([["item001", "item002"], ["item030"]], top_k=40)


def test_adapter_and_sid_rows_train_and_nothing_else(tmp_path, case):
    options, targets = case
    backbone = backbone_of(options, targets)
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}

    result = fit(tmp_path, backbone, options)

    after = result.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name or "trainable_tokens_delta" in name for name in changed)
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_a_saved_adapter_has_no_matrix_and_comes_back_bit_equal(trained_case):
    recommender, saved = trained_case

    weights = load_file(saved / "adapter_model.safetensors")
    loaded = Recommender.from_pretrained(saved)

    rows = {len(weight) for name, weight in weights.items() if "lora_" not in name}
    assert rows == {len(recommender.vocabulary.tokens)}
    assert not (saved / "model.safetensors").exists()
    for left, right in zip(answer(loaded), answer(recommender), strict=True):
        assert_same_list(left, right)
    first = recommender.vocabulary.first_id
    for name, weight in recommender.generator.state_dict().items():
        rows = slice(first if "base_layer" in name and len(weight) > first else None)  # the adapter brings the others
        assert torch.equal(weight[rows], loaded.generator.state_dict()[name][rows]), name
    assert loaded.base == recommender.base
    assert loaded.layout == recommender.layout


def test_a_saved_adapter_is_the_same_model_and_merged_weights_another(tmp_path, trained_case):
    recommender, directory = trained_case
    loaded = Recommender.from_pretrained(directory)

    assert loaded.model_digest == recommender.model_digest
    assert loaded.model_digest == Recommender.from_pretrained(directory).model_digest
    weights = dict(loaded.generator.named_parameters())
    changed = next(weight for name, weight in weights.items() if "lora_B" in name)
    changed.data += 1
    assert loaded.model_digest != recommender.model_digest
    assert recommender.model_digest not in (loaded.merge().model_digest, loaded.model_digest)


def test_merged_weights_answer_alike_load_alone_and_stay_tied(tmp_path, trained_case):
    recommender = Recommender.from_pretrained(trained_case[1])
    expected = answer(recommender)

    recommender.merge().save_pretrained(tmp_path / "merged")
    loaded = Recommender.from_pretrained(tmp_path / "merged")

    assert recommender.merge() is recommender
    assert loaded.base is None
    assert not (tmp_path / "merged" / "adapter_model.safetensors").exists()
    tied = read_json(tmp_path / "merged" / "config.json")["tie_word_embeddings"]
    head, embedding = loaded.generator.get_output_embeddings(), loaded.generator.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    for left, right in zip(answer(loaded), expected, strict=True):
        assert_same_list(left, right)


def test_the_engine_counts_the_adapter_as_generate_does(trained_case):
    recommender, _ = trained_case
    histories = torch.tensor([[1, 2, 3], [7, -1, -1]])
    ids, mask = recommender.prompts.inputs(histories)
    common = {"trie": recommender.trie, "vocabulary": recommender.vocabulary, "num_beams": len(CATALOG)}

    ours = beam_search(recommender.generator, ids, mask, **common)
    stock = generate_search(recommender.generator, make_prompt(ids, mask), mask=None, **common)

    assert_same_rows((ours.items, ours.scores), (stock.items, stock.scores), tolerance=1e-3)


def test_a_fresh_process_gives_the_same_bits(tmp_path, llama):
    recommender = trained(tmp_path, llama)
    recommender.save_pretrained(tmp_path / "saved")
    program = (
        "import sys; from cost_hf import Recommender; r = Recommender.from_pretrained(sys.argv[1]); "
        "print([[(i.item_id, i.score.hex()) for i in a] for a in "
        "r.recommend([['item001', 'item002'], ['item030']], top_k=40)])"
    )

    command = [sys.executable, "-c", program, str(tmp_path / "saved")]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1] == str(
        [[(item.item_id, item.score.hex()) for item in items] for items in answer(recommender)]
    )


def test_checkpoints_of_trainer_hold_no_matrix_either_and_a_stopped_run_goes_on_bit_for_bit(tmp_path, llama):
    straight = fit(tmp_path / "straight", backbone_of(llama), llama)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", backbone_of(llama), llama, stop_after=1)

    checkpoint = last_complete_checkpoint(tmp_path / "stopped" / "checkpoints")
    assert checkpoint is not None
    with safe_open(f"{checkpoint}/adapter_model.safetensors", "pt") as file:
        assert not any(name.endswith(("embed_tokens.weight", "lm_head.weight")) for name in file.keys())  # noqa: SIM118
    resumed = fit(tmp_path / "stopped", backbone_of(llama), llama)

    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_gradient_checkpointing_and_accumulation_change_the_memory_and_not_the_step(tmp_path, llama):
    # one step over all users; Adam turns a gradient near 0 into a whole step either way, so weights can't be compared
    one_step = {"epochs": 1, "batch_size": len(SEQUENCES)}
    plain = fit(tmp_path / "plain", backbone_of(llama), llama, **one_step)
    again = fit(tmp_path / "again", backbone_of(llama), llama, **one_step, gradient_checkpointing=True)
    parts = one_step | {"batch_size": 4, "gradient_accumulation": len(SEQUENCES) // 4}
    summed = fit(tmp_path / "summed", backbone_of(llama), llama, **parts)

    for other in (again, summed):
        assert other.history[0]["step"] == 1
        for name in ("loss", "grad_norm"):
            assert other.history[0][name] == pytest.approx(plain.history[0][name], rel=1e-3), name


def test_the_multiplier_moves_the_sid_rows_faster(tmp_path, llama):
    moved = {}
    for factor in (1.0, 20.0):
        backbone = backbone_of(llama)
        name = next(name for name, _ in backbone.model.named_parameters() if "trainable_tokens_delta" in name)
        start = backbone.model.get_parameter(name).detach().clone()
        options = {"epochs": 1, "learning_rate": 1e-4, "embedding_learning_rate_multiplier": factor}
        result = fit(tmp_path / str(factor), backbone, llama, **options)
        moved[factor] = (result.model.get_parameter(name) - start).abs().max().item()

    assert moved[20.0] > 5 * moved[1.0]


def test_an_adapter_on_other_weights_is_refused_with_both_digests(tmp_path, llama):
    recommender = trained(tmp_path, llama)
    recommender.save_pretrained(tmp_path / "saved")
    causal_backbone(tmp_path / "base", seed=1)
    other = weights_digest(load_model(str(tmp_path / "base"), is_causal=True))

    with pytest.raises(ValueError, match=f"with digest {recommender.base.digest}, and that model now has {other}"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_another_runs_adapter_or_vocabulary_is_refused_with_both_digests(tmp_path, llama):
    trained(tmp_path / "one", llama).save_pretrained(tmp_path / "saved")
    foreign = backbone_of(llama)
    recommender_of(foreign, CATALOG).save_pretrained(tmp_path / "foreign")
    weights = "adapter_model.safetensors"
    whole = (tmp_path / "saved" / weights).read_bytes()

    (tmp_path / "saved" / weights).write_bytes((tmp_path / "foreign" / weights).read_bytes())
    with pytest.raises(ValueError, match=rf"{weights} has sha256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}"):
        Recommender.from_pretrained(tmp_path / "saved")

    (tmp_path / "saved" / weights).write_bytes(whole)
    base = read_json(tmp_path / "saved" / "recommender.json")["base"]
    update_manifest(tmp_path / "saved", base=base | {"added_tokens": 3})
    with pytest.raises(ValueError, match=r"trained with 3 added tokens, and its vocabulary [0-9a-f]{64} has \d+"):
        Recommender.from_pretrained(tmp_path / "saved")

    update_manifest(tmp_path / "saved", base=base)
    vocabulary = json.loads((tmp_path / "saved/vocabulary.json").read_text())
    SidVocabulary((8, 8, 4), first_id=vocabulary["first_id"]).save(tmp_path / "saved")
    renew_files(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"the vocabulary in .* has digest [0-9a-f]{64}, recommender.json asks for"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_a_damaged_adapter_is_named_and_what_it_lacks_is_not_made_up(tmp_path, llama):
    recommender_of(backbone_of(llama), CATALOG).save_pretrained(tmp_path / "saved")
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        path = tmp_path / "saved" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=rf"{name} has sha256 \w+, expected"):
            Recommender.from_pretrained(tmp_path / "saved")
        path.write_bytes(content)

    path = tmp_path / "saved" / "adapter_model.safetensors"
    tensors = load_file(path)
    lost = next(name for name in tensors if "lora_A" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, path)
    renew_files(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"the adapter in .* lacks weights that its configuration defines"):
        Recommender.from_pretrained(tmp_path / "saved")
    path.write_bytes(b"text")
    renew_files(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"the adapter in .* can't be read"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_an_adapter_takes_the_place_of_whole_weights_and_leaves_none_of_them(tmp_path, llama):
    system = recommender_of(backbone_of(llama), CATALOG)
    recommender_of(backbone_of(llama), CATALOG).merge().save_pretrained(tmp_path / "it")
    assert (tmp_path / "it" / "model.safetensors").is_file()

    system.save_pretrained(tmp_path / "it")

    assert not list((tmp_path / "it").glob("model*")) and not (tmp_path / "it" / "custom_generate").exists()
    assert Recommender.from_pretrained(tmp_path / "it").base == system.base


def test_a_base_that_is_gone_is_named(tmp_path, llama):
    recommender = recommender_of(backbone_of(llama), CATALOG)
    recommender.save_pretrained(tmp_path / "saved")
    (tmp_path / "base").rename(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"is an adapter of .*, which can't be loaded .* restore that model"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_the_digest_is_that_of_the_values_whatever_their_precision(tmp_path):
    directory = causal_backbone(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(directory)
    digest = weights_digest(model)

    half = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    assert weights_digest(half) == digest
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 1.0
    assert weights_digest(model) != digest


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["q_prj"],
            "adapter.target_modules names 'q_prj', which LlamaForCausalLM does not have; did you mean 'q_proj'",
        ),
        ("v_pro", "names 'v_pro'.* did you mean 'v_proj'"),
        (["input_layernorm"], "peft can't adapt LlamaForCausalLM at target_modules=.'input_layernorm'"),
    ],
)
def test_target_modules_that_can_not_be_adapted_are_named(llama, targets, message):
    with pytest.raises(ValueError, match=message):
        backbone_of(llama, targets)


def test_a_model_without_linear_layers_is_refused(llama):
    backbone = build_backbone(llama, CATALOG, seed=0)
    backbone.model.model.layers = torch.nn.ModuleList()

    with pytest.raises(ValueError, match="LlamaForCausalLM has no linear layer for LoRA to adapt"):
        add_adapter(backbone.model, AdapterOptions(), backbone.vocabulary, rank=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "adapter.r must be at least 1, or null to train all weights, got 0"),
        ({"r": 4, "alpha": -1.0}, "adapter.alpha must be above 0"),
        ({"r": 4, "dropout": 1.0}, "adapter.dropout must be a share from 0 to below 1"),
        ({"alpha": 16.0}, "need adapter.r, got null"),
    ],
)
def test_adapter_options_that_no_adapter_has_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdapterOptions(**options).validate()
