"""The OpenAPI page: what it shows is what the server takes."""

import json
import re

import pytest

from cost_hf.recommenders.requests import DEFAULTS, SIMILAR, USER_IDS
from cost_hf.serving.access import ITEMS_PATH, Tokens
from cost_hf.serving.app import PATHS
from cost_hf.serving.examples import request_examples
from cost_hf.serving.schemas import RecommendAnswer, RecommendParameters, SimilarParameters
from tests.serving.running import running, saved_example

TOKEN = "change-sesame-2"


@pytest.fixture(scope="module")
def description(server) -> dict:
    return server.get("/openapi.json").json


def test_every_path_is_described(description):
    assert set(description["paths"]) == PATHS - {"/docs"}
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert operation["description"] and "200" in operation["responses"], path


def test_every_reference_leads_somewhere(description):
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))

    assert references and references <= set(description["components"]["schemas"])


def test_parameters_and_their_defaults_are_those_that_requests_have():
    described = {name: field.default for name, field in RecommendParameters.model_fields.items()}

    assert described == DEFAULTS | {USER_IDS: None}
    assert {name: field.default for name, field in SimilarParameters.model_fields.items()} == {
        name: DEFAULTS[name] for name in SIMILAR
    }


def test_every_example_is_answered(tmp_path):
    directory = saved_example(tmp_path / "served")
    with running(directory, tokens=Tokens(items=TOKEN)) as server:
        description = server.get("/openapi.json").json
        for path, operations in description["paths"].items():
            body = operations.get("post", {}).get("requestBody", {})
            for name, example in body.get("content", {}).get("application/json", {}).get("examples", {}).items():
                reply = server.post(path, example["value"], Authorization=f"Bearer {TOKEN}")
                assert reply.status == 200, (path, name, reply.body)
                if path == "/recommend":
                    answer = RecommendAnswer.model_validate_json(reply.body)
                    assert all(answer.recommendations)
    names = {path: set(examples) for path, examples in request_examples(None).items()}
    assert names["/recommend"] == {"one", "several"} and set(names) >= {"/similar", "/encode", ITEMS_PATH}


def test_the_page_loads_nothing_from_elsewhere(server):
    page = server.get("/docs").body.decode()

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded and all(address.startswith("/") for address in loaded)
    for address in loaded:
        assert server.get(address).status == 200
