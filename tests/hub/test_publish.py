"""`upload.py`: one atomic commit per repository, whole or not at all."""

import io
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard

import cost_hf
from cost_hf.files import read_json, write_json
from cost_hf.hub.publish import PublishError
from cost_hf.hub.upload import upload
from cost_hf.methods import Recommender, SasRecRecommender
from tests.hub.loopback_hub import TOKEN, LoopbackHub
from tests.runs import TINY

ROOT = Path(__file__).parents[2]
MODELS = ("quantizer", "recommender", "dataset")
NAMES = {"models/org/toy", "models/org/toy-recommender", "datasets/org/toy-items"}


def publish(hub: LoopbackHub, run: Path, *, what=MODELS, token: str | None = TOKEN, **options) -> str:
    """Publish to the loopback Hub and return what was said."""
    said: list[str] = []
    api = HfApi(endpoint=hub.endpoint, token=token)
    upload(run, namespace="org", name="toy", what=list(what), api=api, say=said.append, **options)
    return "\n".join(said)


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The client asks at every call whether it is offline; the loopback Hub is not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def without_licence(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    recipe = yaml.safe_load((target / "recipe.yaml").read_text())
    recipe["data"]["licence"] = None
    (target / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return target


def test_every_repository_gets_one_commit_and_a_card_with_its_numbers(hub, finished_run):
    said = publish(hub, finished_run)

    assert set(hub.repositories) == NAMES
    assert all(len(found.commits) == 2 for found in hub.repositories.values())
    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    card = ModelCard(files["README.md"].decode())
    results = read_json(finished_run / "evaluation" / "results.json")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results[:2]}
    row = results["rows"]["recommender"]["item"]["seen_allowed"]
    assert found == {metric: row[metric]["value"] for metric in ("recall@10", "ndcg@10")}
    assert "Apache-2.0: titles and texts of items are published" in said and "toy data" in card.text
    entries = yaml.safe_load(files[".eval_results/seen_allowed.yaml"])
    assert entries[0]["dataset"]["id"] == "org/toy-items"


def test_publishing_again_makes_no_commit_and_a_changed_catalog_only_what_changed(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    publish(hub, run)

    assert "holds all of it already" in publish(hub, run)
    assert all(len(found.commits) == 2 for found in hub.repositories.values())

    system = Recommender.from_pretrained(run)
    system.add_items(["brand-new"], ["a story about the senate"])
    system.save_catalog(run / "recommender")
    publish(hub, run)
    commits = [files for _, files in hub.repositories["models/org/toy-recommender"].commits]
    changed = {path.partition("-")[0] for path in commits[2] if commits[1].get(path) != commits[2][path]}
    assert changed == {"recommender.json", "journal.jsonl", "popularity.safetensors", "catalog"}
    assert len(hub.repositories["models/org/toy"].commits) == 2  # the quantizer is the same


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub, finished_run, monkeypatch):
    publish(hub, finished_run, what=["quantizer"])
    found = hub.repositories["models/org/toy"]
    create = HfApi.create_commit

    def late(api, *arguments, **options):
        found.commit(found.commits[-1][1] | {"notes.txt": b"from somebody else"})
        return create(api, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    del found.commits[-1][1]["README.md"]
    before = len(found.commits)

    with pytest.raises(PublishError, match=r"org/toy was not published: somebody else has committed.*same command"):
        publish(hub, finished_run, what=["quantizer"])
    assert len(found.commits) == before + 1


@pytest.mark.parametrize(
    ("part", "failure", "reason"),
    [
        ("/commit/", "500", "500|Server Error"),
        ("/commit/", "403", "may not write there"),
        ("/commit/", "cut", "was not published"),
        ("/preupload/", "cut", "was not published"),
        ("/api/repos/create", "500", "was not published"),
    ],
)
def test_a_failure_leaves_the_hub_as_it_was_and_says_how_to_go_on(
    hub, finished_run, monkeypatch, part, failure, reason
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fails[part] = failure

    with pytest.raises(PublishError, match=reason) as caught:
        publish(hub, finished_run, what=["recommender"])

    assert TOKEN not in str(caught.value) and "The same command goes on" in str(caught.value)
    assert all(len(found.commits) == 1 for found in hub.repositories.values())
    hub.fails.clear()
    publish(hub, finished_run, what=["recommender"])
    assert len(hub.repositories["models/org/toy-recommender"].commits) == 2


@pytest.mark.parametrize("token", ["hf_wrong", False])
def test_a_wrong_or_missing_token_is_said_without_showing_it(hub, finished_run, token):
    with pytest.raises(PublishError, match="log in by `hf auth login`") as caught:
        publish(hub, finished_run, what=["quantizer"], token=token)

    assert "hf_wrong" not in str(caught.value) and not hub.repositories


def test_private_and_pull_request_are_honoured(hub, finished_run):
    publish(hub, finished_run, what=["quantizer"], private=True)
    found = hub.repositories["models/org/toy"]
    del found.commits[-1][1]["README.md"]

    said = publish(hub, finished_run, what=["quantizer"], create_pr=True)

    assert found.private and len(found.commits) == 2 and len(found.pulls) == 1
    assert "discussions/1" in said


def test_without_a_licence_no_word_of_an_item_leaves(hub, finished_run, tmp_path):
    run = without_licence(finished_run, tmp_path / "run")

    said = publish(hub, run, what=["quantizer", "recommender", "dataset"])

    titles = Recommender.from_pretrained(finished_run).catalog.titles
    words = {word for title in titles for word in title.split() if len(word) > 8}
    contents = [content for found in hub.repositories.values() for content in found.commits[-1][1].values()]
    assert words and not [word for word in words if any(word.encode() in content for content in contents)]
    table = pd.read_parquet(io.BytesIO(hub.repositories["datasets/org/toy-items"].commits[-1][1]["items.parquet"]))
    assert list(table.columns) == ["item_id", "sid", "code_1", "code_2", "code_3", "code_4"]
    assert "only item ids and semantic IDs are published" in said
    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    assert not [path for path in files if path.startswith("encoder/")]
    assert "not in this copy" in files["README.md"].decode()


def test_with_a_licence_the_data_set_holds_titles_and_texts(hub, finished_run):
    publish(hub, finished_run, what=["dataset"])

    table = pd.read_parquet(io.BytesIO(hub.repositories["datasets/org/toy-items"].commits[-1][1]["items.parquet"]))
    assert table["title"].notna().all() and table["text"].notna().all()
    assert table["sid"].map(len).eq(4).all()


@pytest.mark.parametrize("name", ["optimizer.pt", "checkpoint-7/model.safetensors", "users.parquet", "notes.txt"])
def test_a_file_that_does_not_belong_there_stops_everything(hub, finished_run, monkeypatch, name):
    def careless(self, directory):
        original(self, directory)
        (Path(directory) / name).parent.mkdir(exist_ok=True)
        (Path(directory) / name).write_bytes(b"x")

    original = Recommender.save_pretrained
    monkeypatch.setattr(Recommender, "save_pretrained", careless)

    with pytest.raises(ValueError, match=f"files do not belong into a recommender repository, first '{name}'"):
        publish(hub, finished_run)
    assert not hub.repositories


def test_no_path_of_this_machine_leaves(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    results = read_json(run / "evaluation" / "results.json")
    results["recipe"]["data"]["path"] = "/home/somebody/secret"
    results["recipe"]["vectors"]["model"] = str(tmp_path)
    write_json(run / "evaluation" / "results.json", results)

    publish(hub, run)

    contents = [content for found in hub.repositories.values() for content in found.commits[-1][1].values()]
    assert not [content for content in contents if b"somebody" in content or str(tmp_path.parent).encode() in content]


def test_no_results_no_card(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    results = read_json(run / "evaluation" / "results.json")
    del results["rows"]["recommender"]
    write_json(run / "evaluation" / "results.json", results)

    with pytest.raises(ValueError, match="no results, no card"):
        publish(hub, run)
    assert not hub.repositories


def test_a_dry_run_needs_no_network_and_prints_path_size_and_digest(finished_run, monkeypatch, capsys):
    def no_network(*arguments):
        raise AssertionError("a dry run asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    said: list[str] = []

    names = upload(finished_run, namespace="org", dry_run=True, what=MODELS, say=said.append)

    assert names == ["org/cost-quickstart", "org/cost-quickstart-items", "org/cost-quickstart-recommender"]
    assert "modeling_cost.py" in "".join(said) and said[-1] == "dry run: nothing was published"


def test_the_command_says_a_mistake_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "upload.py"), str(tmp_path), "--namespace", "org", "--dry-run"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "give the directory of a finished run" in done.stderr


def test_an_unknown_part_is_refused(finished_run):
    with pytest.raises(ValueError, match="takes parts of quantizer, dataset, recommender, space, got 'weights'"):
        upload(finished_run, namespace="org", what=["weights"], dry_run=True)


LOAD = """
import json, sys
from cost_hf import CostModel, Recommender
recommender = Recommender.from_pretrained("org/toy-recommender")
first = recommender.catalog.item_ids[:2]
print(json.dumps([recommender.recommend(list(first), top_k=3), recommender.encode(["a story"]).tolist()]))
"""
REMOTE = """
import json, sys
from transformers import AutoModel, AutoModelForCausalLM, pipeline
revision = {"revision": sys.argv[1]} if len(sys.argv) > 2 else {}
quantizer = AutoModel.from_pretrained("org/toy", trust_remote_code=True, **revision)
vector = [0.1] * quantizer.config.item_dim
to_codes = pipeline("semantic-id", model="org/toy", trust_remote_code=True)
generator = AutoModelForCausalLM.from_pretrained("org/toy-recommender", trust_remote_code=True)
answers = generator.generate(histories=[json.loads(sys.argv[-1])], num_beams=10, exclude_seen=True, return_items=True)
print(json.dumps([to_codes(vector), answers[0]]))
"""


def program(text: str, hub: LoopbackHub, home: Path, **changes: str) -> str:
    environment = hub.environment(HF_HOME=str(home), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **changes)
    done = subprocess.run([sys.executable, "-c", text], env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_recommender_returns_whole_from_its_id_and_offline_without_a_request(hub, finished_run, tmp_path):
    publish(hub, finished_run, what=["recommender"])
    system = Recommender.from_pretrained(finished_run)
    expected = system.recommend(list(system.catalog.item_ids[:2]), top_k=3)

    online = json.loads(program(LOAD, hub, tmp_path))
    hub.requests.clear()
    offline = json.loads(program(LOAD, hub, tmp_path, HF_HUB_OFFLINE="1"))

    assert [entry[0] for entry in online[0]] == [answer.item_id for answer in expected]
    assert online == offline and online[1] == system.encode(["a story"]).tolist()
    assert hub.requests == []


def test_a_clean_environment_encodes_and_generates_from_the_hub_and_offline(
    hub, finished_run, second_environment, tmp_path
):
    publish(hub, finished_run, what=["quantizer", "recommender"])
    system = Recommender.from_pretrained(finished_run)
    history = list(system.catalog.item_ids[:2])
    quantizer = hub.repositories["models/org/toy"]
    pinned = quantizer.head
    quantizer.commit(quantizer.commits[-1][1] | {"README.md": b"a later commit"})
    places = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}

    online = json.loads(second_environment.run(REMOTE, pinned, json.dumps(history), **hub.environment(), **places))
    hub.requests.clear()
    environment = hub.environment(HF_HUB_OFFLINE="1") | places
    offline = json.loads(second_environment.run(REMOTE, json.dumps(history), **environment))

    expected = [answer.item_id for answer in system.recommend(history, top_k=10)]
    assert [item for item, _ in online[1]] == expected
    assert online == offline and hub.requests == []


def test_a_sasrec_run_is_published_and_loaded_in_the_same_way(hub, tmp_path):
    small = {"sasrec.hidden_size": 16, "sasrec.intermediate_size": 16, "sasrec.epochs": 1, "sasrec.inputs": "text"}
    run = cost_hf.train(overrides=TINY | small | {"method": "sasrec"}, output_dir=tmp_path / "run")

    publish(hub, run.output_dir, what=["recommender"])

    assert type(run.recommender) is SasRecRecommender
    adds = LOAD.replace('encode(["a story"]).tolist()', "add_items(['x'], ['a story']).action")
    answers, action = json.loads(program(adds, hub, tmp_path))
    first = list(run.recommender.catalog.item_ids[:2])
    assert [entry[0] for entry in answers] == [answer.item_id for answer in run.recommender.recommend(first, top_k=3)]
    assert action == "add"
