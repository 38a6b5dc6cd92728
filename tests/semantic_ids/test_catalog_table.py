"""Semantic IDs as features: prefixes as categories that outlive every update of a catalog."""

import dataclasses

import numpy as np
import pytest
import torch

from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.modeling_opq import OpqModel
from cost_hf.semantic_ids.catalog import Catalog
from tests.recommenders.toys import toy_catalog


def test_items_share_a_category_exactly_where_they_share_the_prefix():
    catalog = toy_catalog(60, (4, 5, 3))

    features = catalog.prefix_features(3)

    assert features.ids.shape == (60, 3) and features.sizes == (4, 20, 60)
    for length in range(3):
        same = (catalog.codes[:, None, : length + 1] == catalog.codes[None, :, : length + 1]).all(-1)
        assert ((features.ids[:, None, length] == features.ids[None, :, length]) == same).all()
        assert features.ids[:, length].min() >= 0 and features.ids[:, length].max() < features.sizes[length]


def test_categories_of_old_items_stay_when_items_come_and_go():
    catalog = toy_catalog(30, (4, 5, 3))

    grown = catalog.with_items(["new"], codes=np.array([[0, 0, 0]])).without_items(["item003"])

    assert np.array_equal(grown.prefix_features(2).ids[:30], catalog.prefix_features(2).ids)


@pytest.mark.parametrize("length", [0, 5])
def test_a_length_that_no_sid_has_is_refused(length):
    with pytest.raises(ValueError, match=rf"prefixes have 1 … 4 codes, got length {length}"):
        toy_catalog(10, (4, 5, 3)).prefix_features(length)


def test_more_categories_than_an_integer_counts_are_refused():
    catalog = toy_catalog(5, (1 << 31, 1 << 31, 4))

    with pytest.raises(ValueError, match="shorten them"):
        catalog.prefix_features(3)


def parallel_catalog() -> Catalog:
    codes = [[0, 1, 2], [1, 1, 2], [0, 1, 0], [1, 0, 0]]
    return Catalog.from_codes(list("abcd"), codes, level_sizes=(2, 2, 3), collisions="none", has_parallel_levels=True)


def test_items_share_leading_codes_or_any_where_levels_are_parallel():
    parallel = parallel_catalog()
    ordered = dataclasses.replace(parallel, has_parallel_levels=False)

    assert parallel.num_shared_levels(parallel.codes[0]).tolist() == [3, 2, 2, 0]
    assert ordered.num_shared_levels(parallel.codes[0]).tolist() == [3, 0, 2, 0]
    assert parallel.num_shared_levels(parallel.codes[0, :2], np.array([1, 2])).tolist() == [1, 2]


def test_an_appended_level_is_nothing_that_items_of_parallel_levels_share():
    codes = [[0, 1], [1, 0], [0, 1]]
    options = {"level_sizes": (2, 2), "append_size": 4}
    parallel = Catalog.from_codes(list("abc"), codes, has_parallel_levels=True, **options)
    ordered = Catalog.from_codes(list("abc"), codes, **options)

    assert parallel.codes[:, 2].tolist() == [0, 0, 1]
    assert parallel.num_shared_levels(parallel.codes[0]).tolist() == [2, 0, 2]
    assert ordered.num_shared_levels(ordered.codes[0]).tolist() == [3, 0, 2]


def test_parallel_levels_have_no_prefix_features():
    with pytest.raises(ValueError, match="levels of this catalog do not depend on each other; use its codes"):
        parallel_catalog().prefix_features(2)


def test_parallel_levels_outlive_a_save_and_an_update(tmp_path):
    catalog = parallel_catalog()
    catalog.save_items(tmp_path, "catalog")
    plain = dataclasses.replace(catalog, has_parallel_levels=False)
    plain.save_items(tmp_path, "plain")

    assert Catalog.load_items(tmp_path, "catalog").has_parallel_levels
    assert not Catalog.load_items(tmp_path, "plain").has_parallel_levels
    assert catalog.with_items(["e"], codes=[[0, 0, 0]]).has_parallel_levels
    assert "levels 2x2x3 in parallel" in repr(catalog)
    # files of catalogs without them are as they were before there were any
    assert b"parallel" not in (tmp_path / "plain.safetensors").read_bytes()


def test_a_quantizer_says_whether_its_levels_are_parallel():
    vectors = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    product = OpqModel(OpqConfig(item_dim=6, level_sizes=(3, 3)))
    residual = CostModel(CostConfig(item_dim=6, level_sizes=(3, 3), latent_dim=4, hidden_sizes=(5,)))
    ids = [str(number) for number in range(20)]

    assert Catalog.from_embeddings(ids, vectors, product, collisions="none").has_parallel_levels
    assert not Catalog.from_embeddings(ids, vectors, residual, collisions="none").has_parallel_levels
