"""Collision policies: suffixes, the nearest free code, and balanced codes of the last level."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.quantizers.cost import CostConfig
from cost_hf.quantizers.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.collisions import (
    ROUNDS,
    append_suffixes,
    group_sizes,
    prefix_keys,
    resolve_collisions,
    spread_last_level,
)
from cost_hf.semantic_ids.trie import SidTrie
from tests.semantic_ids.sid_fakes import FakeQuantizer, code_tables, names

NO_ROWS = np.empty(0, dtype=np.int64)


def lowest_free_suffixes(keys, ids, taken):
    """Reference: a set of used suffixes per group, new items one after another in id order."""
    used = defaultdict(set)
    for key, suffix in taken:
        used[key].add(suffix)
    result = {}
    for item, key in sorted(zip(ids, keys, strict=True)):
        result[item] = next(number for number in range(10**6) if number not in used[key])
        used[key].add(result[item])
    return [result[item] for item in ids]


@given(
    keys=st.lists(st.integers(0, 3), max_size=20),
    taken=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_suffixes_are_the_lowest_free_ones_in_id_order(keys, taken, order):
    ids = names(len(keys))
    order.shuffle(ids)
    used = np.array(sorted(taken), dtype=np.int64).reshape(-1, 2)

    suffixes = append_suffixes(np.array(keys, dtype=np.int64), ids, taken_keys=used[:, 0], taken_suffixes=used[:, 1])

    assert suffixes.tolist() == lowest_free_suffixes(keys, ids, taken)


@given(code_tables(levels=(1, 12), sizes=(1, 300)))
def test_rows_share_a_key_exactly_where_their_codes_are_equal(table):
    codes, sizes = table

    keys = prefix_keys(codes, sizes)

    assert len(set(keys.tolist())) == len({tuple(row) for row in codes.tolist()})


def test_keys_of_more_than_63_bits_stay_distinct():
    codes = np.random.default_rng(0).integers(0, 256, (200, 12))
    codes = np.concatenate([codes, codes])

    keys = prefix_keys(codes, [256] * 12)

    assert len(set(keys.tolist())) == 200
    assert (keys[:200] == keys[200:]).all()


def settled(x, model, capacity, ids=None, codes=None, is_new=None):
    codes = model.encode(x).numpy() if codes is None else codes
    is_new = np.ones(len(codes), dtype=bool) if is_new is None else is_new
    return resolve_collisions(codes, is_new, x, model, capacity=capacity, item_ids=ids or names(len(codes)))


@pytest.mark.parametrize("capacity", [1, 2, 5])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 16))
def test_no_codes_are_held_by_more_items_than_the_capacity(capacity, seed, count):
    model = FakeQuantizer((4, 4), seed=seed)
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 0.3

    codes, moved = settled(x, model, capacity)

    assert group_sizes(codes, (4, 4)).max() <= capacity
    assert (codes >= 0).all() and (codes < 4).all()
    assert moved == (codes != model.encode(x).numpy()).any(1).sum()


def test_a_full_code_space_is_used_to_the_last_code():
    model = FakeQuantizer((3, 4))

    codes, _ = settled(torch.randn(12, 3, generator=torch.Generator().manual_seed(1)), model, 1)

    assert len({tuple(row) for row in codes.tolist()}) == 12


def test_more_items_than_codes_is_an_error_that_says_what_to_change():
    with pytest.raises(ValueError, match=r"1 of 13 items found no free code among \[3, 4\].*larger level_sizes"):
        settled(torch.randn(13, 3), FakeQuantizer((3, 4)), 1)


def test_the_nearest_items_of_a_full_group_stay():
    model = FakeQuantizer((2, 4))
    centre = model.books[0][1] + model.books[1][2]
    x = centre + torch.tensor([[0.03], [0.01], [0.04], [0.02]]) * torch.tensor([1.0, 0.0, 0.0])

    codes, moved = settled(x, model, 2)

    stays = (codes == [1, 2]).all(1)
    assert stays.tolist() == [False, True, False, True]
    assert moved == 2


def test_equally_near_items_stay_in_id_order():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(3, 3)

    codes, _ = settled(x, model, 1, ids=["c", "a", "b"])

    assert codes[1].tolist() == [1, 2]
    assert codes[:, 0].tolist() == [1, 1, 1]  # all stay under their first code while it has room


def test_items_leave_their_first_code_only_when_it_is_full():
    model = FakeQuantizer((2, 3))
    x = (model.books[0][0] + model.books[1][0]).expand(5, 3)

    codes, _ = settled(x, model, 1)

    assert Counter(codes[:, 0].tolist()) == {0: 3, 1: 2}


def test_old_rows_never_move_even_where_a_new_item_is_nearer():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(1, 3)
    codes = np.array([[1, 2], [1, 2]])

    result, moved = settled(x, model, 1, codes=codes, is_new=np.array([False, True]))

    assert result[0].tolist() == [1, 2]
    assert result[1].tolist() != [1, 2]
    assert moved == 1


@given(seed=st.integers(0, 10**6), order=st.permutations(range(12)))
def test_row_order_does_not_change_who_gets_which_code(seed, order):
    model = FakeQuantizer((3, 5), seed=seed)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed)) * 0.2
    ids = names(12)

    straight, _ = settled(x, model, 1, ids=ids)
    shuffled, _ = settled(x[list(order)], model, 1, ids=[ids[place] for place in order])

    assert (shuffled == straight[list(order)]).all()


@pytest.mark.parametrize("limit", ["CHUNK_DISTANCES", "ROUND_DISTANCES"])
def test_prefixes_in_several_chunks_give_the_same_codes(monkeypatch, limit):
    model = FakeQuantizer((6, 4))
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(3))
    whole, _ = settled(x, model, 1)

    monkeypatch.setattr(f"cost_hf.semantic_ids.collisions.{limit}", 4)
    parts, _ = settled(x, model, 1)

    assert (parts == whole).all()


def test_distances_that_are_not_finite_are_an_error():
    model = FakeQuantizer((2, 2))

    with pytest.raises(ValueError, match=r"level_distances returned values that are not finite at level 1.*NaN"):
        settled(torch.full((2, 3), torch.nan), model, 1, codes=np.zeros((2, 2), dtype=np.int64))


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


def test_old_rows_never_move_even_where_a_new_item_is_nearer_by_sinkhorn():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(1, 3)
    codes = np.array([[1, 2], [1, 2], [1, 2]])

    result, moved = spread(x, model, codes=codes, is_new=np.array([False, False, True]))

    assert result[:2].tolist() == [[1, 2], [1, 2]]
    assert result[2, 0] == 1 and result[2, 1] != 2
    assert moved == 1


@given(seed=st.integers(0, 10**6), order=st.permutations(range(12)))
def test_row_order_does_not_change_who_gets_which_code_by_sinkhorn(seed, order):
    model, x, ids = FakeQuantizer((3, 6), seed=seed), vectors(12, seed, 0.2), names(12)

    straight, _ = spread(x, model, ids=ids)
    shuffled, _ = spread(x[list(order)], model, ids=[ids[place] for place in order])

    assert (shuffled == straight[list(order)]).all()


def test_prefixes_in_several_chunks_give_the_same_codes_by_sinkhorn(monkeypatch):
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
