"""A LoRA run from its recipe to the Hub and back: the adapter alone where its base is there, merged where it is not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import cost_hf
from cost_hf.files import read_json
from cost_hf.generators.options import NEXT_ITEM, TEXT_TASKS
from cost_hf.hub.export import export_run
from cost_hf.recommenders.base import Recommender
from tests.generators.backbone_toys import causal_backbone
from tests.hub.publishing import publish
from tests.near_ties import assert_same_list
from tests.runs import ROOT, TINY, child_environment, command_line

pytestmark = pytest.mark.trains
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLM = {
    "generator__prompt": "continuation",
    "generator__dropout": None,
    "generator__max_history": 6,
    "adapter__r": 4,
    "adapter__target_modules": ["q_proj", "v_proj"],
    "training__epochs": 1,
    "tasks__weights": {NEXT_ITEM: 1.0, **dict.fromkeys(TEXT_TASKS, 0.25)},
    "tasks__max_title_tokens": 6,
    "search__invalid_users": 8,
    "evaluation__max_users": 30,
}


def run(program: list[str], home: Path) -> str:
    environment = child_environment() | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *program], env=environment, capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A cache in which the Hub's `org/tiny-llama` lies, as a download leaves it."""
    folder = tmp_path_factory.mktemp("home")
    repository = folder / "hub" / "models--org--tiny-llama"
    causal_backbone(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.fixture(scope="module")
def hub_run(home) -> Path:
    """A run whose base is on the Hub."""
    overrides = LLM | {"generator__backbone": "org/tiny-llama"}
    run([str(ROOT / "train.py"), *command_line(home / "run", **overrides)], home)
    return home / "run"


@pytest.fixture(scope="module")
def local_run(tmp_path_factory) -> Path:
    """A run whose base is a directory."""
    folder = tmp_path_factory.mktemp("local")
    overrides = LLM | {"generator__backbone": str(causal_backbone(folder / "base"))}
    fields = TINY | {name.replace("__", "."): value for name, value in overrides.items()}
    return cost_hf.train(overrides=fields, output_dir=folder / "run").output_dir


def test_a_run_leaves_the_adapter_its_base_and_evaluated_titles(hub_run):
    manifest = read_json(hub_run / "recommender" / "recommender.json")
    results = read_json(hub_run / "evaluation" / "results.json")

    assert not (hub_run / "recommender" / "model.safetensors").exists()
    assert manifest["base"]["name"] == "org/tiny-llama"
    assert manifest["base"]["revision"] == COMMIT
    vocabulary = read_json(hub_run / "recommender" / "vocabulary.json")
    assert manifest["base"]["added_tokens"] == sum(vocabulary["level_sizes"]) + 2
    assert set(results["titles"]) == {"item_to_title", "history_to_title"}
    for scores in results["titles"].values():
        assert scores["cases"] > 0
        for metric in ("exact_match", "rouge1", "rouge2", "rougeL"):
            cell = scores[metric]
            assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1
    assert results["protocol"]["shares"]["invalid"] == 0
    assert results["recipe"]["adapter"]["r"] == 4


PROGRAM = """
import sys
from pathlib import Path
from cost_hf import Recommender
from cost_hf.hub.staging import RunPublication
from cost_hf.hub.commands import upload_main as main
command = [sys.argv[1], "--namespace", "org", "--name", "toy", "--what", "recommender", "--dry-run"]
assert main(command) == 0
print("PART")
assert main([*command, "--weights", "merged"]) == 0
print("PART")
publication = RunPublication(sys.argv[1], Path(sys.argv[2]), {"recommender": "org/toy-recommender"})
print(Recommender.from_pretrained(publication.stage("recommender").folder).base.name)
"""


@pytest.fixture(scope="module")
def plans(hub_run, home, tmp_path_factory) -> tuple[str, str, str, Path]:
    """The plans of the adapter alone and of merged weights, the base of the staged files, and these."""
    folder = tmp_path_factory.mktemp("staged")
    alone, merged, base = run(["-c", PROGRAM, str(hub_run), str(folder)], home).split("PART\n")
    return alone, merged, base, folder / "recommender"


def test_an_adapter_of_a_hub_model_is_published_alone_or_merged(plans):
    alone, merged, *_ = plans

    assert "adapter_model.safetensors" in alone and " model.safetensors" not in alone
    assert " model.safetensors" in merged and "adapter_model.safetensors" not in merged
    assert "custom_generate/generate.py" in merged and "custom_generate" not in alone


def test_an_adapter_of_a_local_model_is_published_merged_and_refused_alone(local_run, hub, second_environment):
    with pytest.raises(
        ValueError, match=r"the adapter belongs to .base., a directory of this machine.*--weights merged"
    ):
        publish(hub.endpoint, local_run, what=["recommender"], weights="adapter")

    publish(hub.endpoint, local_run, what=["recommender"])

    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    assert "model.safetensors" in files and "adapter_model.safetensors" not in files
    assert not any(str(local_run.parent).encode() in content for content in files.values())
    card = ModelCard(files["README.md"].decode())
    assert "base, LoRA of rank 4" in card.text and "trust_remote_code=True" in card.text
    program = (
        "from transformers import AutoModelForCausalLM as A; import sys, json; "
        "m = A.from_pretrained('org/toy-recommender', trust_remote_code=True); "
        "print(json.dumps(m.generate(histories=json.loads(sys.argv[1]), num_beams=96, return_items=True)))"
    )
    system = Recommender.from_pretrained(local_run)
    items = len(system.catalog)
    assert items == 96  # as many beams as items: with fewer, rounding may decide which beam goes on
    history = [[system.catalog.item_ids[3], system.catalog.item_ids[8]]]
    output = second_environment.run(program, json.dumps(history), HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="0")
    pairs = json.loads(output.strip().splitlines()[-1])[0]
    assert_same_list(pairs, system.recommend(history, top_k=items, exclude_seen=False)[0], tolerance=1e-3)


def test_the_card_of_an_adapter_names_its_base_and_how_to_load_it(plans):
    *_, base, folder = plans

    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "org/tiny-llama"
    assert card.data.to_dict()["base_model_relation"] == "adapter"
    assert "`org/tiny-llama`, and refuses one" in card.text
    assert "trust_remote_code" not in card.text
    assert base.strip().splitlines()[-1] == "org/tiny-llama"


def test_weights_are_a_question_for_lora_runs_only(finished_run, hub):
    with pytest.raises(ValueError, match="--weights merged is for LoRA runs, and this one has no adapter"):
        publish(hub.endpoint, finished_run, what=["recommender"], weights="merged")


def test_merged_weights_are_exported_whole_and_once(local_run, tmp_path):
    (tmp_path / "merged").mkdir(exist_ok=True)
    (tmp_path / "merged" / ".lock").touch()  # of an export that failed
    files = export_run(local_run, to="merged", output=tmp_path / "merged")

    assert (tmp_path / "merged" / "model.safetensors") in files
    loaded, trained = Recommender.from_pretrained(tmp_path / "merged"), Recommender.from_pretrained(local_run)
    history, items = [trained.catalog.item_ids[3]], len(trained.catalog)
    answers = [system.recommend(history, top_k=items) for system in (loaded, trained)]
    assert_same_list(*answers, tolerance=1e-3)
    with pytest.raises(ValueError, match="holds files already"):
        export_run(local_run, to="merged", output=tmp_path / "merged")
    with pytest.raises(ValueError, match="there is nothing to merge"):
        export_run(tmp_path / "merged", to="merged", output=tmp_path / "other")


def test_new_items_come_into_an_adapted_recommender_without_a_change_of_weights(local_run, tmp_path):
    copy = shutil.copytree(local_run, tmp_path / "run")
    system = Recommender.from_pretrained(copy)
    system.add_items(["brand-new"], ["a story about the senate"])
    system.save_catalog(copy / "recommender")

    loaded = Recommender.from_pretrained(copy)

    assert "brand-new" in loaded.catalog
    assert loaded.recommend(["brand-new"], top_k=3)
    name = "recommender/adapter_model.safetensors"
    assert (copy / name).read_bytes() == (local_run / name).read_bytes()
