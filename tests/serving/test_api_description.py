"""The OpenAPI page: what it shows is what the server takes."""

import json
import re
from pathlib import Path

import pytest

from cost_hf.recommenders.requests import (
    DEFAULTS,
    SIMILAR,
    USER_IDS,
    decode,
    parse,
    parse_changes,
    parse_encode,
    parse_similar,
)
from cost_hf.serving.access import ITEMS_PATH, Tokens
from cost_hf.serving.api_description import BODIES
from cost_hf.serving.app import PATHS
from cost_hf.serving.examples import request_examples
from cost_hf.serving.schemas import RecommendAnswer, RecommendParameters, SimilarParameters
from tests.item_vectors.famae.famae_toys import shop_items, untrained_recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.serving.running import running, saved_example

TOKEN = "change-sesame-2"
ROOT = Path(__file__).parents[2]
PARSERS = {"/recommend": parse, "/similar": parse_similar, "/encode": parse_encode, ITEMS_PATH: parse_changes}


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


@pytest.mark.parametrize("columns", [True, False])
def test_the_examples_of_a_recommender_that_reads_no_plain_texts_are_answered(tmp_path, columns):
    untrained_recommender(shop_items(), columns=columns).save_pretrained(tmp_path)

    with running(tmp_path, tokens=Tokens(items=TOKEN)) as server:
        paths = server.get("/openapi.json").json["paths"]
        for path in ("/encode", "/similar"):
            for example in paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"].values():
                reply = server.post(path, example["value"])
                assert reply.status == 200, (path, reply.body)

    assert "text" not in paths["/similar"]["post"]["description"]


def test_a_catalog_without_items_has_examples():
    recommender = toy_counting("markov")
    recommender.remove_items(recommender.catalog.item_ids)

    assert request_examples(recommender) == request_examples(None)


def test_the_page_loads_nothing_from_elsewhere(server):
    page = server.get("/docs").body.decode()

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded and all(address.startswith("/") for address in loaded)
    for address in loaded:
        assert server.get(address).status == 200


def test_the_requests_of_the_page_are_of_the_form_that_the_server_takes():
    page = (ROOT / "docs" / "pages" / "serving.md").read_text(encoding="utf-8")
    requests = re.findall(r"curl localhost:8000(/\w+)[^']*--data '([^']*)'", page)

    assert {path for path, _ in requests} == set(PARSERS)
    for path, body in requests:
        PARSERS[path](decode(body.encode()))
        BODIES[path].model_validate_json(body)


def test_the_page_names_every_metric_and_path(server):
    page = (ROOT / "docs" / "pages" / "serving.md").read_text(encoding="utf-8")

    families = re.findall(r"^# TYPE (cost_hf_\w+)", server.get("/metrics").body.decode(), re.MULTILINE)
    assert len(families) >= 8 and all(f"`{name}`" in page for name in families)
    assert all(f" {path}`" in page for path in PATHS - {"/docs"})
