"""What Transformers does to a model behind one's back, held down by tests."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel
from transformers.dynamic_module_utils import get_imports, get_relative_imports

import cost_hf.quantizers.cost
from cost_hf.quantizers.cost import CostConfig, CostModel
from tests.quantizers.cost.toys import item_vectors, tiny_model

CLOSURE = sorted(Path(cost_hf.quantizers.cost.__file__).parent.glob("*_cost.py"))


def saved(tmp_path, **changes):
    model = tiny_model(**changes)
    model.fit_statistics(item_vectors())
    model.save_pretrained(tmp_path)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"input_norm": "standardize"},
        {"hidden_sizes": ()},
        {"hidden_sizes": None, "latent_dim": 16},
        {"level_sizes": (5, 5), "share_codebooks": True},
    ],
    ids=["standardize", "linear", "no layers", "shared"],
)
def test_a_loaded_model_is_bit_equal_with_its_buffers(tmp_path, changes):
    model = saved(tmp_path, **changes)

    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert type(loaded) is CostModel and not loaded.training
    assert not any(info.values()), info
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(loaded.encode(item_vectors()), model.encode(item_vectors()))


def test_saving_twice_writes_the_same_bytes(tmp_path):
    saved(tmp_path / "first")

    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")

    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codebooks_and_statistics_stay_fp32_in_a_half_precision_load(tmp_path, dtype):
    model = saved(tmp_path, input_norm="standardize")

    loaded = AutoModel.from_pretrained(tmp_path, dtype=dtype)

    kinds = {name: value.dtype for name, value in loaded.state_dict().items()}
    assert kinds["encoder.layers.0.weight"] == dtype
    assert {kind for name, kind in kinds.items() if not name.startswith(("encoder", "decoder"))} == {torch.float32}
    assert torch.equal(loaded.level_vectors(0), model.level_vectors(0))


def test_a_half_precision_model_encodes_and_trains_on_fp32_vectors(tmp_path):
    model = saved(tmp_path, input_norm="standardize", reconstruction_weight=1.0)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)

    output = loaded(item_vectors())
    output.loss.backward()

    assert output.loss.dtype == output.latents.dtype == torch.float32
    # a code that another one replaces is one that is nearly as far off: by what bfloat16 (8 bits) moves the latents
    distances = model.level_distances(item_vectors(), torch.empty(40, 0, dtype=torch.int64)).sqrt()
    chosen = distances.gather(1, loaded.encode(item_vectors())[:, :1])[:, 0]
    moved = (output.latents - model.embed(item_vectors())).norm(dim=1)
    assert (chosen <= distances.min(1).values + 2 * moved + 1e-5).all()
    assert (moved <= 0.05 * model.embed(item_vectors()).norm(dim=1)).all()


@pytest.mark.parametrize("missing", ["quantizer.codebooks.1", "encoder.layers.0.bias", "input_norm.std"])
def test_a_checkpoint_with_one_key_removed_keeps_the_rest(tmp_path, missing):
    model = saved(tmp_path, input_norm="standardize")
    weights = load_file(tmp_path / "model.safetensors")
    del weights[missing]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert set(info["missing_keys"]) == {missing}
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items() if name != missing)
    assert state[missing].isfinite().all() and state[missing].abs().max() <= 1


def test_fresh_weights_are_drawn_by_our_rules():
    config = CostConfig(item_dim=64, hidden_sizes=(64,), latent_dim=32, level_sizes=(50, 50), input_norm="standardize")
    torch.manual_seed(0)

    model = CostModel(config)

    assert all(codebook.abs().max() <= 1 / 50 for codebook in model.quantizer.codebooks)
    assert float(model.encoder.layers[0].weight.detach().std()) == pytest.approx(
        (2 / 128) ** 0.5, rel=0.1
    )  # Xavier, not std 0.02
    assert torch.equal(model.encoder.layers[0].bias, torch.zeros(64))
    assert torch.equal(model.input_norm.std, torch.ones(64))


def test_the_same_seed_gives_the_same_fresh_weights():
    first, second = (tiny_model(seed=3).state_dict() for _ in range(2))

    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_model_builds_on_the_meta_device():
    with torch.device("meta"):
        model = CostModel(CostConfig(input_norm="standardize"))

    assert {value.device.type for value in model.state_dict().values()} == {"meta"}


def test_everything_persists_and_nothing_is_tied_or_shared():
    model = tiny_model(input_norm="standardize")

    assert {name for name, _ in model.named_buffers()} <= set(model.state_dict())
    assert model.all_tied_weights_keys == {}


def test_auto_classes_know_the_family():
    config = AutoConfig.for_model("cost", item_dim=8, hidden_sizes=(), latent_dim=4, level_sizes=(3,))

    assert type(AutoModel.from_config(config)) is CostModel


def test_the_closure_needs_only_torch_transformers_and_the_hub():
    needed = {name for file in CLOSURE for name in get_imports(file)}

    assert needed <= {"torch", "transformers", "huggingface_hub", *sys.stdlib_module_names}


def test_relative_imports_of_the_closure_stay_inside_it():
    names = {file.stem for file in CLOSURE}

    assert {name for file in CLOSURE for name in get_relative_imports(file)} <= names


def test_saving_as_usual_copies_no_source_files(tmp_path):
    saved(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
