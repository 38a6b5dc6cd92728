"""`handler.py` for Inference Endpoints: answers, limits, hostile requests, eight clients at once."""

import json
import re
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.experiments.recipe import Recipe
from cost_hf.hub.handler import EndpointHandler
from cost_hf.recommenders.base import Recommendation
from cost_hf.recommenders.requests import MAX_BATCH, MAX_BODY, MAX_HISTORY, MAX_TOP_K, BadRequest, decode
from cost_hf.recommenders.service import MAX_BEAMS
from tests.fuzzing import long, slow
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS, toy_catalog, toy_recommender, with_columns


@pytest.fixture(scope="module")
def handler(tmp_path_factory) -> EndpointHandler:
    folder = tmp_path_factory.mktemp("endpoint")
    titles = [item.upper() for item in TOY_IDS[:-1]] + [None]
    with_columns(toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3), titles=titles))).save_pretrained(folder)
    return EndpointHandler(str(folder))


@pytest.fixture(scope="module")
def url(handler):
    """A loopback server around the handler, as an endpoint's own server is."""

    class Server(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                answer = handler(decode(body))
            except BadRequest as error:
                answer = error.as_json()
            content = json.dumps(answer, allow_nan=False).encode()
            self.send_response(400 if "error" in answer else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def post(url: str, body: bytes | object) -> tuple[int, dict]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=content, method="POST")) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_one_history_and_a_batch_are_answered_like_recommend(handler, url):
    batch = [["item001"], ["item002", "item003"]]

    status, one = post(url, {"inputs": batch[1], "parameters": {"top_k": 4}})
    _, many = post(url, {"inputs": batch, "parameters": {"top_k": 4, "exclude_seen": False, "denied": ["item019"]}})

    expected = handler.service.recommender.recommend(batch[1], top_k=4)
    assert status == 200
    assert_same_list([(entry["item_id"], entry["score"]) for entry in one["recommendations"][0]], expected)
    assert set(one["recommendations"][0][0]) >= {"item_id", "score", "source"}
    assert [len(answers) for answers in many["recommendations"]] == [4, 4]
    assert "item019" not in json.dumps(many)


def test_filters_and_limits_of_values_are_those_of_recommend(handler, url):
    where = {"price": {"min": 5, "max": 40}, "brand": ["Alba", "Brisa"], "in_stock": True}
    inputs = [["item001"], []]

    _, filtered = post(url, {"inputs": inputs, "parameters": {"where": where}})
    both = {"diversify": {"brand": 1}, "where": {"tags": ["oslo"]}}
    _, diverse = post(url, {"inputs": ["item001"], "parameters": both})

    expected = handler.service.recommender.recommend(inputs, where=where | {"price": (5, 40)}, on_empty="popularity")
    assert [[entry["item_id"] for entry in answers] for answers in filtered["recommendations"]] == [
        [answer.item_id for answer in answers] for answers in expected
    ]
    expected = handler.service.recommender.recommend(["item001"], **both)
    assert [entry["item_id"] for entry in diverse["recommendations"][0]] == [answer.item_id for answer in expected]


def test_ids_are_normalised_as_the_tables_of_the_run_were(tmp_path):
    toy_counting("markov").save_pretrained(tmp_path / "recommender")
    Recipe.load("cost_quickstart", {"data.normalize_ids": ["strip", "lower"]}).save(tmp_path / "recipe.yaml")
    own = EndpointHandler(str(tmp_path / "recommender"))

    answer = own({"inputs": [" ITEM001"], "parameters": {"on_unknown": "error", "top_k": 3}})

    assert answer == own({"inputs": ["item001"], "parameters": {"top_k": 3}})


def test_unknown_items_and_empty_histories_have_mild_defaults(handler):
    answer = handler({"inputs": [["gone"], [], ["item001", "gone"]], "parameters": {"top_k": 2}})

    sources = [answers[0]["source"] for answers in answer["recommendations"]]
    assert sources == ["popularity", "popularity", "generator"]


def test_eight_clients_at_once_get_what_each_would_get_alone(url):
    requests = [{"inputs": [item], "parameters": {"top_k": 5}} for item in TOY_IDS] * 4
    alone = [post(url, request) for request in requests]

    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(lambda request: post(url, request), requests))

    for (status, answer), (_, expected) in zip(together, alone, strict=True):
        lists = [
            [(entry["item_id"], entry["score"]) for entry in one["recommendations"][0]] for one in (answer, expected)
        ]
        assert status == 200
        assert_same_list(*lists)


@pytest.mark.parametrize(
    ("request_", "field", "message"),
    [
        ([], "", "expected an object with inputs, got a list of 0"),
        ({}, "inputs", "it is missing"),
        ({"input": []}, "input", "did you mean inputs"),
        ({"inputs": "item001"}, "inputs", "expected a list of item ids"),
        ({"inputs": None}, "inputs", "got null"),
        ({"inputs": ["item001", 3.5]}, "inputs[1]", "expected an item id .* got 3.5"),
        ({"inputs": ["item001", 2**70]}, "inputs[1]", "expected an item id .* got a number that large"),
        ({"inputs": [["item001"], [True]]}, "inputs[1][0]", "got True"),
        ({"inputs": [["item001"], "item002"]}, "inputs[0]", "expected an item id"),
        ({"inputs": ["x" * 600]}, "inputs[0]", "got 600 characters"),
        ({"inputs": [["item001"]] * (MAX_BATCH + 1)}, "inputs", f"at most {MAX_BATCH} histories"),
        ({"inputs": ["item001"] * (MAX_HISTORY + 1)}, "inputs", f"at most {MAX_HISTORY} item ids"),
        ({"inputs": [], "parameters": []}, "parameters", "expected an object"),
        ({"inputs": [], "parameters": {"topk": 3}}, "parameters.topk", "did you mean top_k"),
        ({"inputs": [], "parameters": {"top_k": 0}}, "parameters.top_k", f"from 1 to {MAX_TOP_K}, got 0"),
        ({"inputs": [], "parameters": {"top_k": True}}, "parameters.top_k", "got True"),
        ({"inputs": [], "parameters": {"top_k": 2.5}}, "parameters.top_k", "got 2.5"),
        ({"inputs": [], "parameters": {"top_k": 10**9}}, "parameters.top_k", "from 1 to"),
        ({"inputs": [], "parameters": {"exclude_seen": 1}}, "parameters.exclude_seen", "expected true or false"),
        ({"inputs": [], "parameters": {"cold_share": 2}}, "parameters.cold_share", "from 0 to 1"),
        ({"inputs": [], "parameters": {"cold_share": float("nan")}}, "parameters.cold_share", "from 0 to 1, got nan"),
        ({"inputs": [], "parameters": {"on_empty": []}}, "parameters.on_empty", "expected one of error, popularity"),
        ({"inputs": [], "parameters": {"allowed": "item001"}}, "parameters.allowed", "expected a list"),
        ({"inputs": [], "parameters": {"denied": ["gone"]}}, "parameters.denied", "'gone' is not in the catalog"),
        (
            {"inputs": [], "parameters": {"where": ["price"]}},
            "parameters.where",
            "1 to 20 columns, got a list",
        ),
        ({"inputs": [], "parameters": {"where": {}}}, "parameters.where", "got an object of 0"),
        ({"inputs": [], "parameters": {"where": {"prise": 5}}}, "parameters.where", "did you mean 'price'"),
        ({"inputs": [], "parameters": {"where": {"price": "5"}}}, "parameters.where", "must be a number"),
        ({"inputs": [], "parameters": {"where": {"price": {"min": 900}}}}, "parameters.where", "no item of 20 items"),
        ({"inputs": [], "parameters": {"where": {"brand": ["x"] * 1001}}}, "parameters.where.brand", "at most 1000"),
        ({"inputs": [], "parameters": {"where": {"brand": "x" * 600}}}, "parameters.where.brand", "at most 512 char"),
        ({"inputs": [], "parameters": {"diversify": {"brand": 0}}}, "parameters.diversify", "brand"),
        ({"inputs": [], "parameters": {"diversify": {"brnad": 2}}}, "parameters.diversify", "did you mean 'brand'"),
        ({"inputs": [], "parameters": {"diversify": 2}}, "parameters.diversify", "1 to 20 columns, got 2"),
        ({"inputs": ["gone"], "parameters": {"on_unknown": "error"}}, "inputs", "'gone' is not in the catalog"),
        ({"inputs": [[], []], "parameters": {"on_empty": "error"}}, "inputs", "history 0 holds no item"),
    ],
)
def test_a_bad_request_names_its_field(handler, request_, field, message):
    answer = handler(request_)

    assert list(answer) == ["error"] and answer["error"]["field"] == field
    assert re.search(message, answer["error"]["message"]), answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b'{"inputs": NaN}', "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"x" * 10_000_000, f"at most {MAX_BODY} bytes, got 10000000"),
    ],
)
def test_a_body_that_is_no_request_is_refused(url, body, message):
    status, answer = post(url, body)

    assert status == 400 and message in answer["error"]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TOY_IDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["top_k", "exclude_seen", "allowed", "denied", "where", "diversify", "on_unknown", "on_empty", "cold_share"]
NAMES += ["explain", "exact", "x"]
REQUESTS = JSON | st.fixed_dictionaries(
    {"inputs": JSON | st.lists(st.sampled_from(TOY_IDS), max_size=3)},
    optional={"parameters": JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3)},
)


def is_answered(handler, request_):
    answer = handler(request_)

    assert list(answer) in (["recommendations"], ["error"])
    assert "could not be answered" not in json.dumps(answer, allow_nan=False)


@given(REQUESTS)
@settings(max_examples=150)
def test_any_request_gets_a_response_of_valid_json(handler, request_):
    is_answered(handler, request_)


@slow
@long
@given(REQUESTS)
def test_many_requests_get_a_response_of_valid_json(handler, request_):
    is_answered(handler, request_)


def test_the_work_of_one_request_is_bounded_before_it_begins(handler, monkeypatch):
    monkeypatch.setattr(handler.service.recommender, "recommend", None)
    batch = [["item001"]] * MAX_BATCH

    for parameters in ({"top_k": MAX_TOP_K}, {"top_k": MAX_TOP_K, "cold_share": 1}):
        answer = handler({"inputs": batch, "parameters": parameters})
        assert answer["error"]["field"] == "inputs"
        assert re.search(r"at most \d+ histories with these parameters, got 64", answer["error"]["message"])


def test_a_model_that_searches_with_many_beams_takes_fewer_histories(handler, monkeypatch):
    monkeypatch.setattr(handler.service.recommender, "num_beams", MAX_BEAMS)

    assert handler({"inputs": [["item001"]] * 2})["error"]["field"] == "inputs"


@pytest.mark.parametrize("number", [10**9, 10**5000, -(10**5000)], ids=["large", "endless", "negative"])
def test_a_number_without_end_is_no_fault_of_the_server(handler, number):
    answer = handler({"inputs": ["item001"], "parameters": {"top_k": number}})

    assert answer["error"]["field"] == "parameters.top_k"


def test_lists_in_lists_without_end_are_no_fault_of_the_server(handler):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    for inputs in (deep, [deep], {"a": deep}):
        assert handler({"inputs": inputs})["error"]["field"].startswith("inputs")
    for name in ("top_k", "allowed", "on_empty", "cold_share", "exclude_seen"):
        assert handler({"inputs": [], "parameters": {name: deep}})["error"]["field"].startswith(f"parameters.{name}")


def test_a_fault_of_the_server_shows_nothing_of_it(handler, monkeypatch, caplog):
    def broken(*arguments, **options):
        raise RuntimeError("secret path /srv/models")

    monkeypatch.setattr(handler.service.recommender, "recommend", broken)

    answer = handler({"inputs": ["item001"]})

    assert "secret" not in json.dumps(answer) and "secret" in caplog.text


def test_a_hybrid_explains_its_answers(tmp_path):
    toy_fusion().save_pretrained(tmp_path)
    hybrid = EndpointHandler(str(tmp_path))

    answer = hybrid({"inputs": ["item003"], "parameters": {"top_k": 2, "explain": True}})

    json.dumps(answer, allow_nan=False)
    for entry in answer["recommendations"][0]:
        assert set(entry["explanation"]) >= {"among", "parts", "effects", "base_value", "semantic_id", "nearest_texts"}
    assert "explanation" not in hybrid({"inputs": ["item003"]})["recommendations"][0][0]


def test_a_generator_explains_its_answers_by_their_codes(handler):
    catalog = handler.service.recommender.catalog

    (answers,) = handler({"inputs": ["item003", "item005"], "parameters": {"explain": True}})["recommendations"]

    for entry in answers:
        path = entry["explanation"]["semantic_id"]
        assert path["codes"] == catalog.codes[catalog.row_of(entry["item_id"])].tolist()
        assert {item["item_id"] for item in entry["explanation"]["shared_prefixes"]} <= {"item003", "item005"}
    json.dumps(answers, allow_nan=False)


def test_what_can_not_be_explained_is_a_bad_request(tmp_path):
    toy_counting("markov").save_pretrained(tmp_path)

    answer = EndpointHandler(str(tmp_path))({"inputs": ["item003"], "parameters": {"explain": True}})

    assert answer["error"] == {
        "field": "parameters.explain",
        "message": "this recommender knows neither semantic IDs nor texts of its items; leave it out",
    }


def test_a_search_may_be_exact(handler):
    answer = handler({"inputs": ["item003"], "parameters": {"top_k": 3, "exact": True}})

    exact = handler.service.recommender.recommend(["item003"], top_k=3, exact=True)
    assert [entry["item_id"] for entry in answer["recommendations"][0]] == [entry.item_id for entry in exact]
    assert [entry["is_exact"] for entry in answer["recommendations"][0]] == [True] * 3
    assert "is_exact" not in handler({"inputs": ["item003"]})["recommendations"][0][0]
    many = handler({"inputs": [["item003"]] * MAX_BATCH, "parameters": {"exact": True}})
    assert many["error"]["field"] == "inputs"


def test_an_answer_that_is_not_proved_has_the_bound(handler, monkeypatch):
    entries = [Recommendation("item001", -1.0, {"source": "beams", "is_exact": False, "bound": float("-inf")})]
    monkeypatch.setattr(handler.service.recommender, "recommend", lambda histories, **options: [entries])

    (answer,) = handler({"inputs": ["item003"], "parameters": {"exact": True}})["recommendations"][0]

    assert answer["is_exact"] is False and answer["bound"] is None and answer["score"] == -1.0


def test_what_can_not_be_exact_is_a_bad_request(tmp_path):
    toy_fusion().save_pretrained(tmp_path)

    answer = EndpointHandler(str(tmp_path))({"inputs": ["item003"], "parameters": {"exact": True}})

    assert answer["error"]["field"] == "parameters.exact" and "no list can be proved" in answer["error"]["message"]


def test_the_beams_of_the_parts_of_a_hybrid_count(tmp_path, monkeypatch):
    toy_fusion().save_pretrained(tmp_path)
    hybrid = EndpointHandler(str(tmp_path))
    batch = {"inputs": [["item001"]] * 2}
    assert "recommendations" in hybrid(batch)

    monkeypatch.setattr(hybrid.service.recommender.parts["sids"], "num_beams", MAX_BEAMS)

    assert hybrid(batch)["error"]["field"] == "inputs"
