"""A catalog that lives: what may change, what never does, and what readers see meanwhile."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.data import ItemEncoder, LsaEncoder, VectorOptions
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.recommenders import base, catalog_changes
from cost_hf.recommenders.catalog_changes import KEPT_VERSIONS
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.recommenders.toys import (
    PLACES,
    THEMES,
    TOY_ITEMS,
    TOY_TEXTS,
    toy_catalog,
    toy_recommender,
    toy_t5,
    toy_text_recommender,
)


def sids(system: GenerativeRecommender) -> dict[str, tuple[int, ...]]:
    return dict(zip(system.catalog.item_ids, map(tuple, system.catalog.codes.tolist()), strict=True))


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


@pytest.mark.parametrize("build", [None, toy_t5], ids=["causal", "t5"])
def test_a_new_item_can_be_recommended_at_once_and_no_sid_changes(build):
    system = toy_text_recommender() if build is None else toy_text_recommender(build)
    before = sids(system)

    change = system.add_items(["new"], ["football in lisbon and oslo"])

    assert "new" in ids(system.recommend(["item001"], top_k=TOY_ITEMS + 1, exclude_seen=False))
    assert ids(system.recommend(["item001"], top_k=3, allowed=["new"])) == ["new"]
    assert {item: sid for item, sid in sids(system).items() if item != "new"} == before
    assert system.catalog.titles[-1] == "football in lisbon and oslo"
    assert (change.action, change.item_ids) == ("add", ("new",)) and change.before != change.after
    assert system.journal == (change,)
    assert system.recommend(["new"], top_k=2)  # and be part of a history


def test_the_code_of_a_new_item_is_that_of_its_text():
    system = toy_text_recommender()

    system.add_items(["twin"], [TOY_TEXTS[7]])

    assert sids(system)["twin"][:2] == sids(system)["item007"][:2] == tuple(system.encode([TOY_TEXTS[7]])[0])
    assert sids(system)["twin"] != sids(system)["item007"]


def test_adding_again_changes_nothing_and_encodes_nothing(monkeypatch):
    system = toy_text_recommender()
    system.add_items(["new"], ["football in oslo tonight"])
    snapshot = system.snapshot
    monkeypatch.setattr(type(system.encoder), "encode", None)

    change = system.add_items(["new", "item003"], ["another text", "and another"], titles=["x", "y"])

    assert change.item_ids == () and change.before == change.after
    assert system.snapshot is snapshot and len(system.journal) == 1


def test_the_order_of_one_call_does_not_matter_and_all_ways_in_agree():
    texts = {"b": TOY_TEXTS[3], "a": TOY_TEXTS[3], "c": TOY_TEXTS[11]}
    systems = [toy_text_recommender() for _ in range(3)]
    names = list(texts)
    vectors = systems[0].encoder.encode([texts[name] for name in names])

    systems[0].add_items(names, [texts[name] for name in names])
    systems[1].add_items(names[::-1], [texts[name] for name in names[::-1]])
    systems[2].add_items(names, vectors=vectors, titles=[texts[name] for name in names])

    assert sids(systems[0]) == sids(systems[1]) == sids(systems[2])
    assert len({system.catalog.version for system in systems}) == 1


def test_a_removed_item_is_never_recommended_but_known_and_returns_with_its_sid():
    system = toy_text_recommender()
    before = sids(system)

    system.remove_items(["item003"])
    system.add_items(["late"], [TOY_TEXTS[3]])

    assert "item003" not in ids(system.recommend(["item001"], top_k=TOY_ITEMS + 1, exclude_seen=False))
    assert system.recommend(["item003"], top_k=1)
    assert sids(system)["late"] != before["item003"]
    system.add_items(["item003"], ["whatever it says now"])
    assert sids(system)["item003"] == before["item003"] and not system.catalog.removed.any()
    assert system.catalog.titles[3] == TOY_TEXTS[3]


def test_an_update_changes_titles_and_counts_what_would_be_coded_otherwise():
    system = toy_text_recommender()
    before = sids(system)

    change = system.update_items(["item000", "item001"], [TOY_TEXTS[19], TOY_TEXTS[1]], titles=["A", None])

    assert change.would_differ == 1 and sids(system) == before
    assert system.catalog.titles[:2] == ("A", None)
    assert change.item_ids == ("item000", "item001")


def test_rollback_undoes_the_last_change_and_can_be_repeated():
    system = toy_text_recommender()
    versions = [system.catalog.version]
    for action in (
        lambda: system.add_items(["new"], ["football in oslo tonight"]),
        lambda: system.remove_items(["item001", "new"]),
        lambda: system.update_items(["item002"], ["weather in lima"]),
    ):
        action()
        versions.append(system.catalog.version)

    undone = [system.rollback() for _ in range(3)]

    assert [change.item_ids for change in undone] == [("item002",), ("item001", "new"), ("new",)]
    assert [change.after for change in undone] == versions[2::-1]
    assert system.catalog.version == versions[0] and "new" not in system.catalog
    assert len(system.popularity) == TOY_ITEMS
    with pytest.raises(ValueError, match="there is no older catalog to return to"):
        system.rollback()
    assert [change.action for change in system.journal] == ["add", "remove", "update", *["rollback"] * 3]


def test_only_so_many_versions_are_kept():
    system = toy_text_recommender()
    for number in range(KEPT_VERSIONS + 3):
        system.add_items([f"new{number}"], [f"football in oslo {number}"])

    assert len(system.versions) == KEPT_VERSIONS and len(system.journal) == KEPT_VERSIONS + 3


NAN = np.full((1, 8), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["x"],), {}, r"expected one of texts, vectors and codes, got \[\]"),
        ((["x"], ["a"]), {"codes": np.array([[0, 0]])}, r"got \['texts', 'codes'\]"),
        ((["x"], "a text"), {}, "expected one text per item, got one string for 1 items"),
        ((["x", "y"], ["a"]), {}, "expected one text per item, got 1 for 2 items"),
        ((["x"], [" "]), {}, "text with at least one word for item 'x'"),
        ((["x"], [None]), {}, "text with at least one word for item 'x', got None"),
        ((["x", "x"], ["football", "oslo"]), {}, "item ids must be unique, got 'x' more than once"),
        (([7.0], ["football"]), {}, r"item ids must be strings .*, got 7.0 \(float\)"),
        ((["x"],), {"vectors": NAN}, "the vector of item 'x' is not finite"),
        ((["x"],), {"vectors": np.zeros((1, 3), dtype=np.float32)}, r"item_embeddings must be \[items, 8\]"),
        ((["x"],), {"vectors": np.zeros((2, 8), dtype=np.float32)}, r"expected vectors \[1, E\]"),
        ((["x"],), {"codes": np.array([[9, 0]])}, "codes of level 0 must be in 0 … 3, got 9"),
        ((["x"], ["football"]), {"titles": [float("nan")]}, "expected a title or None for item 'x', got nan"),
        ((["x"], ["football"]), {"titles": ["a", "b"]}, "expected one title per item, got 2 for 1"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(arguments, options, message):
    system = toy_text_recommender()
    snapshot = system.snapshot

    with pytest.raises(ValueError, match=message):
        system.add_items(*arguments, **options)

    assert system.snapshot is snapshot and system.journal == () and system.versions == ()


@pytest.mark.parametrize("action", ["remove_items", "update_items"])
def test_an_unknown_item_can_be_neither_removed_nor_updated(action):
    system = toy_text_recommender()

    with pytest.raises(KeyError, match="1 of 2 item ids are not in the catalog"):
        getattr(system, action)(["item001", "gone"], *([["a", "b"]] if action == "update_items" else []))

    assert system.journal == () and not system.catalog.removed.any()


def test_a_recommender_of_foreign_codes_takes_codes_and_names_what_is_missing():
    system = toy_recommender()

    with pytest.raises(ValueError, match="has no quantizer: its codes came from elsewhere; pass the codes"):
        system.add_items(["new"], ["a text"])
    system.add_items(["new"], codes=np.array([[0, 0, 0]]))

    assert sids(system)["new"][:3] == (0, 0, 0)
    assert system.update_items(["new"], ["a text"]).would_differ == 0


def test_without_the_text_encoder_vectors_are_a_way_in():
    full = toy_text_recommender()
    system = toy_text_recommender()
    system.encoder = None

    with pytest.raises(ValueError, match="has no text encoder"):
        system.add_items(["new"], ["a text"])
    system.add_items(["new"], vectors=full.encoder.encode(["football in oslo"]))

    assert "new" in system.catalog


def test_a_catalog_without_titles_stays_without():
    system = toy_text_recommender(titles=False)

    system.add_items(["new"], ["football in oslo"])
    system.update_items(["new"], ["weather in oslo"])

    assert system.catalog.titles is None


def test_a_share_of_every_prefix_of_the_list_is_kept_for_items_without_a_click():
    system = toy_text_recommender(popularity=np.arange(TOY_ITEMS) + 1)
    system.add_items(["a", "b", "c"], ["football in oslo again", "weather in lima again", "markets in dakar again"])

    answers = ids(system.recommend(["item001"], top_k=12, cold_share=0.25))

    cold = [item in ("a", "b", "c") for item in answers]
    assert len(set(answers)) == 12
    assert all(sum(cold[:length]) >= length // 4 for length in range(13))
    plain = [item for item in ids(system.recommend(["item001"], top_k=12)) if item not in ("a", "b", "c")]
    warm = [item for item, is_cold in zip(answers, cold, strict=True) if not is_cold]
    assert warm == plain[: len(warm)]


def test_a_wish_for_no_cold_item_is_kept_too():
    system = toy_text_recommender()
    system.add_items(["a"], ["football in oslo again"])

    assert "a" not in ids(system.recommend(["item001"], top_k=5, cold_share=1.0, denied=["a"]))
    with pytest.raises(ValueError, match="cold_share is a share in"):
        system.recommend(["item001"], cold_share=1.5)


@pytest.mark.parametrize("change", ["add", "remove", "rollback"])
def test_a_change_in_the_middle_of_a_request_does_not_touch_its_answer(monkeypatch, change):
    system = toy_text_recommender()
    system.add_items(["late"], ["football in oslo tonight"])
    wanted = ids(system.recommend(["item001"], top_k=TOY_ITEMS + 1))
    actions = {
        "add": lambda: system.add_items(["later"], ["weather in lima tonight"]),
        "remove": lambda: system.remove_items(wanted[:3]),
        "rollback": system.rollback,
    }
    pad_rows, pending = base.pad_rows, [actions[change]]

    def pad_and_change(histories):
        if pending:
            pending.pop()()
        return pad_rows(histories)

    monkeypatch.setattr(base, "pad_rows", pad_and_change)

    assert ids(system.recommend(["item001"], top_k=TOY_ITEMS + 1)) == wanted
    assert pending == [] and ids(system.recommend(["item001"], top_k=TOY_ITEMS + 1)) != wanted


def test_readers_see_the_catalog_before_a_change_or_after_it():
    system = toy_text_recommender()
    batch = [f"batch{number}" for number in range(5)]
    texts = [f"{theme} in {place} now" for theme, place in zip(THEMES * 2, PLACES, strict=False)]
    ends, faults = threading.Event(), []

    def read() -> None:
        while not ends.is_set():
            try:
                answers = ids(system.recommend(["item001"], top_k=TOY_ITEMS + 5, exclude_seen=False))
                present = sum(item in answers for item in batch)
                if len(answers) != len(set(answers)) or present not in (0, 5) or len(answers) != TOY_ITEMS + present:
                    faults.append(answers)
            except Exception as error:  # whatever a reader meets is a fault
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(25):
        system.add_items(batch, texts)
        system.remove_items(batch)
        system.rollback()
        system.rollback()
    ends.set()
    for reader in readers:
        reader.join()

    assert faults == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("rollback"), st.just([])),
    ),
    max_size=10,
)


@given(STEPS)
@settings(max_examples=25)
def test_any_history_of_changes_agrees_with_a_plain_model(steps):
    system = toy_recommender(toy_catalog(6, (3, 3)), popularity=np.arange(6))
    codes = {f"n{number}": [number % 3, number // 3 % 3] for number in range(10)}
    born: dict[str, tuple[int, ...]] = sids(system)
    state, past = {item: True for item in born}, []

    for action, numbers in steps:
        names = [f"n{number}" for number in numbers]
        before = dict(state)
        if action == "add":
            system.add_items(names, codes=np.array([codes[name] for name in names]))
            state.update(dict.fromkeys(names, True))
        elif action == "remove":
            names = [name for name in names if name in state]
            if names:
                system.remove_items(names)
                state.update(dict.fromkeys(names, False))
        elif past:
            system.rollback()
            state = past.pop()
            continue
        if state != before:
            past.append(before)

    live = {item for item, is_live in state.items() if is_live}
    catalog = system.catalog
    assert set(catalog.item_ids) == set(state)
    assert {item for item, gone in zip(catalog.item_ids, catalog.removed, strict=True) if not gone} == live
    assert len(set(sids(system).values())) == len(state)
    assert {item: sid for item, sid in sids(system).items() if item in born} == born
    if live:
        assert set(ids(system.recommend(["item000"], top_k=50, exclude_seen=False))) == live


def test_the_journal_names_the_first_items_of_a_large_change(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog_changes, "KEPT_IDS", 2)
    system = toy_text_recommender()

    change = system.remove_items(["item001", "item002", "item003"])

    assert (change.item_ids, change.more, change.num_items) == (("item001", "item002"), 1, 3)
    assert repr(change).startswith("CatalogChange(remove of 3 items: 'item001', 'item002'")
    system.save_pretrained(tmp_path)
    loaded = GenerativeRecommender.from_pretrained(tmp_path)
    assert loaded.journal == system.journal
    undone = loaded.rollback()
    assert undone.item_ids == change.item_ids and undone.num_items == 3


@pytest.mark.parametrize("policy", ["reassign", "min_cost"])
def test_items_that_a_policy_moved_have_no_other_codes_by_the_same_texts(policy):
    lsa = LsaEncoder.fit(TOY_TEXTS, dim=8)
    vectors = torch.from_numpy(lsa.encode(TOY_TEXTS * 2))
    width = vectors.shape[1]
    torch.manual_seed(0)
    quantizer = CostModel(CostConfig(item_dim=width, latent_dim=width, hidden_sizes=None, level_sizes=(4, 64))).eval()
    names = [f"item{row}" for row in range(len(vectors))]
    catalog = Catalog.from_embeddings(names, vectors, quantizer, collisions=policy, titles=TOY_TEXTS * 2)
    assert catalog.moved
    system = toy_recommender(
        catalog,
        quantizer=quantizer,
        encoder=ItemEncoder.of(lsa, VectorOptions()),
        popularity=np.ones(len(names), dtype=np.int64),
    )

    assert system.update_items(names, TOY_TEXTS * 2).would_differ == 0
