"""The core of server, endpoint and demo: requests of several clients in one call, each as if it had come alone."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.recommenders import service as service_module
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.requests import BadRequest, FailedRequest, RecommendRequest, parse, parse_encode
from cost_hf.recommenders.service import RecommenderService
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.sasrec.test_sasrec_recommender import toy as toy_sasrec
from tests.near_ties import assert_same_list
from tests.recommenders.saved import KINDS
from tests.recommenders.toys import (
    TOY_CLICKS,
    TOY_COLUMNS,
    TOY_IDS,
    TOY_TEXTS,
    toy_backbone,
    toy_catalog,
    toy_causal,
    toy_text_recommender,
    with_columns,
)

RANKED = ("parts", "effects", "base_value")  # of hybrids: near ties of their parts may change places
BUILDERS = {
    "generator": toy_text_recommender,
    "counting": lambda: toy_counting("markov_text"),
    "sasrec": lambda: toy_sasrec("text"),
    "fusion": toy_fusion,
}


def with_toy_columns(system: Recommender) -> Recommender:
    """Return a recommender whose first items have the toy columns."""
    system.add_columns(TOY_IDS, TOY_COLUMNS)
    return system


@pytest.fixture(scope="module")
def services() -> dict[str, RecommenderService]:
    return {name: RecommenderService(with_toy_columns(build())) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def service(services) -> RecommenderService:
    return services["generator"]


def ask(inputs, **parameters) -> RecommendRequest:
    return parse({"inputs": inputs, "parameters": parameters})


def assert_same_answers(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        lists = [[(entry["item_id"], entry["score"]) for entry in entries] for entries in (ours, theirs)]
        assert_same_list(*lists)
        own = {entry["item_id"]: entry for entry in ours}
        for entry in theirs:
            other = own.get(entry["item_id"])
            assert other is None or plain(other) == plain(entry)


def plain(entry) -> dict:
    """Return an answer without what rounding may change."""
    found = {name: value for name, value in entry.get("explanation", {}).items() if name not in RANKED}
    return {**entry, "score": 0, "explanation": found}


HISTORIES = st.lists(st.sampled_from([*TOY_IDS, "gone", "ünï-字"]), max_size=5)
OPTIONS = st.sampled_from(
    [
        {},
        {"top_k": 3},
        {"exclude_seen": False},
        {"denied": ["item001", "item004"]},
        {"allowed": ["item001", "item002", "item003"]},
        {"where": {"price": {"max": 30}}},
        {"where": {"brand": ["Alba"], "in_stock": True}, "diversify": {"brand": 2}},
        {"diversify": {"brand": 1}, "top_k": 6},
        {"cold_share": 0.5},
        {"explain": True, "cold_share": 0.5, "diversify": {"brand": 3}},
        {"explain": True, "exclude_seen": False},
        {"allowed": []},
        {"on_empty": "error"},
        {"on_unknown": "error"},
        {"where": {"price": {"min": 900}}},
    ]
)
REQUESTS = st.lists(st.tuples(st.lists(HISTORIES, min_size=1, max_size=3), OPTIONS), min_size=2, max_size=8)


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_answer_of_many_is_that_of_the_request_alone(services, kind):
    own = services[kind]

    @given(REQUESTS)
    @settings(max_examples=25, deadline=None)
    def compare(drawn):
        requests = [ask(histories, **options) for histories, options in drawn]
        for request, found in zip(requests, own.recommend_many(requests), strict=True):
            try:
                expected = own.recommend(request)
            except BadRequest as error:
                assert type(found) is BadRequest and found.as_json() == error.as_json()
            else:
                assert_same_answers(found, expected)

    compare()


def test_requests_of_equal_options_share_one_call(services, monkeypatch):
    own = services["counting"]
    calls = []
    answer = own.recommender.recommend
    monkeypatch.setattr(
        own.recommender,
        "recommend",
        lambda histories, **options: calls.append(histories) or answer(histories, **options),
    )
    where = {"price": {"max": 30}}

    own.recommend_many(
        [
            ask(["item001"]),
            ask(["item002"], where=where),
            ask([["item003"], []], top_k=10),  # the default
            ask(["item004"], where=dict(where)),
            ask(["item001"]),
            ask(["item005"], where={"price": {"max": 30.0, "min": None}}),
        ]
    )

    assert calls == [
        [["item001"], ["item003"], [], ["item001"]],
        [["item002"], ["item004"]],
        [["item005"]],
    ]


def test_calls_are_bounded(services, monkeypatch):
    own = services["counting"]
    sizes = []
    answer = own.recommender.recommend
    monkeypatch.setattr(
        own.recommender,
        "recommend",
        lambda histories, **options: sizes.append(len(histories)) or answer(histories, **options),
    )
    monkeypatch.setattr(service_module, "MAX_BEAMS", 30)

    found = own.recommend_many([ask(["item001"])] * 4 + [ask([["item001"]] * 4), ask([["item002"]] * 2)])

    assert sizes == [3, 3]
    assert found[4].field == "inputs" and "at most 3 histories" in str(found[4])
    assert [len(answers) for answers in (*found[:4], found[5])] == [1, 1, 1, 1, 2]


def test_a_bad_request_does_not_spoil_the_others(service):
    bad = [
        ask(["gone"], on_unknown="error"),
        ask([], on_empty="error"),
        ask(["item001"], denied=["gone"]),
        ask(["item001"], where={"colour": "red"}),
        ask(["item001"], diversify={"colour": 1}),
    ]
    good = ask(["item001"])

    *errors, found = service.recommend_many([*bad, good])

    assert [error.field for error in errors] == [
        "inputs",
        "inputs",
        "parameters.denied",
        "parameters.where",
        "parameters.diversify",
    ]
    assert all(type(error) is BadRequest for error in errors)
    assert_same_answers(found, service.recommend(good))


def test_a_request_that_the_recommender_fails_on_fails_alone(services, monkeypatch, caplog):
    own = services["counting"]
    answer = own.recommender.recommend

    def recommend(histories, **options):
        if ["item007"] in histories:
            raise RuntimeError("secret path /srv/models")
        return answer(histories, **options)

    monkeypatch.setattr(own.recommender, "recommend", recommend)

    first, failed, last = own.recommend_many([ask(["item001"]), ask(["item007"]), ask(["item002"])])

    assert len(first) == len(last) == 1
    assert type(failed) is FailedRequest and "secret" not in str(failed) and "secret" in caplog.text


def test_a_catalog_that_changes_after_the_checks_gives_the_answer_of_the_new_one(monkeypatch):
    own = RecommenderService(toy_text_recommender())
    own.recommender.add_items(["new"], ["football in oslo"])
    answer = own.recommender.recommend

    def recommend(histories, **options):
        if "new" in own.recommender.catalog:
            own.recommender.rollback()
        return answer(histories, **options)

    monkeypatch.setattr(own.recommender, "recommend", recommend)
    request = ask(["new"], on_unknown="error")

    (found, other) = own.recommend_many([request, ask(["item001"], on_unknown="error")])

    assert type(found) is BadRequest and "'new' is not in the catalog" in str(found)
    assert len(other[0]) == 10


def test_clients_in_threads_get_what_each_would_get_alone(service):
    requests = [ask([item], top_k=5) for item in TOY_IDS]
    alone = [service.recommend(request) for request in requests]

    with ThreadPoolExecutor(4) as clients:
        together = list(clients.map(service.recommend, requests))
        many = list(clients.map(service.recommend_many, [requests] * 3))

    for found in (together, *many):
        for own, expected in zip(found, alone, strict=True):
            assert_same_answers(own, expected)


def user_recommender() -> Recommender:
    """A generator with user tokens, whose embeddings are large, so that users matter."""
    catalog = toy_catalog(20, (4, 5, 3))
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=7)
    generator = toy_causal(vocabulary)
    generator.get_input_embeddings().weight.data[vocabulary.end_id + 1 :] *= 5
    return GenerativeRecommender(toy_backbone(generator, vocabulary), catalog, popularity=TOY_CLICKS, num_beams=8)


def test_a_large_batch_is_answered_in_its_order_whatever_the_lengths():
    """Histories are ranked by their lengths; masks and users of a batch go with them."""
    recommender = user_recommender()
    draw = np.random.default_rng(0)
    ids = recommender.catalog.item_ids
    histories = [[ids[row] for row in draw.integers(0, len(ids), length)] for length in draw.integers(0, 9, 75)]
    allowed = torch.from_numpy(draw.random((len(histories), len(ids))) < 0.7)
    users = [f"user {number % 5}" for number in range(len(histories))]
    options = {"top_k": 3, "exclude_seen": False, "on_empty": "popularity"}

    together = recommender.recommend(histories, allowed=allowed, user_ids=users, **options)

    for number, (history, own) in enumerate(zip(histories, together, strict=True)):
        alone = recommender.recommend(
            [history], allowed=allowed[number : number + 1], user_ids=[users[number]], **options
        )
        assert_same_list(
            [(answer.item_id, answer.score) for answer in own], [(answer.item_id, answer.score) for answer in alone[0]]
        )


def test_every_history_is_answered_for_its_user():
    own = RecommenderService(user_recommender())
    requests = [
        ask([["item001"], ["item001"]], user_ids=["anna", "bea"]),
        ask(["item002"], user_ids=["anna"]),
        ask(["item001"]),
        ask(["item001"], user_ids=[12345]),
    ]

    first, second, missing, last = own.recommend_many(requests)

    both = own.recommender.recommend([["item001"], ["item001"]], user_ids=["anna", "bea"])
    for found, expected in zip(first, both, strict=True):
        assert_same_list([(entry["item_id"], entry["score"]) for entry in found], expected)
    assert first[0] != first[1]
    assert_same_answers(second, own.recommend(requests[1]))
    assert missing.field == "parameters.user_ids" and "one user id per history" in str(missing)
    alone = own.recommender.recommend(["item001"], user_ids="12345")
    assert_same_list([(entry["item_id"], entry["score"]) for entry in last[0]], alone)


def test_users_are_ignored_by_what_was_trained_without_them(service):
    assert_same_answers(service.recommend(ask(["item001"], user_ids=["anna"])), service.recommend(ask(["item001"])))


def test_an_unanswered_option_of_a_kind_is_named(services):
    with pytest.raises(BadRequest, match="neither semantic IDs nor texts") as caught:
        RecommenderService(toy_sasrec("ids")).recommend(ask(["item001"], explain=True))
    assert caught.value.field == "parameters.explain"
    with pytest.raises(BadRequest, match="no list can be proved") as caught:
        services["fusion"].recommend(ask(["item001"], exact=True))
    assert caught.value.field == "parameters.exact"


def test_explanations_of_requests_in_one_call_are_of_their_own_histories(services):
    for own in services.values():
        requests = [ask([["item001"], []], explain=True), ask(["item007", "item009"], explain=True, top_k=10)]

        first, second = own.recommend_many(requests)

        for answers, history in ((first[0], {"item001"}), (second[0], {"item007", "item009"})):
            assert all(named_items(entry) <= history for entry in answers)
            assert set().union(*map(named_items, answers)) == history
        assert all("explanation" not in entry for entry in first[1])
        json.dumps([first, second], allow_nan=False)


def named_items(entry) -> set[str]:
    found = entry["explanation"]
    return {item["item_id"] for name in ("shared_prefixes", "nearest_texts") for item in found.get(name, ())}


def test_texts_and_vectors_are_encoded_alike(services):
    own = services["generator"]
    texts = [TOY_TEXTS[0], "football in lima"]

    found = own.encode(parse_encode({"texts": texts}))

    codes = own.recommender.encode(texts).tolist()
    assert [entry["codes"] for entry in found] == codes
    assert found[0]["tokens"] == [f"<s_{name}_{code}>" for name, code in zip("ab", codes[0], strict=True)]
    vectors = own.recommender.encoder.encode(texts).tolist()
    assert own.encode(parse_encode({"vectors": vectors})) == found
    json.dumps(found, allow_nan=False)


def test_a_hybrid_encodes_by_its_first_part_that_can(services):
    part = next(part for part in services["fusion"].recommender.parts.values() if part.quantizer is not None)

    (found,) = services["fusion"].encode(parse_encode({"texts": ["football in lima"]}))

    assert found["codes"] == part.encode(["football in lima"])[0].tolist()


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("counting", {"texts": ["a"]}, "of kind counting has no quantizer"),
        ("generator", {"vectors": [[0.5, 0.5]]}, r"must be \[items, 8\]"),
    ],
)
def test_what_can_not_be_encoded_is_a_bad_request(services, kind, body, message):
    with pytest.raises(BadRequest, match=message) as caught:
        services[kind].encode(parse_encode(body))
    assert caught.value.field == next(iter(body))


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_of_a_model_is_that_of_what_was_saved_and_not_of_its_catalog(tmp_path, kind):
    own = RecommenderService(KINDS[kind]())
    before = own.describe()
    own.recommender.save_pretrained(tmp_path)

    loaded = RecommenderService(Recommender.from_pretrained(tmp_path))
    assert loaded.describe() == before
    loaded.recommender.remove_items(["item004"])
    after = loaded.describe()
    assert after["model"] == before["model"] and after["catalog"] != before["catalog"]
    assert (after["num_items"], after["num_removed"]) == (before["num_items"] - 1, 1)
    json.dumps(after, allow_nan=False)


def test_other_weights_counts_or_beams_are_another_model():
    digests = {name: build().model_digest for name, build in BUILDERS.items()}
    trained = toy_sasrec("text")
    next(trained.model.parameters()).data.flatten()[0] += 1
    counted = toy_counting("markov_text")
    counted.update_from([["item001", "item002"]])
    wider = toy_text_recommender(num_beams=9)

    assert trained.model_digest != digests["sasrec"]
    assert counted.model_digest != digests["counting"]
    assert wider.model_digest != digests["generator"]
    assert {name: build().model_digest for name, build in BUILDERS.items()} == digests


def test_counted_clicks_show_in_the_description():
    own = RecommenderService(toy_counting("markov_text"))
    before = own.describe()["model"]

    own.recommender.update_from([["item001", "item002"]])

    assert own.describe()["model"] == own.recommender.model_digest != before


def test_columns_are_described_with_their_types():
    description = RecommenderService(with_columns(toy_text_recommender())).describe()

    assert description["columns"] == {"price": "double", "brand": "string", "in_stock": "bool", "tags": "list<string>"}
