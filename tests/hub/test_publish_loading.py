"""What `upload.py` published comes back whole: with the package, without it, at a pinned commit, and offline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cost_hf
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from tests.hub.loopback_hub import LoopbackHub
from tests.hub.publishing import publish, without_licence
from tests.near_ties import assert_same_list
from tests.runs import ROOT, child_environment, tiny_fields

pytestmark = pytest.mark.slow  # CI runs it by `make test-published`
LOAD = """
import json, sys
from cost_hf import CostModel, Recommender
recommender = Recommender.from_pretrained("org/toy-recommender")
first = recommender.catalog.item_ids[:2]
answers = recommender.recommend(list(first), top_k=len(recommender.catalog))
print(json.dumps([answers, recommender.encode(["a story"]).tolist()]))
"""
REMOTE = """
import json, sys
from transformers import AutoModel, AutoModelForCausalLM, pipeline
revision = {"revision": sys.argv[1]} if len(sys.argv) > 2 else {}
quantizer = AutoModel.from_pretrained("org/toy", trust_remote_code=True, **revision)
vector = [0.1] * quantizer.config.item_dim
to_codes = pipeline("semantic-id", model="org/toy", trust_remote_code=True)
generator = AutoModelForCausalLM.from_pretrained("org/toy-recommender", trust_remote_code=True)
history, items = json.loads(sys.argv[-1])
# as many beams as items: with fewer, rounding may decide which beam goes on
answers = generator.generate(histories=[history], num_beams=items, exclude_seen=True, return_items=True)
print(json.dumps([to_codes(vector), answers[0]]))
"""


def program(text: str, hub: LoopbackHub, home: Path, **changes: str) -> str:
    environment = hub.environment(HF_HOME=str(home), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **changes)
    done = subprocess.run([sys.executable, "-c", text], env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_recommender_returns_whole_from_its_id_and_offline_without_a_request(hub, finished_run, tmp_path):
    publish(hub.endpoint, finished_run, what=["recommender"])
    system = Recommender.from_pretrained(finished_run)
    expected = system.recommend(list(system.catalog.item_ids[:2]), top_k=len(system.catalog))

    online = json.loads(program(LOAD, hub, tmp_path))
    hub.requests.clear()
    offline = json.loads(program(LOAD, hub, tmp_path, HF_HUB_OFFLINE="1"))

    assert_same_list(online[0], expected)
    assert_same_list(offline[0], expected)
    assert online[1] == offline[1] == system.encode(["a story"]).tolist()
    assert hub.requests == []


def test_a_clean_environment_encodes_and_generates_from_the_hub_and_offline(
    hub, finished_run, second_environment, tmp_path
):
    publish(hub.endpoint, finished_run, what=["quantizer", "recommender"])
    system = Recommender.from_pretrained(finished_run)
    history = list(system.catalog.item_ids[:2])
    quantizer = hub.repositories["models/org/toy"]
    pinned = quantizer.head
    quantizer.commit(quantizer.commits[-1][1] | {"README.md": b"a later commit"})
    places = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}

    request = json.dumps([history, len(system.catalog)])
    online = json.loads(second_environment.run(REMOTE, pinned, request, **hub.environment(), **places))
    hub.requests.clear()
    environment = hub.environment(HF_HUB_OFFLINE="1") | places
    offline = json.loads(second_environment.run(REMOTE, request, **environment))

    expected = system.recommend(history, top_k=len(system.catalog))
    assert_same_list(online[1], expected)
    assert_same_list(offline[1], expected)
    assert online[0] == offline[0] and hub.requests == []


@pytest.mark.trains
def test_a_sasrec_run_is_published_and_loaded_in_the_same_way(hub, tmp_path):
    small = {"model.hidden_size": 16, "model.intermediate_size": 16, "training.epochs": 1, "model.inputs": "text"}
    run = cost_hf.train(overrides=tiny_fields(method="sasrec") | small, output_dir=tmp_path / "run")

    publish(hub.endpoint, run.output_dir, what=["recommender"])

    assert type(run.recommender) is SasRecRecommender
    adds = LOAD.replace('encode(["a story"]).tolist()', "add_items(['x'], ['a story']).action")
    answers, action = json.loads(program(adds, hub, tmp_path))
    first = list(run.recommender.catalog.item_ids[:2])
    assert_same_list(answers, run.recommender.recommend(first, top_k=len(run.recommender.catalog)))
    assert action == "add"

    bare = without_licence(run.output_dir, tmp_path / "bare")
    with pytest.raises(ValueError, match="holds vectors of item texts"):
        publish(hub.endpoint, bare, what=["recommender"])

    # each command in a process that has imported nothing of SASRec before
    commands = (
        "from cost_hf.cli import main; sys.exit(main(['upload', sys.argv[1], '--namespace', 'org', '--dry-run']))",
        "from cost_hf.cli import main; sys.exit(main(['update-catalog', *sys.argv[1:]]))",
    )
    for text in commands:
        command = [sys.executable, "-c", f"import sys; {text}", run.output_dir, "--remove", first[0]]
        done = subprocess.run(command, env=child_environment(), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
    assert Recommender.from_pretrained(run.output_dir).catalog.removed.sum() == 1
