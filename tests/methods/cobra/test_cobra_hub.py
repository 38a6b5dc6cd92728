"""A published COBRA carries its sources, and its model loads where this package is not known."""

import json
import subprocess
import sys

import pytest
import torch
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from cost_hf import Recommender
from cost_hf.hub.remote_code import save_with_code, source_files
from cost_hf.methods.cobra.modeling_cobra import CobraForCausalLM
from cost_hf.recommenders.repository import renew_files
from tests.methods.cobra.cobra_toys import TEXTS, batch_of, catalog_with_texts, text_recommender, toy_cobra
from tests.near_ties import assert_same_list
from tests.runs import child_environment

CLOSURE = source_files(CobraForCausalLM)
ALONE = """
import json, sys, torch
sys.modules["cost_hf"] = None  # any import of it fails
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
batch = torch.load(sys.argv[2], weights_only=True)
model.attach_catalog(batch.pop("item_vectors"))
print(json.dumps([type(model).__name__, model(**batch).loss.item()]))
"""


def test_the_closure_needs_its_libraries_alone():
    assert {path.name for path in CLOSURE} == {"configuration_cobra.py", "modeling_cobra.py"}
    for path in CLOSURE:
        assert set(get_imports(path)) - sys.stdlib_module_names <= {"torch", "transformers", "huggingface_hub"}
        assert set(get_relative_imports(path)) <= {"configuration_cobra"}


@pytest.mark.parametrize("texts", TEXTS)
def test_the_model_loads_without_this_package(texts, tmp_path):
    catalog = catalog_with_texts(texts)
    backbone = toy_cobra(catalog, texts)
    batch = batch_of(backbone, backbone.prompts(catalog)[0])
    save_with_code(backbone.model, tmp_path / "model", auto_class="AutoModelForCausalLM")
    torch.save(batch | {"item_vectors": torch.tensor(catalog.vectors)}, tmp_path / "batch.pt")

    command = [sys.executable, "-c", ALONE, str(tmp_path / "model"), str(tmp_path / "batch.pt")]
    environment = child_environment() | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    name, loss = json.loads(done.stdout)
    assert name == "CobraForCausalLM"
    assert loss == pytest.approx(backbone.model(**batch).loss.item(), rel=1e-4)


@pytest.mark.parametrize("texts", TEXTS)
def test_a_recommender_with_the_sources_of_its_model_loads_as_before(texts, tmp_path):
    system = text_recommender(texts)
    system.save_pretrained(tmp_path)
    save_with_code(system.network, tmp_path, auto_class=system.auto_class)
    renew_files(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert type(loaded.generator) is type(system.generator)
    assert_same_list(loaded.recommend(["item002"], top_k=5), system.recommend(["item002"], top_k=5))
    assert system.has_own_code and system.carries_text_vectors
