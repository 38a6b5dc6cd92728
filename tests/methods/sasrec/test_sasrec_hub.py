"""Saving and loading: bit for bit, by Auto classes, in other processes, with and without the package."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from cost_hf.hub.remote_code import source_files
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from tests.methods.sasrec.sasrec_toys import item_vectors, tiny_model

CLOSURE = source_files(SasRecModel)
HISTORIES = torch.tensor([[3, 1, 4], [9, -1, -1]])


def saved(directory, **changes):
    model = tiny_model(**changes)
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
def test_a_loaded_model_is_bit_equal(tmp_path, inputs):
    model = saved(tmp_path, inputs=inputs, loss="binary")
    vectors = None if inputs == "ids" else item_vectors()

    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert type(loaded) is SasRecModel and not loaded.training
    assert not any(info.values()), info
    assert loaded.config.loss == "binary" and loaded.config.inputs == inputs
    scores = [one.scores(HISTORIES, one.item_table(vectors)) for one in (model, loaded)]
    assert torch.equal(*scores)


def test_saving_twice_writes_the_same_bytes(tmp_path):
    saved(tmp_path / "first")

    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")

    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_item_vectors_are_no_part_of_the_files(tmp_path):
    saved(tmp_path, inputs="text")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert not [name for name, value in load_file(tmp_path / "model.safetensors").items() if value.shape[:1] == (30,)]


@pytest.mark.parametrize("missing", ["items.ids.weight", "layers.1.attention_input.bias", "output_norm.weight"])
def test_a_checkpoint_with_one_key_removed_keeps_the_rest(tmp_path, missing):
    model = saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[missing]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert set(info["missing_keys"]) == {missing}
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items() if name != missing)
    assert state[missing].isfinite().all()


def test_a_half_precision_model_ranks_and_learns(tmp_path):
    model = saved(tmp_path, inputs="both")
    vectors = item_vectors()

    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded(HISTORIES, labels=HISTORIES.roll(1, dims=1), item_vectors=vectors).loss.backward()

    scores = loaded.scores(HISTORIES, loaded.item_table(vectors))
    assert scores.dtype == torch.float32
    exact = model.scores(HISTORIES, model.item_table(vectors))
    assert torch.corrcoef(torch.stack([scores.flatten(), exact.flatten()]))[0, 1] > 0.99


def test_auto_classes_know_the_family():
    config = AutoConfig.for_model("sasrec", num_items=5)

    assert type(AutoModel.from_config(config)) is SasRecModel


def test_the_closure_needs_only_torch_transformers_and_the_hub():
    needed = {name for file in CLOSURE for name in get_imports(file)}

    assert needed <= {"torch", "transformers", "huggingface_hub", *sys.stdlib_module_names}


def test_relative_imports_of_the_closure_stay_inside_it():
    names = {file.stem for file in CLOSURE}

    assert {name for file in CLOSURE for name in get_relative_imports(file)} <= names
