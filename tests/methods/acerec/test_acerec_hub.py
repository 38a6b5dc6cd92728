"""A published ACERec carries its sources, and its model loads where this package is not known."""

import json
import subprocess
import sys

import pytest
import torch
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from cost_hf import Recommender
from cost_hf.hub.remote_code import save_with_code
from cost_hf.recommenders.repository import renew_files
from tests.methods.acerec.acerec_toys import tiny_model, toy_codes, toy_recommender
from tests.near_ties import assert_same_list
from tests.runs import child_environment

ALONE = """
import json, sys, torch
sys.modules["cost_hf"] = None  # any import of it fails
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
codes = torch.load(sys.argv[2], weights_only=True)
scores = model.scores(torch.tensor([[3, 1, 4]]), model.item_tokens(codes))
print(json.dumps([type(model).__name__, scores.tolist()]))
"""


def test_the_published_sources_need_their_libraries_and_each_other_alone(tmp_path):
    save_with_code(tiny_model(), tmp_path)

    files = sorted(tmp_path.glob("*.py"))
    names = {file.stem for file in files}
    assert {"modeling_acerec", "layers_acerec", "objectives_acerec", "layers_sasrec"} <= names
    for file in files:
        assert set(get_imports(file)) <= {"torch", "transformers", "huggingface_hub", *sys.stdlib_module_names}
        assert set(get_relative_imports(file)) <= names


def test_the_model_loads_without_this_package(tmp_path):
    model, codes = tiny_model(), toy_codes()
    expected = model.scores(torch.tensor([[3, 1, 4]]), model.item_tokens(codes))
    save_with_code(model, tmp_path / "model")
    torch.save(codes, tmp_path / "codes.pt")

    command = [sys.executable, "-c", ALONE, str(tmp_path / "model"), str(tmp_path / "codes.pt")]
    environment = child_environment() | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    name, found = json.loads(done.stdout)
    assert name == "AceRecModel" and found[0] == pytest.approx(expected[0].tolist(), rel=1e-4)


def test_a_recommender_with_the_sources_of_its_model_loads_as_before(tmp_path):
    system = toy_recommender()
    system.save_pretrained(tmp_path)
    save_with_code(system.model, tmp_path)
    renew_files(tmp_path)

    loaded = Recommender.from_pretrained(tmp_path)

    assert_same_list(loaded.recommend(["item003"], top_k=5), system.recommend(["item003"], top_k=5))
