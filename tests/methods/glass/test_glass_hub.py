"""A published GLASS carries its sources, and its model loads where this package is not known."""

import json
import subprocess
import sys

import pytest
import torch
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from cost_hf import Recommender
from cost_hf.hub.remote_code import save_with_code, source_files
from cost_hf.methods.glass.modeling_glass import GlassForConditionalGeneration
from cost_hf.recommenders.repository import renew_files
from tests.methods.glass.glass_toys import glass_recommender
from tests.near_ties import assert_same_list
from tests.runs import child_environment

CLOSURE = source_files(GlassForConditionalGeneration)
HISTORY = ["item002", "item007"]
ALONE = """
import json, sys, torch
sys.modules["cost_hf"] = None  # any import of it fails
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
inputs = torch.load(sys.argv[2], weights_only=True)
tiers = model.item_table(inputs.pop("item_vectors"))
history = model.history_inputs(inputs.pop("long_rows"), inputs.pop("item_tokens"), tiers)
with torch.no_grad():
    logits = model(**inputs, **history).logits
print(json.dumps([type(model).__name__, logits.double().sum().item()]))
"""


def test_the_closure_needs_its_libraries_alone():
    assert {path.name for path in CLOSURE} == {"configuration_glass.py", "modeling_glass.py"}
    for path in CLOSURE:
        assert set(get_imports(path)) - sys.stdlib_module_names <= {"torch", "transformers", "huggingface_hub"}
        assert set(get_relative_imports(path)) <= {"configuration_glass"}


def test_the_model_loads_without_this_package(tmp_path):
    system = glass_recommender()
    model = system.generator
    rows = torch.from_numpy(system.catalog.rows_of(HISTORY))[None]
    input_ids, attention_mask = system.prompts.inputs(rows)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": system.prompts.labels(rows[:, 0])}
    with torch.no_grad():
        expected = model(**inputs, **system.ranker_for(1).history_inputs(rows)).logits.double().sum().item()
    items = {"item_vectors": torch.tensor(system.catalog.vectors), "item_tokens": system.prompts.item_tokens}
    save_with_code(model, tmp_path / "model", auto_class="AutoModelForSeq2SeqLM")
    torch.save(inputs | items | {"long_rows": rows}, tmp_path / "inputs.pt")

    command = [sys.executable, "-c", ALONE, str(tmp_path / "model"), str(tmp_path / "inputs.pt")]
    environment = child_environment() | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    name, found = json.loads(done.stdout)
    assert name == "GlassForConditionalGeneration" and found == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_a_recommender_with_the_sources_of_its_model_loads_as_before(tmp_path):
    system = glass_recommender()
    system.save_pretrained(tmp_path)
    save_with_code(system.network, tmp_path, auto_class=system.auto_class)
    renew_files(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded.generator) is type(system.generator)
    assert_same_list(loaded.recommend(HISTORY, top_k=5), system.recommend(HISTORY, top_k=5))
    assert system.has_own_code and system.carries_text_vectors
