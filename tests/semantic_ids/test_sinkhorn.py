from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.quantizers.cost import CostConfig
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.collisions import ROUNDS, group_sizes, spread_last_level
from cost_hf.semantic_ids.trie import SidTrie
from tests.semantic_ids.sid_fakes import FakeQuantizer, names


def vectors(count, seed, scale=0.3):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * scale


def spread(x, model, *, ids=None, codes=None, is_new=None):
    codes = model.encode(x).numpy() if codes is None else codes
    is_new = np.ones(len(codes), dtype=bool) if is_new is None else is_new
    return spread_last_level(codes, is_new, x, model, item_ids=ids or names(len(codes)))


@given(seed=st.integers(0, 10**6), count=st.integers(1, 30))
def test_items_leave_their_code_for_a_free_one_under_the_same_prefix(seed, count):
    model, x = FakeQuantizer((2, 8), seed=seed), vectors(count, seed)
    wanted = model.encode(x).numpy()

    codes, moved = spread(x, model)

    assert (codes[:, 0] == wanted[:, 0]).all()
    assert (codes >= 0).all() and (codes[:, 1] < 8).all()
    assert moved == (codes != wanted).any(1).sum()
    # a code that nobody wanted has one item at most; what collides kept its code because its prefix is full
    for prefix in range(2):
        below = codes[codes[:, 0] == prefix, 1]
        assert len(set(below)) == min(8, len(below))
    assert (group_sizes(codes, (2, 8))[(codes != wanted).any(1)] == 1).all()


@given(seed=st.integers(0, 10**6), count=st.integers(2, 16))
def test_the_nearest_item_of_every_group_keeps_its_codes(seed, count):
    model, x = FakeQuantizer((2, 16), seed=seed), vectors(count, seed)
    wanted = model.encode(x).numpy()
    distances = model.level_distances(x, torch.from_numpy(wanted[:, :1])).numpy()
    groups = defaultdict(list)
    for row, (prefix, last) in enumerate(wanted.tolist()):
        groups[prefix, last].append((distances[row, last].astype(np.float32), names(count)[row], row))

    codes, _ = spread(x, model)

    keepers = [min(group)[2] for group in groups.values()]
    assert (codes[keepers] == wanted[keepers]).all()


def test_moved_items_go_to_near_codes():
    model = FakeQuantizer((2, 16))
    x = (model.books[0][1] + model.books[1][2]) + vectors(4, 5, 0.001)

    codes, moved = spread(x, model)

    nearest = model.level_distances(x[:1], torch.tensor([[1]]))[0].argsort()[:4]
    assert moved == 3
    assert sorted(codes[:, 1].tolist()) == sorted(nearest.tolist())


def test_a_crowded_prefix_is_used_to_the_last_code_and_the_rest_shares():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]) + vectors(6, 5, 0.001)

    codes, moved = spread(x, model)

    assert moved == 3
    assert np.bincount(codes[:, 1]).tolist() == [1, 1, 3, 1]


@pytest.mark.filterwarnings("error")
def test_far_items_and_more_items_than_codes_stay_finite():
    model = FakeQuantizer((2, 4))
    x = torch.cat([(model.books[0][1] + model.books[1][2]) + vectors(6, 5, 0.001), 1e3 * torch.eye(3)])
    codes = np.tile([1, 2], (9, 1))

    result, _ = spread(x, model, codes=codes)

    assert sorted(set(result[:, 1].tolist())) == [0, 1, 2, 3]


def test_items_with_one_vector_part_by_their_ids_until_the_rounds_are_over():
    model = FakeQuantizer((2, 64))
    count = ROUNDS + 5
    x = (model.books[0][1] + model.books[1][2]).expand(count, 3)
    ids = [f"{number:02d}" for number in range(count)]

    codes, moved = spread(x, model, ids=ids)

    assert moved == ROUNDS
    shared = group_sizes(codes, (2, 64)) > 1
    assert [ids[row] for row in np.flatnonzero(shared)] == ["00", *ids[ROUNDS + 1 :]]


def test_old_rows_never_move_even_where_a_new_item_is_nearer():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(1, 3)
    codes = np.array([[1, 2], [1, 2], [1, 2]])

    result, moved = spread(x, model, codes=codes, is_new=np.array([False, False, True]))

    assert result[:2].tolist() == [[1, 2], [1, 2]]
    assert result[2, 0] == 1 and result[2, 1] != 2
    assert moved == 1


@given(seed=st.integers(0, 10**6), order=st.permutations(range(12)))
def test_row_order_does_not_change_who_gets_which_code(seed, order):
    model, x, ids = FakeQuantizer((3, 6), seed=seed), vectors(12, seed, 0.2), names(12)

    straight, _ = spread(x, model, ids=ids)
    shuffled, _ = spread(x[list(order)], model, ids=[ids[place] for place in order])

    assert (shuffled == straight[list(order)]).all()


def test_prefixes_in_several_chunks_give_the_same_codes(monkeypatch):
    model, x = FakeQuantizer((6, 5)), vectors(30, 3)
    whole, _ = spread(x, model)

    monkeypatch.setattr("cost_hf.semantic_ids.collisions.CHUNK_DISTANCES", 5)

    assert (spread(x, model)[0] == whole).all()


def test_one_level_is_enough():
    model, x = FakeQuantizer((8,)), vectors(8, 0, 0.01)

    codes, _ = spread(x, model)

    assert sorted(codes[:, 0].tolist()) == list(range(8))


def test_a_trie_lists_the_items_that_share_a_leaf_by_popularity():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]) + vectors(6, 5, 0.001)
    catalog = Catalog.from_embeddings(names(6), x, model, collisions="sinkhorn")
    shared = np.flatnonzero(group_sizes(catalog.codes, catalog.level_sizes) > 1)

    trie = SidTrie.from_catalog(catalog, popularity=np.arange(6))

    assert catalog.level_sizes == (2, 4) and catalog.report["largest_group"] == 3
    assert trie.items_under(catalog.codes[shared[0]].tolist()).tolist() == sorted(shared.tolist(), reverse=True)


def test_published_codes_that_collide_cannot_be_spread_without_vectors():
    with pytest.raises(ValueError, match=r"first with codes \[1, 0\], and collisions='sinkhorn' needs vectors"):
        Catalog.from_codes(["a", "b"], [[1, 0], [1, 0]], level_sizes=[2, 2], collisions="sinkhorn")


def test_real_vectors_are_spread_until_hardly_any_collide(shared_data):
    x = torch.from_numpy(np.load(shared_data / "amazon_beauty" / "cf_sasrec32.npy").astype(np.float32))
    config = CostConfig(item_dim=32, hidden_sizes=None, latent_dim=32, level_sizes=(64, 64, 64))
    model = fit_rkmeans(x, config, seed=0)

    before = Catalog.from_embeddings(names(len(x)), x, model, collisions="none")
    after = Catalog.from_embeddings(names(len(x)), x, model, collisions="sinkhorn")

    assert after.report["collided_share"] < 0.02 < before.report["collided_share"]
    assert (after.codes[:, :2] == before.codes[:, :2]).all()
