"""Published models without the package: `trust_remote_code=True` in an environment that does not have it."""

import json

import pytest
import torch
from transformers import AutoModel, pipeline
from transformers.dynamic_module_utils import get_relative_imports

from cost_hf.files import read_json
from cost_hf.hub.remote_code import published_sources, save_with_code
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.fit import fit_codes
from tests.methods.sasrec.sasrec_toys import tiny_model as tiny_sasrec
from tests.quantizers.cost.toys import item_vectors, tiny_model
from tests.quantizers.prism.prism_toys import both_vectors, tiny_prism

ENCODE = """
import importlib.util, json, sys, torch
assert importlib.util.find_spec("cost_hf") is None
from transformers import AutoModel, pipeline
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
half = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True, dtype=torch.bfloat16)
vectors = torch.load(sys.argv[2], weights_only=True)
named = pipeline("semantic-id", model=sys.argv[1], trust_remote_code=True)
unnamed = pipeline(model=sys.argv[1], trust_remote_code=True)
model.train()
model(vectors).loss.backward()
with torch.no_grad():
    for parameter in model.parameters():
        parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
model.save_pretrained(sys.argv[3])
tuned = AutoModel.from_pretrained(sys.argv[3], trust_remote_code=True)
piped = pipeline("semantic-id", model=sys.argv[3], trust_remote_code=True)(vectors)
print(json.dumps({
    "module": type(model).__module__,
    "codes": AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).encode(vectors).tolist(),
    "half": str(half.dtype), "codebooks": str(half.level_vectors(0).dtype),
    "named": named(vectors), "unnamed": unnamed(vectors[0].tolist()),
    "expected": model.encode(vectors).tolist(),
    "tuned": tuned.encode(vectors).tolist(), "piped": [entry["codes"] for entry in piped],
}))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("published"), tiny_model()
    save_with_code(model, folder)
    return folder, model


def test_a_clean_environment_encodes_tunes_and_saves(published, second_environment, tmp_path):
    folder, model = published
    vectors = item_vectors()
    torch.save(vectors, tmp_path / "vectors.pt")

    found = json.loads(second_environment.run(ENCODE, folder, tmp_path / "vectors.pt", tmp_path / "tuned"))

    codes = model.encode(vectors).tolist()
    assert found["module"].startswith("transformers_modules.")
    assert found["codes"] == codes == [entry["codes"] for entry in found["named"]]
    assert found["unnamed"] == found["named"][0]
    assert (found["half"], found["codebooks"]) == ("torch.bfloat16", "torch.float32")
    assert found["tuned"] == found["piped"] == found["expected"]


def test_with_the_package_the_local_class_is_used_and_no_trust_is_needed(published):
    folder, model = published

    loaded = AutoModel.from_pretrained(folder)

    assert type(loaded) is CostModel
    assert torch.equal(loaded.encode(item_vectors()), model.encode(item_vectors()))


def test_saving_with_code_leaves_no_mark_on_later_saves(published, tmp_path):
    tiny_model().save_pretrained(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert "auto_map" not in read_json(tmp_path / "config.json")


def test_all_files_that_the_sources_import_are_there(published):
    folder, _ = published
    sources = sorted(folder.glob("*.py"))

    names = {path.stem for path in sources}
    assert {"modeling_cost", "pipeline_cost", "configuration_cost"} <= names
    assert {name for path in sources for name in get_relative_imports(path)} <= names


def test_sasrec_loads_in_the_same_way(second_environment, tmp_path):
    model = tiny_sasrec()
    save_with_code(model, tmp_path)
    program = (
        "import sys, torch; from transformers import AutoModel;"
        "model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True);"
        "print(type(model).__name__, model.scores(torch.tensor([[1, 2]]), model.item_table()).sum().item())"
    )

    name, total = second_environment.run(program, tmp_path).split()

    expected = model.scores(torch.tensor([[1, 2]]), model.item_table()).sum().item()
    assert name == "SasRecModel" and float(total) == pytest.approx(expected, rel=1e-5)


def test_a_quantizer_that_imports_files_of_another_folder_loads_in_the_same_way(second_environment, tmp_path):
    model = tiny_prism().eval()
    save_with_code(model, tmp_path)
    program = (
        "import sys, torch; from transformers import AutoModel;"
        "model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True);"
        "vectors = torch.load(sys.argv[2], weights_only=True);"
        "print(type(model).__name__, model.encode(vectors).flatten().tolist())"
    )
    torch.save(both_vectors(), tmp_path / "vectors.pt")

    name, codes = second_environment.run(program, tmp_path, tmp_path / "vectors.pt").split(maxsplit=1)

    assert (name, json.loads(codes)) == ("PrismModel", model.encode(both_vectors()).flatten().tolist())
    assert published_sources(tmp_path) == {path.name for path in tmp_path.glob("*.py")}


@pytest.mark.parametrize("kind", ["gaoq", "opq", "simhash"])
def test_quantizers_without_training_bring_the_files_of_their_base(kind, second_environment, tmp_path):
    options = CodesOptions.of(kind, level_sizes=[2, 4, 8])
    vectors = item_vectors()
    ids = [f"item{row}" for row in range(len(vectors))]
    model = fit_codes(vectors, options, output_dir=tmp_path / "run", seed=0, item_ids=ids).model
    folder = tmp_path / "published"
    save_with_code(model, folder)
    torch.save(vectors, tmp_path / "vectors.pt")
    program = (
        "import sys, torch; from transformers import AutoModel;"
        "model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True);"
        "print(model.encode(torch.load(sys.argv[2], weights_only=True)).flatten().tolist())"
    )

    codes = json.loads(second_environment.run(program, folder, tmp_path / "vectors.pt"))

    assert codes == model.encode(vectors).flatten().tolist()
    assert "modeling_base_cost.py" in published_sources(folder)


def test_the_pipeline_of_an_unpublished_quantizer_needs_no_trust(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)

    results = pipeline("semantic-id", model=str(tmp_path))(item_vectors())

    assert [entry["codes"] for entry in results] == model.encode(item_vectors()).tolist()
