"""A catalog that holds item vectors keeps them with their rows through every change, on disk and in its digests."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cost_hf.files import DamagedFileError
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import catalog_digest
from tests.semantic_ids.sid_fakes import FakeQuantizer, names

WIDTH = 3


def vectors_of(item_ids, *, shift=0.0):
    """A vector for every item that only its own id gives."""
    return np.array([[hash_free(item), len(item), shift] for item in item_ids], dtype=np.float32)


def hash_free(item):
    return sum(place * ord(letter) for place, letter in enumerate(item, 1)) / 1000


def catalog_of(item_ids=("c", "a", "b"), **options):
    codes = [[row % 2, row % 3] for row in range(len(item_ids))]
    catalog = Catalog.from_codes(list(item_ids), codes, level_sizes=[2, 3], **options)
    return catalog.with_vectors(list(item_ids), vectors_of(item_ids))


def test_vectors_belong_to_ids_whatever_the_order():
    catalog = Catalog.from_codes(["c", "a"], [[0, 0], [1, 1]], level_sizes=[2, 3])

    held = catalog.with_vectors(["a", "c"], vectors_of(["a", "c"])).vectors

    assert held.dtype == np.float32 and np.array_equal(held, vectors_of(["c", "a"]))
    assert not held.flags.writeable


def test_without_vectors_digests_are_what_they_were():
    catalog = Catalog.from_codes(["c", "a"], [[0, 0], [1, 1]], level_sizes=[2, 3])

    assert catalog.digest == catalog_digest(catalog.item_ids, catalog.codes, catalog.removed)
    assert catalog.vectors is None and "vectors" not in repr(catalog)


def test_vectors_are_part_of_digest_and_version():
    catalog = catalog_of()

    other = catalog.with_vectors(["a"], vectors_of(["a"], shift=1.0))

    assert len({catalog.digest, other.digest}) == len({catalog.version, other.version}) == 2
    assert (other.codes == catalog.codes).all()
    assert np.array_equal(other.vectors[[0, 2]], catalog.vectors[[0, 2]])


def test_the_digest_with_vectors_does_not_depend_on_the_order_of_rows():
    ids, codes = ["c", "a", "b"], np.array([[0, 0], [1, 1], [1, 2]])
    orders = ([0, 1, 2], [2, 0, 1])

    digests = set()
    for order in orders:
        own = [ids[row] for row in order]
        catalog = Catalog.from_codes(own, codes[order], level_sizes=[2, 3])
        digests.add(catalog.with_vectors(own, vectors_of(own)).digest)

    assert len(digests) == 1


@given(st.lists(st.sampled_from(names(12)), min_size=1, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_every_row_keeps_its_vector_through_additions_removals_and_returns(ids, order):
    catalog = catalog_of(names(4))
    shuffled = list(ids)
    order.shuffle(shuffled)

    grown = catalog.with_items(shuffled, codes=[[0, 1]] * len(ids), vectors=vectors_of(shuffled, shift=0.0))
    back = grown.without_items(grown.item_ids[:2]).restored(grown.item_ids[:2])

    assert np.array_equal(grown.vectors, vectors_of(grown.item_ids))
    assert np.array_equal(back.vectors, grown.vectors) and back.version == grown.version


def test_an_item_that_returns_has_its_old_vector():
    catalog = catalog_of()

    back = catalog.without_items(["a"]).with_items(["a"], codes=[[0, 0]], vectors=np.ones((1, WIDTH), np.float32))

    assert np.array_equal(back.vectors, catalog.vectors) and back.digest == catalog.digest


def test_new_items_from_vectors_bring_them_along():
    model = FakeQuantizer((2, 3))
    x = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    catalog = Catalog.from_embeddings(names(3), x[:3], model).with_vectors(names(3), x[:3])

    grown = catalog.with_embeddings(["new"], x[3:], model)

    assert np.array_equal(grown.vectors, x.numpy())


def test_vectors_that_are_missing_or_do_not_fit_are_refused():
    catalog, plain = catalog_of(), Catalog.from_codes(["a", "b"], [[0, 0], [1, 1]], level_sizes=[2, 3])

    with pytest.raises(ValueError, match=r"expected vectors \[1, 3\], as wide as those of the other items, got none"):
        catalog.with_items(["new"], codes=[[0, 0]])
    with pytest.raises(ValueError, match=r"expected vectors \[1, 3\].*got \(1, 2\)"):
        catalog.with_vectors(["a"], np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="has no vectors, so all 2 items need one, got 1"):
        plain.with_vectors(["a"], np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="the vector of item 'b' is not finite"):
        plain.with_vectors(["a", "b"], np.array([[1.0], [np.nan]], np.float32))


def test_a_catalog_without_vectors_takes_items_as_before():
    plain = Catalog.from_codes(["a", "b"], [[0, 0], [1, 1]], level_sizes=[2, 3])

    assert plain.with_items(["c"], codes=[[0, 1]], vectors=np.ones((1, 2), np.float32)).vectors is None


def test_save_and_load_give_the_same_catalog_and_the_same_bytes(tmp_path):
    catalog = catalog_of(titles=["C", "A", None]).without_items(["b"])

    catalog.save(tmp_path, stem="one")
    catalog.save(tmp_path, stem="two")
    loaded = Catalog.load(tmp_path, stem="one")

    assert np.array_equal(loaded.vectors, catalog.vectors)
    assert (loaded.version, loaded.digest, loaded.titles) == (catalog.version, catalog.digest, catalog.titles)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["rows", "dtype", "nan", "name"])
def test_damaged_vectors_are_named(tmp_path, damage):
    catalog_of().save(tmp_path, stem="one")
    path = tmp_path / "one.safetensors"
    header = path.read_bytes()
    tensors = load_file(path)
    vectors = tensors["vectors"].copy()
    if damage == "rows":
        tensors["vectors"] = vectors[:2]
    elif damage == "dtype":
        tensors["vectors"] = vectors.astype(np.float64)
    elif damage == "nan":
        vectors[1, 1] = np.nan
        tensors["vectors"] = vectors
    else:
        tensors["vector"] = tensors.pop("vectors")
    size = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + size])["__metadata__"]
    save_file(tensors, path, metadata=metadata)

    with pytest.raises(DamagedFileError, match=r"one\.safetensors holds"):
        Catalog.load(tmp_path, stem="one")
