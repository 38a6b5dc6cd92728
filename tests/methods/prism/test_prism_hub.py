"""A published recommender of PRISM carries its sources, and its model loads where this package is not known."""

import json
import subprocess
import sys

import pytest
import torch
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from cost_hf import Recommender
from cost_hf.hub.remote_code import save_with_code, source_files
from cost_hf.methods.prism.modeling_prism_isr import PrismForConditionalGeneration
from cost_hf.recommenders.repository import renew_files
from tests.methods.prism.prism_toys import BODIES, prism_recommender
from tests.near_ties import assert_same_list
from tests.runs import child_environment

CLOSURE = source_files(PrismForConditionalGeneration)
ALONE = """
import json, sys, torch
sys.modules["cost_hf"] = None  # any import of it fails
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
inputs = torch.load(sys.argv[2], weights_only=True)
table = model.item_table(inputs.pop("item_vectors"))
embeds = model.embed_prompt(**inputs, item_table=table)
print(json.dumps([type(model).__name__, embeds.double().sum().item()]))
"""


def test_the_closure_needs_its_libraries_alone():
    assert {path.name for path in CLOSURE} == {"configuration_prism_isr.py", "modeling_prism_isr.py"}
    for path in CLOSURE:
        assert set(get_imports(path)) - sys.stdlib_module_names <= {"torch", "transformers", "huggingface_hub"}
        assert set(get_relative_imports(path)) <= {"configuration_prism_isr"}


def test_the_model_loads_without_this_package(tmp_path):
    system = prism_recommender()
    model = system.generator
    rows = torch.from_numpy(system.catalog.rows_of(["item002", "item007"]))[None]
    names = ("input_ids", "attention_mask", "item_rows")
    inputs = dict(zip(names, system.prompts.inputs_with_items(rows), strict=True))
    vectors = torch.tensor(system.catalog.vectors)
    expected = model.embed_prompt(**inputs, item_table=model.item_table(vectors)).double().sum().item()
    save_with_code(model, tmp_path / "model", auto_class="AutoModelForSeq2SeqLM")
    torch.save(inputs | {"item_vectors": vectors}, tmp_path / "inputs.pt")

    command = [sys.executable, "-c", ALONE, str(tmp_path / "model"), str(tmp_path / "inputs.pt")]
    environment = child_environment() | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    name, found = json.loads(done.stdout)
    assert name == "PrismForConditionalGeneration" and found == pytest.approx(expected, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("body", BODIES)
def test_a_recommender_with_the_sources_of_its_model_loads_as_before(body, tmp_path):
    system = prism_recommender(body)
    system.save_pretrained(tmp_path)
    save_with_code(system.network, tmp_path, auto_class=system.auto_class)
    renew_files(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded.generator) is type(system.generator)
    assert_same_list(loaded.recommend(["item002"], top_k=5), system.recommend(["item002"], top_k=5))
    assert system.has_own_code and system.carries_text_vectors
