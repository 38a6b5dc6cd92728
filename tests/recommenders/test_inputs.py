"""What callers hold in their hands: every way in takes it by position, or says what is wrong and changes nothing."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange
from cost_hf.recommenders.generative import GenerativeRecommender as Generative
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.methods.sasrec.sasrec_toys import tiny_model
from tests.recommenders.toys import (
    TOY_ITEMS,
    TOY_TEXTS,
    recommender_of,
    toy_backbone,
    toy_catalog,
    toy_causal,
    toy_recommender,
    toy_t5,
    toy_text_recommender,
)
from tests.semantic_ids.sid_fakes import FakeQuantizer, names

NUMBERS = [str(100 + row) for row in range(TOY_ITEMS)]
NEW = pd.DataFrame({"item_id": ["61", "62"], "title": ["football in oslo", "weather in lima"]})
FRAMES = {
    "plain": NEW,
    "sorted": NEW.sort_values("item_id", ascending=False),
    "filtered": pd.concat([NEW, NEW])[2:],
    "labelled": NEW.set_index(pd.Index(["x", "y"])),
    "repeated": NEW.set_index(pd.Index([0, 0])),
    "timed": NEW.set_index(pd.date_range("2020-01-01", periods=2)),
    "numbers": NEW.assign(item_id=[61, 62]).sort_values("item_id", ascending=False),
}


def dense(ids=NUMBERS) -> SasRecRecommender:
    """A SASRec on texts whose ids are digits."""
    lsa = LsaEncoder.fit([f"{text} number{row}" for row, text in enumerate(TOY_TEXTS)], dim=12)
    catalog = ItemList(tuple(ids), np.zeros(TOY_ITEMS, dtype=bool), tuple(TOY_TEXTS), lsa.encode(TOY_TEXTS))
    model = tiny_model(inputs="text", num_items=TOY_ITEMS)
    encoder = ItemEncoder.of(lsa, VectorOptions())
    return SasRecRecommender(model, catalog, popularity=np.arange(TOY_ITEMS), encoder=encoder)


def coded(**options) -> Generative:
    """A generative recommender on texts whose ids are digits."""
    system = toy_text_recommender()
    catalog = Catalog.from_codes(
        NUMBERS,
        system.catalog.codes[:, :2],
        level_sizes=(4, 5),
        append_size=8,
        titles=TOY_TEXTS,
        quantizer_digest=system.catalog.quantizer_digest,
    )
    return toy_recommender(catalog, quantizer=system.quantizer, encoder=system.encoder, **options)


@pytest.fixture(scope="module", params=[coded, dense])
def made(request):
    return request.param()


@pytest.fixture
def system(made):
    """A recommender of either kind that a test may change."""
    return copy.deepcopy(made)


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def state(system) -> tuple:
    catalog = system.catalog
    codes = getattr(catalog, "codes", getattr(catalog, "vectors", None))
    return catalog.item_ids, catalog.titles, catalog.removed.tolist(), codes.tolist()


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_columns_belong_together_by_position(system, frame):
    wanted = copy.deepcopy(system)
    wanted.add_items(["61", "62"], ["football in oslo", "weather in lima"])
    wanted.update_items(["61", "62"], ["theatre in quito", "markets in dakar"], titles=["Q", None])
    is_first = [str(item) == "61" for item in frame["item_id"]]
    texts = pd.Series(np.where(is_first, "theatre in quito", "markets in dakar"), index=frame.index)
    titles = pd.Series([("Q" if first else None) for first in is_first], index=frame.index, dtype=object)

    system.add_items(frame["item_id"], frame["title"])
    system.update_items(frame["item_id"], texts, titles=titles)

    assert state(system) == state(wanted)
    assert system.remove_items(frame["item_id"]).item_ids == tuple(map(str, frame["item_id"]))


def test_vectors_and_codes_belong_to_their_ids_by_position():
    frame = FRAMES["sorted"]
    wanted, by_vectors, by_codes = coded(), coded(), coded()
    wanted.add_items(["61", "62"], NEW["title"].tolist())
    vectors = wanted.encoder.encode(frame["title"].tolist())
    for given in (pd.DataFrame(vectors, index=frame.index), torch.from_numpy(vectors), vectors.tolist()):
        by_vectors = coded()
        by_vectors.add_items(frame["item_id"], vectors=given, titles=frame["title"])
        assert state(by_vectors) == state(wanted)
    codes = wanted.encode(frame["title"])
    by_codes.add_items(frame["item_id"], codes=pd.DataFrame(codes, index=frame.index), titles=frame["title"])
    assert state(by_codes) == state(wanted)


@pytest.mark.parametrize(
    "call",
    [
        lambda system, bad: system.add_items(bad, ["football in oslo"] * 3),
        lambda system, bad: system.remove_items(bad),
        lambda system, bad: system.update_items(bad, ["football in oslo"] * 3),
        lambda system, bad: system.recommend(bad),
        lambda system, bad: system.recommend(["101"], allowed=bad),
        lambda system, bad: system.recommend(["101"], denied=bad),
        lambda system, bad: system.mask(allowed=bad),
        lambda system, bad: system.mask(denied=bad),
        lambda system, bad: system.catalog.rows_of(bad),
        lambda system, bad: system.catalog.without_items(bad),
    ],
    ids=["add", "remove", "update", "recommend", "allowed", "denied", "mask", "mask denied", "rows", "without"],
)
@pytest.mark.parametrize(
    "bad",
    ["101", b"101", {"101": 1}, 101.0, [101.0], ["101", None, "102"], [True, "101", "102"], [np.nan]],
    ids=repr,
)
def test_one_check_of_item_ids_stands_at_every_way_in(system, call, bad):
    before, snapshot = state(system), system.snapshot

    with pytest.raises(ValueError, match=r"item ids|must be a list|DataFrame"):
        call(system, bad)

    assert system.snapshot is snapshot and state(system) == before and system.journal == ()


@pytest.mark.parametrize("bad", [{"101"}, None, 7, [{"101"}], [["101"], None], [["101"], "102"], [[["101"]]]], ids=repr)
def test_histories_without_an_order_are_refused(system, bad):
    with pytest.raises(ValueError, match=r"must be a list|must be strings|expected item ids"):
        system.recommend(bad)


@pytest.mark.parametrize(
    "history",
    [
        ("101", "102"),
        [101, 102],
        np.array([101, 102]),
        np.array(["101", "102"]),
        pd.Series([101, 102], index=[1, 0]),
        pd.Series(["101", "102"], index=["b", "a"]),
        pd.Index([101, 102]),
        pa.array(["101", "102"]),
        lambda: iter(["101", "102"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_ordered_form_is_a_history(system, history):
    history = history() if callable(history) else history

    assert system.recommend(history, top_k=5) == system.recommend(["101", "102"], top_k=5)


@pytest.mark.parametrize(
    "batch",
    [
        (("101", "102"), ("103", "104")),
        np.array([[101, 102], [103, 104]]),
        pd.Series([[101, 102], np.array(["103", "104"])], index=[4, 2]),
        pa.array([["101", "102"], ["103", "104"]]),
        lambda: iter([pd.Series([101, 102], index=[1, 0]), iter(["103", "104"])]),
        [np.array([101, 102]), pd.Index(["103", "104"])],
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_ordered_form_is_a_batch(system, batch):
    batch = batch() if callable(batch) else batch

    assert system.recommend(batch, top_k=3) == system.recommend([["101", "102"], ["103", "104"]], top_k=3)


def test_numbers_stand_for_their_digits_everywhere(system):
    wanted = ids(system.recommend(["101"], top_k=TOY_ITEMS))

    assert ids(system.recommend([101], top_k=TOY_ITEMS, denied=np.array([105]))) == [i for i in wanted if i != "105"]
    assert set(ids(system.recommend([101], allowed={102, "103"}))) == {"102", "103"}
    assert set(ids(system.recommend([101], allowed=system.mask(allowed=pd.Series([102, 103]))))) == {"102", "103"}
    assert ids(system.recommend([101, 9], on_unknown="drop", top_k=TOY_ITEMS)) == wanted
    with pytest.raises(KeyError, match="1 of 2 item ids are not in the catalog of 20 items: '9'"):
        system.recommend([101, 9])
    assert system.add_items([61], ["football in oslo"]).item_ids == ("61",)
    assert system.update_items([61], ["weather in lima"]).item_ids == ("61",)
    assert system.remove_items({61}).item_ids == ("61",)


def test_nothing_asked_for_changes_nothing(system):
    for change in (system.add_items([], []), system.remove_items([]), system.update_items(pd.Series([]), [])):
        assert change.item_ids == () and change.before == change.after
    assert system.journal == ()


@pytest.mark.parametrize("texts", ["football", [None], [], {"football"}, [["football"]]], ids=repr)
def test_only_texts_have_codes(texts):
    with pytest.raises(ValueError, match=r"expected texts, got|texts must be a list"):
        coded().encode(texts)


def test_an_id_may_not_come_twice(system):
    before = state(system)

    for call in (system.add_items, system.update_items):
        with pytest.raises(ValueError, match="item ids must be unique, got '101' more than once"):
            call(["101", 101], ["football in oslo", "weather in lima"])
    with pytest.raises(ValueError, match="item ids must be unique, got '61' more than once"):
        system.add_items(["61", "61"], ["football in oslo", "weather in lima"])

    assert state(system) == before and system.journal == ()


@pytest.mark.parametrize("item", ["a\x1b[31mb", "a\nb", "\ud800", ""])
def test_an_id_that_cannot_be_stored_is_refused(system, item):
    with pytest.raises(ValueError, match="without control characters and lone surrogates"):
        system.add_items([item], ["football in oslo"])
    with pytest.raises(ValueError, match="lone surrogate"):
        system.add_items(["61"], ["football \ud800"])
    with pytest.raises(ValueError, match="lone surrogate"):
        system.update_items(["101"], ["football"], titles=["\ud800"])

    assert system.journal == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 3.0}, r"top_k must be a whole number of at least 1, got 3.0 \(float\)"),
        ({"top_k": None}, r"got None \(NoneType\)"),
        ({"top_k": True}, r"got True \(bool\)"),
        ({"top_k": "3"}, r"got '3' \(str\)"),
        ({"top_k": float("nan")}, r"got nan \(float\)"),
        ({"top_k": 1e9}, r"got 1000000000.0 \(float\)"),
        ({"top_k": [3]}, r"got \[3\] \(list\)"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": np.int64(-2)}, "top_k must be at least 1, got -2"),
        ({"exclude_seen": "no"}, "exclude_seen must be True or False, got 'no'"),
        ({"exclude_seen": None}, "exclude_seen must be True or False, got None"),
        ({"exclude_seen": 1}, "exclude_seen must be True or False, got 1"),
        ({"cold_share": "0.5"}, r"cold_share is a share in \[0, 1\], got '0.5'"),
        ({"cold_share": None}, "cold_share is a share"),
        ({"cold_share": True}, "cold_share is a share"),
        ({"cold_share": float("nan")}, "cold_share is a share"),
        ({"cold_share": -0.1}, "cold_share is a share"),
        ({"on_unknown": None}, "on_unknown must be one of error, drop, got None"),
        ({"on_unknown": ["drop"]}, "on_unknown must be one of error, drop, got"),
        ({"on_unknown": True}, "on_unknown must be one of error, drop, got True"),
        ({"on_empty": np.array(["error"])}, "on_empty must be one of error, popularity, got"),
        ({"allowed": torch.tensor([1, 2])}, "mask must be bool of shape"),
        ({"allowed": np.ones(TOY_ITEMS, dtype=bool)}, r"allowed must be a list of item ids \(strings\), got ndarray"),
    ],
    ids=repr,
)
def test_options_of_another_kind_are_named(system, options, message):
    with pytest.raises(ValueError, match=message):
        system.recommend(["101"], **options)


@pytest.mark.parametrize("top_k", [np.int64(4), np.uint8(4), 10**9, 10**30])
def test_any_whole_number_of_items_may_be_wanted(system, top_k):
    found = system.recommend(["101"], top_k=top_k)

    assert len(found) == min(top_k, TOY_ITEMS - 1)
    assert system.recommend([], top_k=top_k, on_empty="popularity")


def test_numpy_options_are_options(system):
    assert system.recommend(["101"], exclude_seen=np.bool_(False), cold_share=np.float32(0.5)) == system.recommend(
        ["101"], exclude_seen=False, cold_share=0.5
    )


@pytest.mark.parametrize(
    "users",
    [["7", "8"], ("7", "8"), np.array(["7", "8"]), np.array([7, 8]), pd.Series([7, 8], index=[3, 1]), pa.array([7, 8])],
    ids=lambda value: type(value).__name__,
)
def test_user_ids_are_taken_as_item_ids_are(users):
    catalog = toy_catalog(TOY_ITEMS, (4, 5))
    system = with_users(catalog, num_user_tokens=5)
    histories = [["item001"], ["item002"]]

    assert system.recommend(histories, user_ids=users) == system.recommend(histories, user_ids=["7", "8"])
    assert system.recommend(["item001"], user_ids=7) == system.recommend(["item001"], user_ids="7")
    for wrong, message in (
        (["7"], "one user id per history, got 1 for 2"),
        (None, "one user id per history, got 0 for 2"),
        ([7.0, 8.0], r"user ids must be strings .*got 7.0 \(float\)"),
        ({"7", "8"}, "got a set, which has no order"),
    ):
        with pytest.raises(ValueError, match=message):
            system.recommend(histories, user_ids=wrong)


def with_users(catalog: Catalog, **options) -> Generative:
    vocabulary = SidVocabulary.for_catalog(catalog, **options)
    return recommender_of(toy_backbone(toy_causal(vocabulary), vocabulary), catalog)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_history": 0}, "max_history must be at least 1, got 0"),
        ({"max_history": 10**9}, "max_history must be at most 100000"),
        ({"max_history": 2.0}, r"got 2.0 \(float\)"),
        ({"num_beams": 10**9}, "num_beams must be at most 10000"),
        ({"num_beams": "50"}, r"got '50' \(str\)"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
    ],
)
def test_a_recommender_is_of_possible_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        toy_recommender(**options)


@pytest.mark.parametrize("policy", ["append", "reassign", "min_cost", "sinkhorn"])
@pytest.mark.parametrize("sizes", [(2, 2), (4,), (1, 1)])
def test_a_full_catalog_is_an_error_and_stays_as_it_is(policy, sizes):
    model = FakeQuantizer(sizes)
    room = int(np.prod(sizes)) * (2 if policy == "append" else 1)
    x = torch.randn(room + 1, 3, generator=torch.Generator().manual_seed(0))
    catalog = Catalog.from_embeddings(names(room), x[:room], model, collisions=policy, append_size=2)
    system = toy_recommender(catalog, popularity=np.ones(room))
    system.quantizer = model
    before, snapshot = catalog.version, system.snapshot

    if policy == "sinkhorn":  # items without a code of their own share one there
        system.add_items(["late"], vectors=x[room:])
        assert len(system.catalog) == room + 1
        return
    with pytest.raises(ValueError, match="the catalog is full: 1 of"):
        system.add_items(["late"], vectors=x[room:])
    assert system.snapshot is snapshot and system.catalog.version == before and system.journal == ()


def test_a_full_group_of_given_codes_is_an_error_too():
    system = toy_recommender(toy_catalog(4, (1, 1), append_size=4), popularity=np.ones(4))

    with pytest.raises(ValueError, match="the appended level has 4 codes and is full"):
        system.add_items(["late"], codes=[[0, 0]])
    with pytest.raises(ValueError, match=r"codes must be integers, one row of codes per item, got float64"):
        system.add_items(["late"], codes=[[0.0, 0.0]])
    with pytest.raises(ValueError, match="expected one row of codes per item, got 2 for 1 items"):
        system.add_items(["late"], codes=[[0, 0], [0, 0]])


@pytest.mark.parametrize("build", [coded, dense, lambda: toy_recommender(build=toy_t5)], ids=["coded", "dense", "t5"])
def test_a_copy_answers_and_lives_on_its_own(build):
    system = build()
    history = [system.catalog.item_ids[1]]
    system.remove_items([system.catalog.item_ids[3]])
    mask = system.mask(denied=[system.catalog.item_ids[4]])
    wanted = system.recommend(history, allowed=mask, cold_share=0.5)

    for other, their_mask in (copy.deepcopy((system, mask)), pickle.loads(pickle.dumps((system, mask)))):
        assert other.recommend(history, allowed=their_mask, cold_share=0.5) == wanted
        assert other.recommend(history, allowed=mask, cold_share=0.5) == wanted
        other.rollback()
        assert not other.catalog.removed.any() and system.catalog.removed.any()
        assert len(system.journal) == 1 and len(other.journal) == 2


def test_another_process_takes_a_recommender(tmp_path):
    system = dense()
    system.add_items(["61"], ["football in oslo"])
    (tmp_path / "system.pickle").write_bytes(pickle.dumps(system))
    code = (
        "import pickle, sys\n"
        "system = pickle.load(open(sys.argv[1], 'rb'))\n"
        "system.add_items(['62'], ['weather in lima'])\n"
        "system.rollback()\n"
        "print(system, *(answer.item_id for answer in system.recommend(['101'], top_k=4)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "system.pickle")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split(") ")[-1].split() == ids(system.recommend(["101"], top_k=4))
    assert done.stdout.startswith("SasRecRecommender(sasrec, 21 items")


def test_a_recommender_loads_onto_a_device(system, tmp_path):
    system.save_pretrained(tmp_path / "saved")

    loaded = Recommender.from_pretrained(tmp_path / "saved", device="cpu")

    assert loaded.network.device == torch.device("cpu")
    assert ids(loaded.recommend(["101"])) == ids(system.recommend(["101"]))
    for wrong in ("gpu", "nowhere:3", 1.5, "meta", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(ValueError, match="device must be one that torch has here"):
            Recommender.from_pretrained(tmp_path / "saved", device=wrong)
        with pytest.raises(ValueError, match="device must be one that torch has here"):
            system.to(wrong)


def test_a_configuration_of_impossible_size_is_named(made, tmp_path):
    made.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / ("quantizer/config.json" if isinstance(made, Generative) else "config.json")
    field = "hidden_sizes" if isinstance(made, Generative) else "num_layers"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {field: [8] * 100_000 if field == "hidden_sizes" else 100_000}))

    with pytest.raises(ValueError, match=r"saved holds a config.json that defines no model|sha256"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_every_repr_is_one_line(system):
    many = tuple(f"item{row}" for row in range(10_000))
    change = CatalogChange("add", many, "a" * 64, "b" * 64, "2030-01-01T00:00:00+00:00")
    system.remove_items(["103"])
    mask = system.mask(denied=["104"])
    parts = [system, system.catalog, system.snapshot, system.journal[0], system.versions[0], system.encoder]
    parts += [mask, change, system.ranker_for(3).rank(torch.tensor([[0]]), top_k=3)]
    parts += [system.trie, system.prompts, system.vocabulary] if isinstance(system, Generative) else []

    for part in parts:
        text = repr(part)
        assert "\n" not in text and len(text) < 250 and text.startswith(type(part).__name__), text

    assert "20 items, 1 of them removed" in repr(system) and system.kind in repr(system)
    assert system.catalog.digest[:12] in repr(system) and system.catalog.digest[:12] in repr(system.catalog)
    assert repr(change).startswith("CatalogChange(add of 10000 items: 'item0', 'item1', 'item2', …")


@pytest.mark.parametrize(
    ("popularity", "message"),
    [
        (np.full(TOY_ITEMS, np.nan), "got .*nan.* in row 0"),
        (np.arange(TOY_ITEMS) - 1, "got .*-1.* in row 0"),
        (np.arange(TOY_ITEMS) / 2, "got .*0.5.* in row 1"),
        (["3"] * TOY_ITEMS, r"got <U1 \(20,\)"),
        (np.ones((TOY_ITEMS, 1)), r"got float64 \(20, 1\)"),
    ],
    ids=["nan", "negative", "fraction", "text", "table"],
)
def test_popularity_counts_clicks(popularity, message):
    with pytest.raises(
        ValueError, match=rf"popularity must be training clicks \[N\], whole numbers of 0 or more, {message}"
    ):
        toy_recommender(popularity=popularity)


def test_popularity_may_be_a_column_with_any_index():
    clicks = pd.Series(np.arange(TOY_ITEMS), index=np.arange(TOY_ITEMS)[::-1])

    assert ids(toy_recommender(popularity=clicks).recommend([], on_empty="popularity", top_k=1)) == ["item019"]
