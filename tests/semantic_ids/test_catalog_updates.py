"""A catalog lives: what must hold whatever items come and go, in whatever order."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog import Catalog
from tests.semantic_ids.sid_fakes import FakeQuantizer, code_tables, names

SIZES = (2, 2)
CODES = st.tuples(st.integers(0, 1), st.integers(0, 1))
ITEMS = st.dictionaries(st.sampled_from(names(40)), CODES, min_size=1, max_size=20)


def build(items, **options):
    return Catalog.from_codes(list(items), np.array(list(items.values())), level_sizes=SIZES, **options)


def added(catalog, items, order=None):
    ids = list(items) if order is None else order
    return catalog.with_items(ids, codes=np.array([items[item] for item in ids], dtype=np.int64).reshape(-1, 2))


def sids(catalog):
    return {item: tuple(codes) for item, codes in zip(catalog.item_ids, catalog.codes.tolist(), strict=True)}


def equal(left, right):
    return left.item_ids == right.item_ids and left.digest == right.digest and left.titles == right.titles


@given(ITEMS, ITEMS)
def test_adding_items_changes_no_existing_sid_and_no_row(first, second):
    before = build(first)

    after = added(before, second)

    assert after.item_ids[: len(before)] == before.item_ids
    assert (after.codes[: len(before)] == before.codes).all()
    assert after.level_sizes == before.level_sizes
    assert after.quantizer_digest == before.quantizer_digest


@given(ITEMS, ITEMS)
def test_adding_twice_is_adding_once(first, second):
    once = added(build(first), second)

    assert equal(added(once, second), once)


@given(ITEMS, ITEMS, st.randoms(use_true_random=False))
def test_order_within_a_call_does_not_matter(first, second, order):
    shuffled = list(second)
    order.shuffle(shuffled)

    assert equal(added(build(first), second, shuffled), added(build(first), second))


@given(ITEMS, st.randoms(use_true_random=False))
def test_row_order_does_not_matter_to_the_sids_of_a_new_catalog(items, order):
    shuffled = list(items)
    order.shuffle(shuffled)

    rebuilt = build({item: items[item] for item in shuffled})

    assert sids(rebuilt) == sids(build(items))
    assert rebuilt.digest == build(items).digest
    assert rebuilt.quantizer_digest == build(items).quantizer_digest


@given(ITEMS, ITEMS)
def test_all_sids_are_distinct_and_each_new_one_takes_the_lowest_free_suffix(first, second):
    before = build(first)

    after = added(before, second)

    used = defaultdict(set)
    for *codes, suffix in before.codes.tolist():
        used[tuple(codes)].add(suffix)
    for item in sorted(set(second) - set(first)):
        expected = next(number for number in range(100) if number not in used[second[item]])
        assert sids(after)[item] == (*second[item], expected)
        used[second[item]].add(expected)


@given(ITEMS, ITEMS, st.data())
def test_a_removed_item_comes_back_with_its_row_and_sid(first, second, data):
    catalog = build(first)
    gone = data.draw(st.lists(st.sampled_from(list(first)), unique=True))

    without = added(catalog.without_items(gone), {item: codes for item, codes in second.items() if item not in gone})
    back = without.with_items(gone, codes=np.ones((len(gone), 2), dtype=np.int64))

    assert not back.removed.any()
    assert {item: sids(back)[item] for item in first} == sids(catalog)
    assert back.rows_of(list(first)).tolist() == list(range(len(first)))


@given(ITEMS, st.data())
def test_a_removed_item_keeps_its_suffix_from_others(items, data):
    catalog = build(items)
    gone = data.draw(st.sampled_from(list(items)))

    after = added(catalog.without_items([gone]), {"newcomer": items[gone]})

    assert sids(after)["newcomer"] != sids(catalog)[gone]
    assert after.removed[after.row_of(gone)] and not after.removed[after.row_of("newcomer")]


@given(ITEMS, st.data())
def test_removing_twice_is_removing_once(items, data):
    gone = data.draw(st.lists(st.sampled_from(list(items)), unique=True))

    once = build(items).without_items(gone)

    assert equal(once.without_items(gone), once)


def test_removing_an_unknown_item_is_an_error():
    with pytest.raises(KeyError, match="'z'"):
        build({"a": (0, 0)}).without_items(["z"])


def test_a_catalog_that_did_not_change_is_the_same_object():
    catalog = build({"a": (0, 0)})

    assert catalog.with_items(["a"], codes=[[1, 1]]) is catalog
    assert catalog.without_items([]) is catalog


def test_a_full_group_refuses_a_new_item_by_codes():
    catalog = build({"a": (0, 0), "b": (0, 0)}, append_size=2)

    with pytest.raises(ValueError, match=r"codes \[0, 0\] are shared by 3 items, the appended level has 2"):
        catalog.with_items(["c"], codes=[[0, 0]])


@pytest.mark.parametrize("collisions", ["append", "reassign", "min_cost", "sinkhorn", "none"])
@given(seed=st.integers(0, 1000), split=st.integers(1, 11), order=st.permutations(range(12)))
def test_vectors_obey_the_same_rules(collisions, seed, split, order):
    model = FakeQuantizer((4, 4), seed=seed)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed)) * 0.2
    ids = names(12)
    before = Catalog.from_embeddings(ids[:split], x[:split], model, collisions=collisions, append_size=2)

    after = before.with_embeddings(ids, x, model)
    shuffled = before.with_embeddings([ids[place] for place in order], x[list(order)], model)

    assert (after.codes[:split] == before.codes).all()
    assert equal(after, shuffled)
    assert equal(after.with_embeddings(ids, x, model), after)
    if collisions in ("append", "reassign", "min_cost"):
        assert len({tuple(row) for row in after.codes.tolist()}) == 12


def test_a_new_item_moves_where_an_old_one_holds_its_codes():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(2, 3)
    before = Catalog.from_embeddings(["b"], x[:1], model, collisions="reassign")

    after = before.with_embeddings(["a"], x[1:], model)

    assert after.codes[0].tolist() == [1, 2]
    assert after.codes[1, 0] == 1 and after.codes[1, 1] != 2
    assert after.moved == 1


@given(code_tables(), st.booleans(), st.booleans())
def test_a_loaded_catalog_is_the_saved_one_byte_for_byte(tmp_path_factory, table, with_titles, removes):
    codes, sizes = table
    ids = names(len(codes), "ä/…")
    titles = [None if row % 2 else f"title {row}" for row in range(len(ids))] if with_titles else None
    catalog = Catalog.from_codes(ids, codes, level_sizes=sizes, titles=titles, text_digest="t")
    catalog = catalog.without_items(ids[:1]) if removes else catalog
    folder = tmp_path_factory.mktemp("catalog")

    catalog.save(folder, stem="one")
    loaded = Catalog.load(folder, stem="one")
    loaded.save(folder, stem="two")

    assert equal(loaded, catalog)
    for name in ("level_sizes", "model_levels", "policy", "quantizer_digest", "text_digest", "moved"):
        assert getattr(loaded, name) == getattr(catalog, name)
    for kind in ("safetensors", "parquet"):
        assert (folder / f"one.{kind}").read_bytes() == (folder / f"two.{kind}").read_bytes()


def test_files_of_two_catalogs_are_refused(tmp_path):
    build({"a": (0, 0)}).save(tmp_path, stem="one")
    build({"b": (0, 0)}).save(tmp_path, stem="two")
    (tmp_path / "two.parquet").replace(tmp_path / "one.parquet")

    with pytest.raises(ValueError, match="belong to different catalogs"):
        Catalog.load(tmp_path, stem="one")


def test_a_missing_file_is_named(tmp_path):
    build({"a": (0, 0)}).save(tmp_path)
    (tmp_path / "catalog.parquet").unlink()

    with pytest.raises(FileNotFoundError, match=r"catalog\.parquet does not exist"):
        Catalog.load(tmp_path)


def test_a_catalog_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("cost_hf.semantic_ids.catalog_files.FORMAT", "cost_hf.catalog.2")
        build({"a": (0, 0)}).save(tmp_path)

    with pytest.raises(ValueError, match=r"has format 'cost_hf.catalog.2', this version reads '[\w.]+1'; use"):
        Catalog.load(tmp_path)


def test_an_updated_catalog_survives_saving(tmp_path):
    catalog = added(build({"a": (0, 0), "b": (0, 0)}).without_items(["a"]), {"c": (0, 0)})

    catalog.save(tmp_path)

    assert sids(Catalog.load(tmp_path).with_items(["a"], codes=[[1, 1]])) == sids(catalog)
