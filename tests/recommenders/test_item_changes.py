"""Changes of a catalog by requests: what they do to texts and columns, and that a bad one changes nothing."""

import json

import numpy as np
import pytest

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.data.options import DataOptions
from cost_hf.recommenders.requests import BadRequest, parse, parse_changes, parse_similar
from cost_hf.recommenders.service import RecommenderService
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.sasrec.test_sasrec_recommender import TEXTS
from tests.methods.sasrec.test_sasrec_recommender import toy as toy_sasrec
from tests.recommenders.toys import TOY_COLUMNS, TOY_IDS, TOY_TEXTS, toy_recommender, toy_text_recommender

KINDS = {
    "generator": toy_text_recommender,
    "sasrec": lambda: toy_sasrec("text"),
    "counting": lambda: toy_counting("markov"),
    "fusion": toy_fusion,
}


def service_of(system, **data) -> RecommenderService:
    system.add_columns(TOY_IDS, TOY_COLUMNS)
    return RecommenderService(system, data=DataOptions(**data))


def with_template(template: str):
    """A SASRec of texts whose items are rendered by a template."""
    system = toy_sasrec("text")
    lsa = LsaEncoder.fit([f"{text} number{row}" for row, text in enumerate(TEXTS)], dim=system.model.config.text_dim)
    system.encoder = ItemEncoder.of(lsa, VectorOptions(template=template))
    return system


def change(service: RecommenderService, **body):
    return service.change_items(parse_changes(body))


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_added_changed_and_removed_by_one_step(kind):
    service = service_of(KINDS[kind]())
    before = service.recommender.catalog

    answer = change(
        service,
        add=[{"item_id": 77, "title": "football in ünï-字", "price": 5}, {"item_id": "item002", "title": "no"}],
        update=[{"item_id": "item001", "price": 7}, {"item_id": "77", "in_stock": True}],
        remove=["item003"],
    )

    catalog = service.recommender.catalog
    assert {name: answer[name] for name in ("added", "known", "restored", "updated", "removed")} == {
        "added": ["77"],
        "known": ["item002"],
        "restored": [],
        "updated": ["item001", "77"],
        "removed": ["item003"],
    }
    assert answer["catalog"] == catalog.version and answer["ignored_columns"] == []
    json.dumps(answer, allow_nan=False)
    row = catalog.row_of("77")
    assert (catalog.columns.value("price", row), catalog.columns.value("in_stock", row)) == (5.0, True)
    assert catalog.titles[row] == "football in ünï-字"
    assert catalog.titles[2] == before.titles[2] and catalog.columns.value("price", 1) == 7.0
    (found,) = service.recommend(parse({"inputs": ["item001"], "parameters": {"allowed": ["77", "item003"]}}))
    assert [entry["item_id"] for entry in found] == ["77"]
    service.recommender.rollback()
    assert service.recommender.catalog.version == before.version


def test_columns_of_added_items_that_are_used_for_nothing_are_named():
    service = service_of(with_template("{title}"))

    answer = change(service, add=[{"item_id": "a", "title": "x", "colour": "red", "price": 3, "size": 4}])

    assert answer["ignored_columns"] == ["colour", "size"]


def test_removed_items_return():
    service = service_of(toy_text_recommender())
    change(service, remove=["item001", "item002"])

    assert change(service, remove=["item002", "item003", "item003"])["removed"] == ["item003"]
    assert change(service, add=[{"item_id": "item001", "title": "x"}])["restored"] == ["item001"]
    assert not service.recommender.catalog.removed[1] and service.recommender.catalog.titles[1] == TOY_TEXTS[1]


def test_fields_that_a_record_lacks_stay():
    service = service_of(toy_text_recommender())

    change(
        service,
        update=[
            {"item_id": "item001", "price": None},
            {"item_id": "item002", "brand": "Dora", "tags": []},
            {"item_id": "item004", "price": 3.5},
        ],
    )

    columns = service.recommender.catalog.columns
    found = {name: [columns.value(name, row) for row in (1, 2, 4)] for name in TOY_COLUMNS}
    expected = {name: [values[row] for row in (1, 2, 4)] for name, values in TOY_COLUMNS.items()}
    expected["price"] = [None, expected["price"][1], 3.5]
    expected["brand"][1] = "Dora"
    expected["tags"][1] = []
    assert found == expected


def test_values_alone_do_not_touch_what_is_searched():
    service = service_of(toy_sasrec("text"))
    before = service.recommender.snapshot

    change(service, update=[{"item_id": item, "price": 1.0, "in_stock": False} for item in TOY_IDS])

    after = service.recommender.snapshot
    assert after.scorer is before.scorer and after.catalog.vectors is before.catalog.vectors
    assert after.catalog.items_version == before.catalog.items_version


def test_text_columns_are_values_where_no_model_reads_texts(monkeypatch):
    service = service_of(toy_text_recommender())
    monkeypatch.setattr(service.recommender.encoder, "encode", None)
    before = service.recommender.snapshot

    change(service, update=[{"item_id": "item001", "brand": "Dora", "tags": ["oslo"]}])

    after = service.recommender.snapshot
    assert after.trie is before.trie and after.catalog.columns.value("brand", 1) == "Dora"


def test_a_changed_text_is_made_of_all_of_its_columns():
    service = service_of(with_template("{title}, by {brand}"))
    vectors = service.recommender.catalog.vectors
    titles = service.recommender.catalog.titles

    answer = change(
        service, update=[{"item_id": "item001", "brand": "oslo"}, {"item_id": "item002", "title": "weather in perth"}]
    )

    catalog = service.recommender.catalog
    texts = [f"{titles[1]}, by oslo", "weather in perth, by Alba"]
    assert np.array_equal(catalog.vectors[1:3], service.recommender.encoder.encode(texts))
    assert np.array_equal(catalog.vectors[3:], vectors[3:])
    assert catalog.titles[1:3] == (titles[1], "weather in perth") and answer["updated"] == ["item001", "item002"]


def test_without_a_template_the_text_is_made_of_the_title_and_all_text_columns():
    service = service_of(toy_sasrec("text"))

    change(service, update=[{"item_id": "item001", "title": "weather in perth"}])

    catalog = service.recommender.catalog
    text = ". ".join(["weather in perth", "Alba", *[", ".join(TOY_COLUMNS["tags"][1])]])
    assert np.array_equal(catalog.vectors[1:2], service.recommender.encoder.encode([text]))


def test_a_title_that_is_no_part_of_the_text_changes_alone():
    service = service_of(with_template("{brand}"))
    vectors = service.recommender.catalog.vectors

    change(service, update=[{"item_id": "item001", "title": "weather in perth"}])

    catalog = service.recommender.catalog
    assert catalog.titles[1] == "weather in perth" and np.array_equal(catalog.vectors, vectors)


def test_a_catalog_without_titles_gets_none():
    service = RecommenderService(toy_sasrec("text", titles=False))

    change(service, update=[{"item_id": "item001", "title": "weather in perth"}])

    catalog = service.recommender.catalog
    assert catalog.titles is None
    assert np.array_equal(catalog.vectors[1:2], service.recommender.encoder.encode(["weather in perth"]))


def test_tables_are_read_as_those_of_the_run():
    columns = {"item_id": "asin", "title": "name"}
    service = service_of(toy_text_recommender(), columns=columns, normalize_ids=["strip", "lower"], clean_html=True)

    answer = change(
        service,
        add=[{"asin": " B00X ", "name": "football <b>in</b> oslo", "colour": "red"}],
        update=[{"asin": "ITEM001", "price": 2}],
        remove=[" Item004"],
    )

    assert (answer["added"], answer["updated"], answer["removed"]) == (["b00x"], ["item001"], ["item004"])
    assert answer["ignored_columns"] == []  # without a template the text has all words
    assert service.recommender.catalog.titles[-1] == "football in oslo"


def test_ids_of_requests_are_normalised_as_those_of_the_run():
    plain = service_of(toy_text_recommender())
    service = service_of(toy_text_recommender(), normalize_ids=["strip", "lower"])
    parameters = {"denied": [" ITEM002"], "allowed": [*TOY_IDS, "Item005 "]}

    requests = [parse({"inputs": [" ITEM001", "Item003"], "parameters": parameters}), parse({"inputs": ["item001"]})]
    expected = [
        parse({"inputs": ["item001", "item003"], "parameters": {"denied": ["item002"], "allowed": TOY_IDS}}),
        requests[1],
    ]

    found = [[entry["item_id"] for entry in answers[0]] for answers in service.recommend_many(requests)]
    assert found == [[entry["item_id"] for entry in plain.recommend(request)[0]] for request in expected]
    assert service.recommend(requests[0])[0][0]["item_id"] == found[0][0]
    similar = parse_similar({"item_id": "ITEM003 "})
    assert service.similar(similar) == plain.similar(parse_similar({"item_id": "item003"}))


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"add": [{"title": "x"}]}, "add", "no column 'item_id'"),
        ({"add": [{"item_id": "a", "title": "x"}, {"item_id": "a", "title": "y"}]}, "add", "got 'a'"),
        ({"add": [{"item_id": "a", "title": "x"}, {"item_id": "b", "title": ""}]}, "add", r"row 1 \(item_id 'b'\)"),
        ({"add": [{"item_id": "a", "price": 3}]}, "add", "no text column"),
        ({"add": [{"item_id": "a", "title": "x", "price": "dear"}]}, "add", "'price': expected a number, got 'dear'"),
        ({"add": [{"item_id": 1.5, "title": "x"}]}, "add", "1.5"),
        ({"add": [{"item_id": None, "title": "x"}]}, "add", "item_id"),
        ({"add": [{"item_id": "a\x1b", "title": "x"}]}, "add", "control character"),
        ({"update": [{"item_id": "item001", "prise": 3}]}, "update[0]", "did you mean 'price'"),
        ({"update": [{"item_id": "item001"}]}, "update[0]", "its id alone"),
        ({"update": [{"price": 3}]}, "update[0]", "no column 'item_id'"),
        (
            {"update": [{"item_id": "item001", "price": 3}, {"item_id": "gone", "price": 3}]},
            "update[1]",
            "'gone' is not in the catalog; add it",
        ),
        (
            {"update": [{"item_id": "item001", "price": 3}, {"item_id": "item001", "brand": "x"}]},
            "update[1]",
            "'item001' is in the list twice",
        ),
        (
            {"update": [{"item_id": "item002", "brand": "x"}, {"item_id": "item001", "price": "3"}]},
            "update[1]",
            "price",
        ),
        ({"remove": ["item001", "gone"]}, "remove", "not in the catalog of 21 items: 'gone'"),
    ],
)
def test_a_change_that_can_not_be_made_is_named_and_nothing_has_changed(body, field, message):
    service = service_of(toy_text_recommender())
    before = service.recommender.snapshot
    first = {"add": [{"item_id": "first", "title": "football in oslo"}]}

    with pytest.raises(BadRequest, match=message) as caught:
        change(service, **(first | body))

    assert caught.value.field == field
    assert service.recommender.snapshot is before and len(service.recommender.journal) == 1


def test_a_text_of_columns_that_are_not_kept_needs_them():
    service = service_of(with_template("{title}, in {country}"))

    with pytest.raises(BadRequest, match="does not keep country; send it, too"):
        change(service, update=[{"item_id": "item001", "title": "weather in perth"}])
    change(service, update=[{"item_id": "item001", "title": "weather", "country": "perth"}])
    expected = service.recommender.encoder.encode(["weather, in perth"])
    assert np.array_equal(service.recommender.catalog.vectors[1:2], expected)
    excluding = service_of(toy_sasrec("text"), exclude_columns=["story"])
    with pytest.raises(BadRequest, match="all text columns, and the catalog does not keep story"):
        change(excluding, update=[{"item_id": "item001", "title": "weather in perth"}])
    change(excluding, update=[{"item_id": "item001", "price": 3}])


@pytest.mark.parametrize("build", [toy_recommender, lambda: toy_sasrec("ids")])
def test_what_takes_no_new_items_says_so_and_takes_other_changes(build):
    service = service_of(build())

    with pytest.raises(BadRequest, match="takes no new items by their texts") as caught:
        change(service, add=[{"item_id": "a", "title": "x"}])
    assert caught.value.field == "add"
    change(service, update=[{"item_id": "item001", "price": 3}], remove=["item002"])
    assert service.recommender.catalog.columns.value("price", 1) == 3.0
