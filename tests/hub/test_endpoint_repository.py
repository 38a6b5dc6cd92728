"""A published recommender holds all that an Inference Endpoint runs on: its folder alone answers."""

import json
from pathlib import Path

import pytest

from cost_hf.hub.staging import RunPublication

IDS = {"recommender": "org/toy-recommender"}
# as the server of an endpoint does: requirements.txt is installed, then handler.py is loaded from its path
SERVE = """
import importlib.util, json, sys
assert importlib.util.find_spec("cost_hf") is None
spec = importlib.util.spec_from_file_location("handler", sys.argv[1] + "/handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import cost_hf
assert cost_hf.__file__.startswith(sys.argv[1])
print(json.dumps(module.EndpointHandler(sys.argv[1])(json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="module")
def folder(finished_run, tmp_path_factory) -> Path:
    return RunPublication(finished_run, tmp_path_factory.mktemp("staged"), IDS).stage("recommender").folder


def test_the_folder_alone_answers_requests(folder, finished_run, second_environment):
    item = RunPublication(finished_run, folder, IDS).recommender.catalog.item_ids[0]
    request = {"inputs": [item], "parameters": {"top_k": 3}}

    answer = json.loads(second_environment.run(SERVE, folder, json.dumps(request)).splitlines()[-1])

    assert [len(answers) for answers in answer["recommendations"]] == [3]


def test_what_it_needs_is_on_an_index(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()

    assert any(line.startswith("transformers") for line in lines)
    assert not [line for line in lines if "cost" in line or "extra" in line]
