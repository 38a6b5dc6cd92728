"""Requests of any kind to the server: a status that blames the client or answers, never one that blames the server."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import long, quick, slow

pytest.importorskip("fastapi_offline", reason="the server needs the extra `serve`")

from tests.serving.running import Running, running, saved_example

ITEMS = ["kettle", "teapot", "teacup", "grinder", "filter", "press"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(ITEMS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["inputs", "parameters", "item_id", "texts", "vectors", "user_id", "add", "remove", "update", "top_k", "where"]
BODIES = (
    VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"1" * 100_000, b'{"inputs": ["\\ud800"]}'])
)
PATHS = st.sampled_from(["/recommend", "/similar", "/encode", "/items", "/health", "/ready", "/docs", "/openapi.json"])
PATHS |= st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map(lambda text: f"/{text}")
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
HEADERS = st.dictionaries(
    st.sampled_from(["X_Request_ID", "Authorization", "Content_Type", "X_User_ID", "Accept_Encoding", "Expect"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.strip),
    max_size=2,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Running:
    with running(saved_example(tmp_path_factory.mktemp("served"))) as found:
        yield found


def answers(server: Running, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    reply = server.ask(method, path, body, **headers)

    assert reply.status < 500, (reply.status, reply.body)
    if reply.body and reply.headers.get("content-type") == "application/json":
        reply.json  # noqa: B018  it is JSON
    assert server.state.is_alive


@quick
@given(method=METHODS, path=PATHS, body=BODIES, headers=HEADERS)
def test_any_request_is_answered_without_a_fault_of_the_server(server, method, path, body, headers):
    answers(server, method, path, body, headers)


@quick
@given(path=st.sampled_from(["/recommend", "/similar", "/encode"]), body=BODIES)
def test_any_body_is_answered_without_a_fault_of_the_server(server, path, body):
    answers(server, "POST", path, body, {})


@slow
@long
@given(method=METHODS, path=PATHS, body=BODIES, headers=HEADERS)
def test_many_requests_are_answered_without_a_fault_of_the_server(server, method, path, body, headers):
    answers(server, method, path, body, headers)
