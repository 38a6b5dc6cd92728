"""Requests over HTTP: answers, what is refused and how, and what a full, slow or stopping server says."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cost_hf.hub.handler import EndpointHandler
from cost_hf.recommenders.requests import MAX_BODY, parse_encode, parse_similar
from tests.near_ties import assert_same_list
from tests.serving.running import SECONDS, gated, running, wait_until

HISTORIES = [["kettle"], ["teapot", "cup"], ["grinder", "filter"], ["press", "kettle", "teacup"], ["unknown"], []]


def scores(answers: list[dict]) -> list[tuple[str, float]]:
    return [(answer["item_id"], answer["score"]) for answer in answers]


def test_answers_are_those_of_the_endpoint_handler(server, example):
    request = {"inputs": HISTORIES, "parameters": {"top_k": 4, "where": {"price": {"max": 40}}}}

    reply = server.post("/recommend", request)

    expected = EndpointHandler(str(example))(request)
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    for found, own in zip(reply.json["recommendations"], expected["recommendations"], strict=True):
        assert_same_list(scores(found), scores(own))
        assert [answer["title"] for answer in found]


def test_clients_at_once_get_what_each_would_get_alone(server):
    parameters = [{"top_k": 3}, {"top_k": 2, "denied": ["teacup"]}, {"top_k": 3, "exclude_seen": False}]
    requests = [(history, options) for history in HISTORIES for options in parameters] * 3
    alone = [server.recommend(history, **options).json["recommendations"][0] for history, options in requests]
    batches = server.metric("cost_hf_batch_size_count")

    with gated(server) as gate, ThreadPoolExecutor(len(requests)) as clients:
        futures = [clients.submit(server.recommend, history, **options) for history, options in requests]
        assert gate.entered.acquire(timeout=SECONDS)
        wait_until(lambda: len(server.state.batcher) + len(gate.requests) == len(requests))
        gate.go_on.set()
        together = [future.result().json["recommendations"][0] for future in futures]

    assert server.metric("cost_hf_batch_size_count") - batches <= 3  # one alone, and the others together
    for found, own in zip(together, alone, strict=True):
        assert_same_list(scores(found), scores(own))


def test_similar_items_and_codes(server, example):
    similar = server.post("/similar", {"item_id": "kettle", "parameters": {"top_k": 2, "denied": ["teapot"]}})
    codes = server.post("/encode", {"texts": ["mug for tea"]})

    service = EndpointHandler(str(example)).service
    expected = service.similar(parse_similar({"item_id": "kettle", "parameters": {"top_k": 2, "denied": ["teapot"]}}))
    assert similar.json == {"similar": expected} and expected
    assert codes.json == {"codes": service.encode(parse_encode({"texts": ["mug for tea"]}))}
    for reply in (similar, codes):
        assert reply.headers["x-catalog-digest"] == service.recommender.catalog.version


def test_every_answer_says_what_gave_it(server, example):
    reply = server.recommend(["kettle"])

    facts = EndpointHandler(str(example)).service.describe()
    assert (reply.headers["x-model-digest"], reply.headers["x-catalog-digest"]) == (facts["model"], facts["catalog"])


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/recommend", b"{", "body"),
        ("/recommend", b'{"inputs": [NaN]}', "body"),
        ("/recommend", b"\xff", "body"),
        ("/recommend", b"", "body"),
        ("/recommend", b"[" * 100_000, "body"),
        ("/recommend", [], ""),
        ("/recommend", {"inputs": "kettle"}, "inputs"),
        ("/recommend", {"inputs": ["kettle"], "parameters": {"top_k": 0}}, "parameters.top_k"),
        ("/recommend", {"inputs": ["kettle"], "parameters": {"denied": ["nothing"]}}, "parameters.denied"),
        ("/recommend", {"inputs": ["kettle"], "parameters": {"where": {"colour": "red"}}}, "parameters.where"),
        ("/similar", {"item_id": "nothing"}, "item_id"),
        ("/similar", {}, "item_id"),
        ("/similar", {"item_id": "kettle", "parameters": {"where": {"colour": "red"}}}, "parameters.where"),
        ("/encode", {"texts": [" "]}, "texts[0]"),
        ("/encode", {"vectors": [[1.0]]}, "vectors"),
    ],
)
def test_a_bad_request_is_answered_by_the_field_that_is_wrong(server, path, body, field):
    reply = server.post(path, body)

    assert reply.status == 400
    assert reply.error[0] == field and reply.error[1]


def test_other_paths_and_methods_are_errors_of_the_same_form(server):
    missing = server.get("/recommendations")
    wrong = server.get("/recommend")

    assert missing.status == 404 and "/recommend" in missing.error[1]
    assert wrong.status == 405 and wrong.error[1]
    assert server.metric('cost_hf_requests_total{path="other",status="404"}') >= 1


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        client.sendall(f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode())
        announced = received(client)
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        client.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(MAX_BODY // 0x10000 + 1):
            client.sendall(chunk)
        streamed = received(client)

    for reply in (announced, streamed):
        assert reply.startswith(b"HTTP/1.1 413 ") and b'"field":"body"' in reply
    assert server.recommend(["kettle"]).status == 200


def received(client: socket.socket) -> bytes:
    """Return all that a server sends until it closes the connection."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_request_keeps_its_id_where_it_has_a_valid_one(server):
    given = server.recommend(["kettle"]).headers["x-request-id"]
    own = server.post("/recommend", {"inputs": []}, X_Request_ID="order-17/a")
    wrong = server.post("/recommend", {"inputs": []}, X_Request_ID='"; drop')
    long = server.post("/recommend", {"inputs": []}, X_Request_ID="a" * 129)

    assert own.headers["x-request-id"] == "order-17/a"
    fresh = [given, wrong.headers["x-request-id"], long.headers["x-request-id"]]
    assert len(set(fresh)) == 3 and all(len(found) == 32 for found in fresh)


def test_a_full_queue_is_answered_by_503_and_when_to_try_again(example):
    with running(example, max_queue=2) as server, gated(server) as gate, ThreadPoolExecutor(3) as clients:
        first = clients.submit(server.recommend, ["kettle"])
        assert gate.entered.acquire(timeout=SECONDS)
        others = [clients.submit(server.recommend, ["teapot"]) for _ in range(2)]
        wait_until(lambda: len(server.state.batcher) == 2)

        refused = server.recommend(["press"])
        gate.go_on.set()

        assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
        assert [future.result().status for future in (first, *others)] == [200, 200, 200]
        assert ("press",) not in gate.histories
        assert server.recommend(["press"]).status == 200
        assert server.metric('cost_hf_requests_total{path="/recommend",status="503"}') == 1


def test_a_request_that_takes_too_long_is_answered_by_504_and_not_computed(example):
    with running(example, timeout=0.3) as server, gated(server) as gate, ThreadPoolExecutor(2) as clients:
        first = clients.submit(server.recommend, ["kettle"])
        assert gate.entered.acquire(timeout=SECONDS)
        second = clients.submit(server.recommend, ["teapot"])

        assert [first.result().status, second.result().status] == [504, 504]
        assert len(server.state.batcher) == 0
        gate.go_on.set()
        assert ("teapot",) not in gate.histories


def test_a_request_whose_client_has_left_is_not_computed(example):
    body = json.dumps({"inputs": ["teapot"]}).encode()
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running(example) as server, gated(server) as gate, ThreadPoolExecutor(1) as clients:
        first = clients.submit(server.recommend, ["kettle"])
        assert gate.entered.acquire(timeout=SECONDS)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head + body)
            wait_until(lambda: len(server.state.batcher) == 1)
        wait_until(lambda: len(server.state.batcher) == 0)
        gate.go_on.set()

        assert first.result().status == 200
        assert server.recommend(["press"]).status == 200
        assert gate.histories == [("kettle",), ("press",)]
        assert server.metric('cost_hf_requests_total{path="/recommend",status="499"}') == 1


def test_a_body_that_does_not_come_is_not_waited_for(example):
    with (
        running(example, timeout=0.3) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client,
    ):
        client.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

        assert received(client).startswith(b"HTTP/1.1 408 ")


def test_a_failure_of_the_recommender_is_500_and_the_server_goes_on(server, caplog):
    with gated(server) as gate:
        gate.go_on.set()
        gate.recommend_many = lambda requests: 1 / 0
        failed = server.recommend(["kettle"])

    assert failed.status == 500 and "ZeroDivisionError" not in failed.body.decode()
    assert "ZeroDivisionError" in caplog.text
    assert server.recommend(["kettle"]).status == 200


def test_recommendations_do_not_wait_for_a_text_encoder(server):
    """The first text may take seconds: encoders are loaded with it."""
    service = server.state.live.served.service
    entered = threading.Event()
    go_on = threading.Event()

    class Slow:
        def __getattr__(self, name: str):
            return getattr(service, name)

        def encode(self, request):
            entered.set()
            assert go_on.wait(SECONDS)
            return service.encode(request)

    before = server.state.live.served
    server.state.live.served = replace(before, service=Slow())
    try:
        with ThreadPoolExecutor(1) as clients:
            codes = clients.submit(server.post, "/encode", {"texts": ["mug for tea"]})
            assert entered.wait(SECONDS)
            assert server.recommend(["kettle"]).status == 200
            go_on.set()
            assert codes.result().status == 200
    finally:
        go_on.set()
        server.state.live.served = before
