"""Masks while their catalog changes: right for the rows they were made for, carried on, and refused elsewhere."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.search.beam_search import beam_search
from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.sasrec.sasrec_toys import item_vectors, tiny_model
from tests.recommenders.toys import toy_catalog, toy_recommender

COUNT = 6
OTHER_ROWS = "the mask was built for other catalog rows: row 6 was item 'x1' then and is 'y1' now; build it again"


class Shop:
    """One recommender of either kind with `COUNT` first items, and how new ones come in."""

    def __init__(self, kind: str):
        self.kind = kind
        if kind == "sids":
            self.system = toy_recommender(toy_catalog(COUNT, (4, 5)), popularity=np.arange(COUNT))
        else:
            vectors = item_vectors(COUNT).numpy()
            items = ItemList(tuple(f"item{row:03d}" for row in range(COUNT)), np.zeros(COUNT, bool), vectors=vectors)
            model = tiny_model(inputs="text", num_items=COUNT)
            self.system = SasRecRecommender(model, items, popularity=np.arange(COUNT))

    def add(self, *ids: str) -> None:
        numbers = [sum(map(ord, item)) for item in ids]
        if self.kind == "sids":
            self.system.add_items(ids, codes=np.array([[number % 4, number % 5] for number in numbers]))
        else:
            self.system.add_items(ids, vectors=item_vectors(200).numpy()[[number % 200 for number in numbers]])

    def answers(self, **options) -> set[str]:
        found = self.system.recommend(["item000"], top_k=100, exclude_seen=False, **options)
        return {answer.item_id for answer in found}


@pytest.fixture(params=["sids", "vectors"])
def shop(request) -> Shop:
    return Shop(request.param)


def test_a_mask_never_speaks_of_items_that_took_the_place_of_others(shop):
    shop.add("x1")
    stock, wanted = shop.system.mask(denied=["x1"]), shop.system.mask(allowed=["x1", "item002"])
    shop.system.rollback()
    shop.add("y1")

    for mask in (stock, wanted):
        with pytest.raises(ValueError, match=OTHER_ROWS):
            shop.answers(allowed=mask)
    assert "y1" in shop.answers()


def test_a_mask_is_carried_on_to_appended_rows(shop):
    stock, wanted = shop.system.mask(denied=["item001"]), shop.system.mask(allowed=["item002", "item003"])
    shop.add("x1", "x2")

    assert shop.answers(allowed=stock) == shop.answers() - {"item001"} and "x1" in shop.answers(allowed=stock)
    assert shop.answers(allowed=wanted) == {"item002", "item003"}
    assert shop.answers(allowed=stock, denied=["x1"]) == shop.answers() - {"item001", "x1"}
    shop.add("x3")
    assert "x3" in shop.answers(allowed=stock) and shop.answers(allowed=wanted) == {"item002", "item003"}
    shop.system.rollback()
    assert shop.answers(allowed=stock) == shop.answers() - {"item001"}


def test_after_a_rollback_a_mask_speaks_of_the_rows_that_are_left(shop):
    shop.add("x1")
    stock, wanted = shop.system.mask(denied=["item001"]), shop.system.mask(allowed=["x1", "item002"])
    shop.system.rollback()

    assert shop.answers(allowed=wanted) == {"item002"}
    assert shop.answers(allowed=stock) == shop.answers() - {"item001"}
    shop.add("x1")
    assert shop.answers(allowed=wanted) == {"x1", "item002"}


def test_removed_items_stay_hidden_and_return_as_the_mask_named_them(shop):
    stock, wanted = shop.system.mask(denied=["item001"]), shop.system.mask(allowed=["item002", "item003"])
    shop.system.remove_items(["item002", "item004"])
    later = shop.system.mask(denied=["item001"])

    for mask in (stock, later):
        assert shop.answers(allowed=mask) == {"item000", "item003", "item005"}
    assert shop.answers(allowed=wanted) == {"item003"}
    shop.system.rollback()
    for mask in (stock, later):
        assert shop.answers(allowed=mask) == {"item000", "item002", "item003", "item004", "item005"}
    assert shop.answers(allowed=wanted) == {"item002", "item003"}


def test_a_mask_is_for_any_load_of_the_same_rows(shop, tmp_path):
    shop.add("x1")
    stock = shop.system.mask(denied=["x1"])
    shop.system.save_pretrained(tmp_path / "saved")
    loaded = type(shop.system).from_pretrained(tmp_path / "saved")

    for other in (loaded, copy.deepcopy(shop.system)):
        found = other.recommend(["item000"], top_k=100, exclude_seen=False, allowed=stock)
        assert {answer.item_id for answer in found} == shop.answers() - {"x1"}


def test_a_mask_is_fitted_once_for_a_snapshot(shop, monkeypatch):
    stock = shop.system.mask(denied=["item001"])
    shop.add("x1")
    shop.answers(allowed=stock)
    monkeypatch.setattr(CatalogMask, "for_catalog", None)

    assert shop.answers(allowed=stock) == shop.answers() - {"item001"}


def small(*ids: str) -> Catalog:
    codes = [[place // 2, place % 2] for place in range(len(ids))]
    return Catalog.from_codes(list(ids), codes, level_sizes=[2, 2], collisions="none")


def test_tries_and_rankers_know_the_rows_of_a_mask():
    mask = CatalogMask.from_item_ids(small("a", "b"), denied=["b"])
    same, more, other = (SidTrie.from_catalog(small(*ids)) for ids in ("ab", "abc", "acb"))
    rows = torch.arange(3)[None, None]

    assert mask.on(same).keeps_items(rows[..., :2]).tolist() == [[[True, False]]]
    assert mask.on(more).keeps_items(rows).tolist() == [[[True, False, True]]]
    refused = r"row 1 was item 'b' then and is 'c' now; build it again from the current catalog"
    with pytest.raises(ValueError, match=refused):
        mask.on(other)

    class Equal:
        def scores(self, histories):
            return np.zeros((len(histories), 3), dtype=np.float32)

    histories = torch.zeros(1, 1, dtype=torch.long)
    ranker = ScoringRanker(Equal(), popularity=np.zeros(3), item_ids=["a", "b", "c"])
    assert ranker.rank(histories, top_k=3, mask=mask).items.tolist() == [[0, 2, -1]]
    with pytest.raises(ValueError, match=refused):
        ScoringRanker(Equal(), popularity=np.zeros(3), item_ids=["a", "c", "b"]).rank(histories, top_k=3, mask=mask)


def test_what_a_carried_mask_shares_is_compiled_once_for_a_trie():
    mask = CatalogMask.from_item_ids(small("a", "b"), denied=["b"])
    trie = SidTrie.from_catalog(small("a", "b", "c"))

    first = mask.on(trie)._allowed

    assert mask.on(trie)._allowed is first
    assert mask.without(torch.tensor([[0]])).on(trie).keeps_items(torch.arange(3)[None, None]).tolist() == [
        [[False, False, True]]
    ]


def test_a_search_refuses_the_mask_of_other_rows():
    system = Shop("sids").system
    inputs = system.prompts.inputs(torch.tensor([[0, 1]]))
    mask = CatalogMask.from_item_ids(small("a", "b"), denied=["b"])

    for search in (
        lambda: beam_search(system.generator, *inputs, trie=system.trie, vocabulary=system.vocabulary, mask=mask),
        lambda: SidLogitsProcessor(system.trie, system.vocabulary, mask=mask),
        lambda: prefix_allowed_tokens_fn(system.trie, system.vocabulary, mask=mask),
        lambda: system.ranker_for(2).rank(torch.tensor([[0]]), top_k=2, mask=mask),
        lambda: system.recommend(["item000"], allowed=mask),
    ):
        with pytest.raises(ValueError, match="row 0 was item 'a' then and is 'item000' now"):
            search()


def test_a_processor_takes_a_mask_from_before_the_catalog_grew():
    shop = Shop("sids")
    stock = shop.system.mask(denied=["item001"])
    shop.add("x1")
    system, inputs = shop.system, shop.system.prompts.inputs(torch.tensor([[0, 1]]))

    found = beam_search(
        system.generator, *inputs, trie=system.trie, vocabulary=system.vocabulary, mask=stock, num_beams=10
    )
    processor = SidLogitsProcessor(system.trie, system.vocabulary, mask=stock)
    made = system.generator.generate(
        input_ids=inputs[0],
        attention_mask=inputs[1],
        max_new_tokens=3,
        num_beams=6,
        num_return_sequences=6,
        eos_token_id=None,
        logits_processor=LogitsProcessorList([processor]),
    )

    listed = {row for row in found.items[0].tolist() if row >= 0}
    assert listed == set(range(COUNT + 1)) - {1}
    leaves = system.trie.prefix(system.vocabulary.decode(made[:, -3:]))
    assert {int(system.trie.leaf_items[leaf]) for leaf in leaves} == listed


def test_a_table_of_rows_is_for_the_present_rows_alone(shop):
    table = torch.arange(COUNT) > 2
    assert shop.answers(allowed=table) == {"item003", "item004", "item005"}
    mask = CatalogMask(COUNT, table)
    shop.add("x1")

    for allowed in (table, mask):
        with pytest.raises(ValueError, match=r"expected 7|shape \[7\]"):
            shop.answers(allowed=allowed)


def test_a_mask_made_in_the_call_does_not_race_with_changes(shop):
    ends, faults = threading.Event(), []
    known = {f"item{row:03d}" for row in range(COUNT)}

    def read() -> None:
        while not ends.is_set():
            try:
                mask = shop.system.mask(denied=["item001"])
                answers = shop.answers(allowed=mask)
                if answers not in (known - {"item001"}, known - {"item001"} | {"x1", "x2"}):
                    faults.append(answers)
                if shop.answers(allowed=shop.system.mask(allowed=["item003"])) != {"item003"}:
                    faults.append("allowed")
            except Exception as error:  # whatever a reader meets is a fault
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        shop.add("x1", "x2")
        shop.system.remove_items(["x1", "x2"])
        shop.system.rollback()
        shop.system.rollback()
    ends.set()
    for reader in readers:
        reader.join()

    assert faults == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("rollback"), st.just([])),
        st.tuples(st.sampled_from(["allow", "deny"]), st.lists(st.integers(0, 5), max_size=3, unique=True)),
    ),
    max_size=10,
)


@given(STEPS)
@settings(max_examples=30)
def test_any_mask_through_any_history_answers_by_id_or_refuses(steps):
    shop = Shop("sids")
    masks = []

    for action, numbers in steps:
        names = [f"n{number}" for number in numbers]
        known = [name for name in names if name in shop.system.catalog]
        if action == "add":
            shop.add(*names)
        elif action == "remove" and known:
            shop.system.remove_items(known)
        elif action == "rollback" and shop.system.versions:
            shop.system.rollback()
        elif action == "allow":
            masks.append((shop.system.mask(allowed=[*known, "item002"]), {*known, "item002"}, None))
        elif action == "deny":
            masks.append((shop.system.mask(denied=known), None, set(known)))
        rows, present = shop.system.catalog.item_ids, shop.answers()
        for mask, allowed, denied in masks:
            made_for = mask._rows.item_ids
            shared = min(len(rows), len(made_for))
            if rows[:shared] != made_for[:shared]:
                with pytest.raises(ValueError, match="built for other catalog rows"):
                    shop.answers(allowed=mask)
            else:
                expected = present & allowed if allowed is not None else present - denied
                assert shop.answers(allowed=mask) == expected


def test_a_mask_of_many_items_is_cheap_to_keep():
    count = 200_000
    items = ItemList(tuple(map(str, range(count))), np.zeros(count, dtype=bool))
    grown = items.with_items([f"x{row}" for row in range(3)])
    mask = CatalogMask.from_item_ids(items, denied=["5"])

    carried = mask.for_catalog(grown)

    assert carried.dense(1)[0].nonzero()[:, 0].tolist() == [row for row in range(count + 3) if row != 5]
    assert mask.for_catalog(items) is mask
