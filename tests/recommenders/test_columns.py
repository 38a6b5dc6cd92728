"""Columns of recommenders of every kind: filters and diverse lists, hourly changes, the way to disk and back."""

import copy
import threading

import numpy as np
import pyarrow.compute as pc
import pytest

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_snapshot import KEPT_FILTERS
from tests.methods.cobra.cobra_toys import text_recommender as cobra_recommender
from tests.methods.liger.liger_toys import text_recommender as liger_recommender
from tests.near_ties import assert_same_list
from tests.recommenders.saved import KINDS, answers, files_of, with_journal
from tests.recommenders.toys import TOY_COLUMNS, TOY_IDS, TOY_ITEMS, toy_text_recommender, with_columns

HISTORY = ["item001", "item007"]
WHERE = {"price": (5, 40), "brand": ["Alba", "Brisa"], "in_stock": True}
MATCHING = {
    item
    for item, price, brand, in_stock in zip(
        TOY_IDS, *(TOY_COLUMNS[name] for name in ("price", "brand", "in_stock")), strict=True
    )
    if price is not None and 5 <= price <= 40 and brand in ("Alba", "Brisa") and in_stock
}


SYSTEMS = KINDS | {"liger": liger_recommender, "cobra": cobra_recommender}


@pytest.fixture(params=list(SYSTEMS))
def system(request) -> Recommender:
    return with_columns(SYSTEMS[request.param]())


def ids(found) -> list[str]:
    return [answer.item_id for answer in found]


def brand_of(item: str) -> str | None:
    return TOY_COLUMNS["brand"][TOY_IDS.index(item)] if item in TOY_IDS else None


def first_of(ranked: list[str], length: int, limit: int) -> list[str]:
    """Return the first items of a ranking of which at most `limit` share a brand."""
    chosen: list[str] = []
    for item in ranked:
        own = [other for other in chosen if brand_of(other) == brand_of(item)]
        if len(chosen) < length and (brand_of(item) is None or len(own) < limit):
            chosen.append(item)
    return chosen


def test_a_filter_acts_as_the_list_of_its_items_does(system):
    found = system.recommend(HISTORY, top_k=5, where=WHERE)

    expected = system.recommend(HISTORY, top_k=5, allowed=sorted(MATCHING))
    assert found == expected and set(ids(found)) <= MATCHING and len(found) == 5
    # with other masks it is the intersection
    few = sorted(MATCHING)[:3]
    assert ids(system.recommend(HISTORY, top_k=5, where=WHERE, allowed=[*few, "item000"], denied=few[:1])) == ids(
        system.recommend(HISTORY, top_k=5, allowed=few[1:])
    )
    mask = system.mask(where=WHERE, denied=few[:1])
    assert ids(system.recommend(HISTORY, top_k=5, allowed=mask)) == ids(
        system.recommend(HISTORY, top_k=5, allowed=sorted(MATCHING - {few[0]}))
    )
    by_popularity = system.recommend([], top_k=TOY_ITEMS, where=WHERE, on_empty="popularity")
    assert set(ids(by_popularity)) == MATCHING
    bounds = (pc.field("price") >= 5) & (pc.field("price") <= 40)
    expression = bounds & pc.field("in_stock") & (pc.field("brand") != "Corva")
    assert ids(system.recommend(HISTORY, top_k=5, where=expression)) == ids(expected)


def test_equal_filters_are_compiled_once_for_a_state_of_the_columns(system):
    snapshot = system.snapshot
    first = snapshot.filtered(WHERE)

    assert snapshot.filtered({**WHERE, "brand": ("Alba", "Brisa")[:2] and ["Alba", "Brisa"]}) is first
    assert snapshot.filtered({"price": (5, 40)}) is not first
    system.update_items(["item003"], columns={"in_stock": [True]})
    assert system.snapshot.filtered(WHERE) is not first
    for most in range(KEPT_FILTERS):
        snapshot.filtered({"price": (None, 10 + most)})
    assert len(snapshot._filters) == KEPT_FILTERS and snapshot.filtered(WHERE) is not first
    assert copy.deepcopy(snapshot).filtered(WHERE).dense(1).tolist() == first.dense(1).tolist()


def test_a_diverse_list_equals_the_filtered_ranking(system):
    options = {"exact": True} if system.kind == "generator" else {}
    is_whole = system.kind not in ("liger", "cobra")  # the others score every item
    everything = len(system.catalog)
    whole = ids(system.recommend(HISTORY, top_k=everything, **options))
    for share in (0.0, 0.4):
        found = ids(system.recommend(HISTORY, top_k=6, diversify={"brand": 2}, cold_share=share, **options))
        brands = [brand_of(item) for item in found if brand_of(item) is not None]
        assert len(found) == 6 and max(map(brands.count, brands), default=0) <= 2
        if is_whole and not share:
            assert found == first_of(whole, 6, 2)
    options["where"] = {"in_stock": True}
    batch = system.recommend([HISTORY, ["item004"]], top_k=4, diversify={"brand": 1}, **options)
    for history, own in zip((HISTORY, ["item004"]), batch, strict=True):
        whole = ids(system.recommend(history, top_k=everything, **options))
        assert not is_whole or ids(own) == first_of(whole, 4, 1)
    popular = system.recommend([], top_k=5, on_empty="popularity", diversify={"brand": 1})
    whole = ids(system.recommend([], top_k=everything, on_empty="popularity"))
    assert ids(popular) == first_of(whole, 5, 1)


def test_a_limit_that_nothing_reaches_changes_no_list(system):
    for share in (0.0, 0.4):
        plain = system.recommend(HISTORY, top_k=6, cold_share=share)
        assert ids(system.recommend(HISTORY, top_k=6, cold_share=share, diversify={"brand": TOY_ITEMS})) == ids(plain)


@pytest.mark.parametrize("kind", ["fusion", "ranker"])
def test_every_item_of_a_diverse_list_is_explained(kind):
    system = with_columns(KINDS[kind]())

    found = system.recommend(HISTORY, top_k=6, diversify={"brand": 2}, cold_share=0.3, explain=True)

    assert len(found) == 6 and all("explanation" in answer.fields for answer in found)


def test_values_change_without_the_items_and_can_be_rolled_back(system):
    before, snapshot = system.catalog, system.snapshot
    listed = answers(system)

    change = system.update_items(["item003", "item005"], columns={"in_stock": [True, None], "price": [1, 99.0]})

    assert (change.action, change.item_ids) == ("update", ("item003", "item005"))
    assert system.catalog.items_version == before.items_version and system.catalog.digest == before.digest
    assert system.catalog.version == change.after != change.before == before.version
    assert ids(system.recommend(HISTORY, where={"price": (None, 1), "in_stock": True})) == ["item003"]
    assert answers(system) == listed or system.kind == "ranker"
    assert system.snapshot.catalog.item_ids is snapshot.catalog.item_ids  # masks of these rows are not compared again
    again = system.update_items(["item003"], columns={"in_stock": [True]})
    assert again.item_ids == () and system.journal[-1] == change
    undone = system.rollback()
    assert undone.item_ids == change.item_ids and system.catalog.version == before.version
    assert system.catalog.columns.value("in_stock", 3) is False and system.catalog.columns.value("price", 5) == 12.5


def test_what_a_search_is_made_of_is_shared_with_the_state_before():
    system = with_columns(toy_text_recommender())
    trie, prompts = system.trie, system.prompts

    system.update_items(["item003"], columns={"in_stock": [True]})

    assert system.trie is trie and system.prompts is prompts
    system.rollback()
    assert system.trie is trie
    system.remove_items(["item003"])
    assert system.trie is not trie


def test_a_new_item_has_the_columns_that_it_is_given():
    system = with_columns(toy_text_recommender())

    system.add_items(
        ["new", "item000"], ["football in oslo", "x"], columns={"brand": ["Doro", "Doro"], "price": [3, 3]}
    )

    assert ids(system.recommend(HISTORY, where={"brand": "Doro"})) == ["new"]
    assert [system.catalog.columns.value(name, TOY_ITEMS) for name in TOY_COLUMNS] == [3.0, "Doro", None, None]
    assert system.catalog.columns.value("brand", 0) == "Alba"  # a known item keeps its own
    system.add_items(["later"], ["theatre in oslo"])
    assert system.catalog.columns.value("brand", TOY_ITEMS + 1) is None
    assert system.catalog.titles[-1] == "theatre in oslo"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.update_items(["item001"], columns={"colour": ["red"]}), ValueError, "'colour', which the catalog"),
        (lambda s: s.update_items(["item001"], columns={"price": ["cheap"]}), ValueError, "a number, got 'cheap'"),
        (lambda s: s.update_items(["item001"], columns={"price": [1, 2]}), ValueError, "got 2 for 1 items"),
        (lambda s: s.update_items(["nobody"], columns={"price": [1]}), KeyError, "not in the catalog"),
        (lambda s: s.update_items(["item001"]), ValueError, "expected texts, titles or columns of the items, got none"),
        (lambda s: s.add_items(["new"], ["a text"], columns={"colour": ["red"]}), ValueError, "'colour', which"),
        (lambda s: s.add_items(["new"], ["a text"], columns={"price": [1, 2]}), ValueError, "each of 1 items, got 2"),
        (lambda s: s.add_columns(["item001"], {"colour": ["red", "blue"]}), ValueError, "each of 1 items, got 2"),
        (lambda s: s.recommend(HISTORY, where={"colour": 1}), ValueError, "where names the column 'colour'"),
        (lambda s: s.recommend(HISTORY, where={"price": (900, None)}), ValueError, "no item of 20 items fulfils"),
        (lambda s: s.recommend(HISTORY, diversify={"tags": 1}), ValueError, "expected one value an item"),
    ],
)
def test_errors_change_nothing(change, error, message):
    system = with_columns(toy_text_recommender())
    snapshot, journal = system.snapshot, system.journal

    with pytest.raises(error, match=message):
        change(system)

    assert system.snapshot is snapshot and system.journal == journal


def test_added_columns_can_be_filtered_by_and_replaced():
    system = with_columns(toy_text_recommender())

    system.add_columns(["item001", "item004"], {"colour": ["red", "blue"], "price": ["low", "high"]})

    assert ids(system.recommend(HISTORY, where={"colour": ["blue"]})) == ["item004"]
    assert set(ids(system.recommend(["item009"], where={"price": "low"}))) == {"item001"}
    system.rollback()
    assert system.catalog.columns.names == list(TOY_COLUMNS)


def test_a_directory_gives_back_columns_journal_and_older_values(system, tmp_path):
    own = [name for name in system.catalog.columns.names if name not in TOY_COLUMNS]
    system.update_items(["item003"], columns={"price": [0.5]})
    with_journal(system).save_pretrained(tmp_path / "saved")

    loaded = Recommender.from_pretrained(tmp_path / "saved")

    assert loaded.catalog.version == system.catalog.version and loaded.journal == system.journal
    assert_same_list(loaded.recommend(HISTORY, where=WHERE), system.recommend(HISTORY, where=WHERE))
    loaded.rollback()  # of the removed item
    loaded.rollback()
    assert loaded.catalog.columns.value("price", 3) == TOY_COLUMNS["price"][3]
    loaded.rollback()
    assert loaded.catalog.columns.names == own


def test_a_change_of_values_writes_no_other_file_of_the_catalog(system, tmp_path):
    system.save_pretrained(tmp_path / "saved")
    before = files_of(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")

    loaded.update_items(["item003"], columns={"price": [0.5]})
    loaded.save_catalog(tmp_path / "saved")

    after = files_of(tmp_path / "saved")
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name.partition("-")[0] for name in changed} == {"columns", "journal.jsonl", "recommender.json"}
    assert set(before) <= set(after)  # the older columns are there for a rollback
    again = Recommender.from_pretrained(tmp_path / "saved")
    again.rollback()
    again.save_catalog(tmp_path / "saved")
    assert {name for name in files_of(tmp_path / "saved") if "-" in name} == {name for name in before if "-" in name}


def test_columns_of_a_directory_that_were_changed_or_left_out_are_named(tmp_path):
    system = with_columns(toy_text_recommender())
    system.save_pretrained(tmp_path / "saved")
    path = next((tmp_path / "saved").glob("columns-*.parquet"))
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes(9))
    with pytest.raises(ValueError, match=rf"{path.name} has sha256"):
        Recommender.from_pretrained(tmp_path / "saved")
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.name} is missing"):
        Recommender.from_pretrained(tmp_path / "saved")


def test_an_update_after_another_process_is_refused(tmp_path):
    with_columns(toy_text_recommender()).save_pretrained(tmp_path / "saved")
    first, second = (Recommender.from_pretrained(tmp_path / "saved") for _ in range(2))
    first.update_items(["item003"], columns={"price": [0.5]})
    first.save_catalog(tmp_path / "saved")

    second.update_items(["item004"], columns={"price": [0.5]})
    with pytest.raises(ValueError, match="something else has changed it"):
        second.save_catalog(tmp_path / "saved")


def test_readers_see_the_values_before_a_change_or_after_it_never_a_mixture():
    system = with_columns(toy_text_recommender())
    flags = {True: [row % 2 == 0 for row in range(TOY_ITEMS)], False: [row % 2 == 1 for row in range(TOY_ITEMS)]}
    system.update_items(TOY_IDS, columns={"in_stock": flags[True]})
    seen: set[int] = set()
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            found = ids(system.recommend(HISTORY, top_k=6, where={"in_stock": True}))
            seen.add(10 * sum(TOY_IDS.index(item) % 2 for item in found) + len(found))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        system.update_items(TOY_IDS, columns={"in_stock": flags[turn % 2 == 1]})
    is_done.set()
    reader.join()

    assert seen <= {6, 66}  # six even rows, or six odd ones


def test_a_copy_without_metadata_has_no_columns(system):
    bare = system.without_metadata()

    assert bare.catalog.columns.names == [] and bare.catalog.titles is None
    with pytest.raises(ValueError, match="its columns are none"):
        bare.recommend(HISTORY, where={"price": (None, 5)})


def test_a_mask_of_a_filter_is_of_the_values_that_it_was_built_from():
    system = with_columns(toy_text_recommender())
    mask = system.mask(where={"price": (None, 5)})
    before = set(ids(system.recommend(["item009"], top_k=9, allowed=mask)))

    system.update_items(["item000"], columns={"price": [50]})

    assert set(ids(system.recommend(["item009"], top_k=9, allowed=mask))) == before
    assert set(ids(system.recommend(["item009"], top_k=9, where={"price": (None, 5)}))) == before - {"item000"}
    assert np.array_equal(mask.dense(1)[0].numpy().nonzero()[0], [0, 1, 2])
