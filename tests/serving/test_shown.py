"""The request log of the server: every list that was shown, by what, to whom."""

import json
from pathlib import Path

from cost_hf.serving.request_log import LogOptions
from tests.serving.running import running


def records_in(directory: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_every_list_that_was_shown_is_logged(example, tmp_path):
    with running(example, request_log=tmp_path / "log", variant="control") as server:
        one = server.post("/recommend", {"inputs": ["kettle"], "user_id": "u1"}, X_Request_ID="order-17")
        many = server.post(
            "/recommend",
            {"inputs": [["teapot"], []], "parameters": {"top_k": 2}, "user_id": ["u2", None]},
            X_User_ID="u9",
        )
        by_header = server.post("/recommend", {"inputs": ["press"]}, X_User_ID="u3")
        refused = server.post("/recommend", {"inputs": ["press"], "parameters": {"top_k": 0}})
        server.post("/similar", {"item_id": "kettle"})
        written = [server.metric(f'cost_hf_request_log_records_total{{outcome="{name}"}}') for name in ("dropped",)]
        served = server.state.live.served

    records = records_in(tmp_path / "log")
    assert refused.status == 400 and written == [0]
    assert [record["user_id"] for record in records] == ["u1", "u2", None, "u3"]
    assert [record["history"] for record in records] == [["kettle"], ["teapot"], [], ["press"]]
    shown = [*one.json["recommendations"], *many.json["recommendations"], *by_header.json["recommendations"]]
    assert [[(item["item_id"], item["score"]) for item in record["shown"]] for record in records] == [
        [(item["item_id"], item["score"]) for item in own] for own in shown
    ]
    assert {(record["model"], record["catalog"], record["variant"]) for record in records} == {
        (served.model, served.catalog, "control")
    }
    ids = [record["request_id"] for record in records]
    assert ids[0] == "order-17" and ids[1] == ids[2] == many.headers["x-request-id"]
    assert [record["options"]["top_k"] for record in records] == [10, 2, 2, 10]


def test_histories_can_be_left_out(example, tmp_path):
    with running(example, request_log=tmp_path / "log", log=LogOptions(with_histories=False)) as server:
        server.post("/recommend", {"inputs": ["kettle"], "parameters": {"denied": ["teapot"]}})

    (record,) = records_in(tmp_path / "log")
    assert record["history"] is None and "kettle" not in json.dumps(record["options"])
    assert "teapot" not in json.dumps(record["options"])


def test_a_label_that_is_none_is_an_error_of_its_field(server):
    for wrong in (True, 1.5, "", ["u1", "u2"], "u" * 513, {"id": "u1"}):
        reply = server.post("/recommend", {"inputs": ["kettle"], "user_id": wrong})
        assert reply.status == 400 and reply.error[0] == "user_id", wrong
