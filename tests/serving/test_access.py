"""Tokens: which paths need which, and that none of them is logged."""

import json
import logging

import pytest

from cost_hf.serving.access import ITEMS_TOKEN, TOKEN, Access, Tokens
from cost_hf.serving.logs import JsonFormatter
from tests.serving.running import running

SECRET = "open-sesame-1"
ITEMS_SECRET = "change-sesame-2"


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


@pytest.mark.parametrize(
    ("path", "token", "access"),
    [
        ("/recommend", None, Access.NO_TOKEN),
        ("/recommend", bearer(SECRET), Access.ALLOWED),
        ("/recommend", b"bearer " + SECRET.encode(), Access.ALLOWED),  # the scheme has no case
        ("/recommend", bearer(SECRET[:-1]), Access.NO_TOKEN),
        ("/recommend", bearer(SECRET + "1"), Access.NO_TOKEN),
        ("/recommend", SECRET.encode(), Access.NO_TOKEN),
        ("/recommend", b"Basic " + SECRET.encode(), Access.NO_TOKEN),
        ("/recommend", b"Bearer \xff\xfe", Access.NO_TOKEN),
        ("/recommend", bearer(ITEMS_SECRET), Access.NO_TOKEN),
        ("/metrics", None, Access.NO_TOKEN),
        ("/static-offline-docs/../recommend", None, Access.ALLOWED),  # the path as it is; nothing resolves it
        ("/health", None, Access.ALLOWED),
        ("/ready", None, Access.ALLOWED),
        ("/items", bearer(SECRET), Access.NO_TOKEN),
        ("/items", bearer(ITEMS_SECRET), Access.ALLOWED),
    ],
)
def test_a_path_needs_its_token(path, token, access):
    assert Tokens(SECRET, ITEMS_SECRET).access(path, token) is access


def test_without_tokens_all_is_open_but_changes():
    tokens = Tokens.from_environment({TOKEN: "", "HOME": "/"})

    assert tokens == Tokens()
    assert tokens.access("/recommend", None) is Access.ALLOWED
    assert tokens.access("/items", bearer(ITEMS_SECRET)) is Access.OFF


@pytest.mark.parametrize("name", [TOKEN, ITEMS_TOKEN])
@pytest.mark.parametrize("value", ["two words", "line\n", "schlüssel"])
def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_show_it(name, value):
    with pytest.raises(ValueError, match=name) as refused:
        Tokens.from_environment({name: value})

    assert value not in str(refused.value)


def test_requests_without_the_token_are_refused_and_no_token_is_logged(example, caplog):
    caplog.set_level(logging.DEBUG)
    with running(example, tokens=Tokens(SECRET, ITEMS_SECRET)) as server:
        refused = server.recommend(["kettle"])
        wrong = server.post("/recommend", {"inputs": ["kettle"]}, Authorization="Bearer guess-3")
        allowed = server.post("/recommend", {"inputs": ["kettle"]}, Authorization=f"Bearer {SECRET}")
        items = server.post("/items", {"remove": ["kettle"]}, Authorization=f"Bearer {SECRET}")
        probes = [server.get(path) for path in ("/health", "/ready", "/docs", "/openapi.json")]

    assert [refused.status, wrong.status, allowed.status, items.status] == [401, 401, 200, 401]
    assert refused.headers["www-authenticate"] == "Bearer"
    assert [probe.status for probe in probes] == [200] * 4
    assert "kettle" not in probes[-1].body.decode()  # the description shows nothing of the catalog
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert any("/recommend" in line for line in lines)
    assert not [line for line in lines if SECRET in line or ITEMS_SECRET in line or "guess-3" in line]
    assert SECRET not in repr(server.state.options)


def test_changes_are_off_without_their_token(server):
    refused = server.post("/items", {"remove": ["kettle"]}, Authorization="Bearer x")

    assert refused.status == 403 and ITEMS_TOKEN in refused.error[1]


def test_a_line_of_the_log_is_json_with_the_id_of_its_request(server, caplog):
    caplog.set_level(logging.INFO)
    server.post("/recommend", {"inputs": ["kettle"]}, X_Request_ID="order-17")
    server.get("/health")

    (record,) = [record for record in caplog.records if record.name == "cost_hf.serving.requests"]
    line = json.loads(JsonFormatter().format(record))
    assert line["request_id"] == "order-17"
    assert (line["level"], line["method"], line["path"], line["status"]) == ("info", "POST", "/recommend", 200)
    assert line["ms"] > 0 and line["time"].endswith("+00:00")
