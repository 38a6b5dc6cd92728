"""Collision policy `min_cost`: no collisions, the least total distance, the same for any order of rows."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.collisions import group_sizes, resolve_collisions
from cost_hf.semantic_ids.min_cost import cheapest_moves, resolve_at_min_cost
from tests.semantic_ids.sid_fakes import FakeQuantizer, names


def vectors(count, seed, scale=0.3):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * scale


def resolved(x, model, *, ids=None, codes=None, is_new=None):
    codes = model.encode(x).numpy() if codes is None else codes
    is_new = np.ones(len(codes), dtype=bool) if is_new is None else is_new
    return resolve_at_min_cost(codes, is_new, x, model, item_ids=ids or names(len(codes)))


def last_distances(codes, x, model):
    """Distance of each item to its last code under its prefix, `[N]`."""
    distances = model.level_distances(x, torch.from_numpy(codes[:, :-1])).float().numpy()
    return distances[np.arange(len(codes)), codes[:, -1]].astype(np.float64)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 16))
def test_every_item_has_codes_of_its_own(seed, count):
    model, x = FakeQuantizer((4, 4), seed=seed), vectors(count, seed)

    codes, moved = resolved(x, model)

    assert group_sizes(codes, (4, 4)).max() == 1
    assert (codes >= 0).all() and (codes < 4).all()
    assert moved == (codes != model.encode(x).numpy()).any(1).sum()


@given(seed=st.integers(0, 10**6), count=st.integers(2, 5))
def test_the_last_codes_of_a_prefix_are_those_of_brute_force(seed, count):
    model, x = FakeQuantizer((1, 6), seed=seed), vectors(count, seed)
    distances = model.level_distances(x, torch.zeros(count, 1, dtype=torch.long)).float().numpy().astype(np.float64)

    codes, _ = resolved(x, model)

    least = min(distances[range(count), list(last)].sum() for last in permutations(range(6), count))
    assert last_distances(codes, x, model).sum() == pytest.approx(least)


@given(seed=st.integers(0, 10**6))
def test_the_items_that_leave_crowded_codes_are_those_of_brute_force(seed):
    draw = np.random.default_rng(seed)
    home = draw.integers(0, 2, 6)
    capacity = draw.integers(1, 3, 2)
    room = np.array([*np.minimum(capacity - np.bincount(home, minlength=2), 0), 2, 1, 3])
    inside = np.isin(home, np.flatnonzero(room < 0))
    home = home[inside]
    distances = draw.random((len(home), 5)).astype(np.float32)
    if not len(home):
        return

    chosen = cheapest_moves(distances, home, room)

    costs = {}
    for codes in product(range(5), repeat=len(home)):
        codes = np.array(codes)
        left = np.bincount(home, minlength=5) - np.bincount(codes, minlength=5)
        stays_out = (codes == home) | (room[codes] > 0)
        if stays_out.all() and (left[room < 0] == -room[room < 0]).all() and (-left <= room)[room >= 0].all():
            costs[tuple(codes)] = distances[range(len(home)), codes].astype(np.float64).sum()
    assert tuple(chosen) in costs
    assert costs[tuple(chosen)] == pytest.approx(min(costs.values()), abs=1e-6)


def test_moved_items_give_way_to_those_that_would_lose_more():
    # the cheapest move out of code 0 fills code 2, which the items of code 1 need more
    distances = np.array([[0, 9, 1, 2], [0, 9, 5, 9], [9, 0, 3, 9], [9, 0, 4, 9]], dtype=np.float32)

    chosen = cheapest_moves(distances, np.array([0, 0, 1, 1]), np.array([-1, -1, 1, 1]))

    assert chosen.tolist() == [3, 0, 2, 1]


@given(seed=st.integers(0, 10**6), count=st.integers(2, 16))
def test_the_cost_is_at_most_that_of_reassign_where_no_prefix_is_crowded(seed, count):
    model, x = FakeQuantizer((2, 16), seed=seed), vectors(count, seed)
    wanted = model.encode(x).numpy()
    everyone = np.ones(count, dtype=bool)

    codes, _ = resolved(x, model)
    others, _ = resolve_collisions(wanted, everyone, x, model, capacity=1, item_ids=names(count))

    assert (codes[:, 0] == wanted[:, 0]).all()
    assert last_distances(codes, x, model).sum() <= last_distances(others, x, model).sum() + 1e-5


def test_only_the_excess_of_a_crowded_prefix_leaves_it():
    model = FakeQuantizer((3, 4))
    x = (model.books[0][1] + model.books[1][2]) + vectors(7, 5, 0.001)

    codes, _ = resolved(x, model)

    assert np.bincount(codes[:, 0], minlength=3)[1] == 4
    assert group_sizes(codes, (3, 4)).max() == 1


def test_prefixes_are_relieved_at_every_level():
    model = FakeQuantizer((2, 2, 2))
    x = (model.books[0][1] + model.books[1][0] + model.books[2][1]).expand(8, 3)

    codes, _ = resolved(x, model)

    assert group_sizes(codes, (2, 2, 2)).max() == 1  # the code space is full


def test_an_item_without_a_collision_moves_where_that_lowers_the_sum():
    class OnALine:
        level_sizes = (3,)

        def level_distances(self, x, prefix):
            return (x - torch.tensor([[0.0, 1.0, 2.0]])).abs()

    codes, moved = resolved(torch.tensor([[0.1], [0.2], [1.4]]), OnALine(), codes=np.array([[0], [0], [1]]))

    assert codes[:, 0].tolist() == [0, 1, 2]
    assert moved == 2


def test_old_rows_never_move_even_where_a_new_item_is_nearer():
    model = FakeQuantizer((2, 4))
    x = (model.books[0][1] + model.books[1][2]).expand(1, 3)

    codes, moved = resolved(x, model, codes=np.array([[1, 2], [1, 2]]), is_new=np.array([False, True]))

    assert codes[0].tolist() == [1, 2]
    assert codes[1, 0] == 1 and codes[1, 1] != 2
    assert moved == 1


def test_a_prefix_full_of_old_rows_sends_new_items_elsewhere():
    model = FakeQuantizer((2, 2))
    x = (model.books[0][1] + model.books[1][1]).expand(2, 3)
    codes = np.array([[1, 0], [1, 1], [1, 1], [1, 1]])

    result, moved = resolved(x, model, codes=codes, is_new=np.array([False, False, True, True]))

    assert sorted(result[2:].tolist()) == [[0, 0], [0, 1]]
    assert moved == 2


@given(seed=st.integers(0, 10**6), order=st.permutations(range(14)), sizes=st.sampled_from([(3, 6), (4, 4), (2, 2, 4)]))
def test_row_order_does_not_change_who_gets_which_code(seed, order, sizes):
    model, x, ids = FakeQuantizer(sizes, seed=seed), vectors(14, seed, 0.2), names(14)

    straight, _ = resolved(x, model, ids=ids)
    shuffled, _ = resolved(x[list(order)], model, ids=[ids[place] for place in order])

    assert (shuffled == straight[list(order)]).all()


def test_prefixes_in_several_chunks_give_the_same_codes(monkeypatch):
    model, x = FakeQuantizer((6, 5)), vectors(30, 3)
    whole, _ = resolved(x, model)

    monkeypatch.setattr("cost_hf.semantic_ids.collisions.CHUNK_DISTANCES", 5)
    monkeypatch.setattr("cost_hf.semantic_ids.min_cost.CHUNK_DISTANCES", 5)

    assert (resolved(x, model)[0] == whole).all()


def test_more_items_than_codes_is_an_error_that_says_what_to_change():
    with pytest.raises(ValueError, match=r"the catalog is full: 1 of 13 items .* among \[3, 4\].*larger"):
        resolved(vectors(13, 0), FakeQuantizer((3, 4)))


def test_few_items_among_many_codes():
    model = FakeQuantizer((4096,), seed=1)
    x = model.books[0][7] + vectors(5, 2, 1e-4)

    codes, moved = resolved(x, model)

    nearest = model.level_distances(x, torch.zeros(5, 0, dtype=torch.long)).argsort(1)[:, :5]
    assert moved == 4
    assert set(codes[:, 0]) <= set(nearest.flatten().tolist())


def test_codes_without_collisions_are_kept_without_a_look_at_the_vectors():
    codes = np.array([[0, 0], [0, 1]])

    result, moved = resolved(torch.full((2, 3), torch.nan), FakeQuantizer((2, 2)), codes=codes)

    assert result is codes and moved == 0


def test_a_catalog_grows_by_free_codes_and_keeps_its_semantic_ids():
    model, x, ids = FakeQuantizer((3, 8)), vectors(20, 4, 0.1), names(20)
    before = Catalog.from_embeddings(ids[:12], x[:12], model, collisions="min_cost")

    after = before.with_embeddings(ids, x, model)

    assert (after.codes[:12] == before.codes).all()
    assert group_sizes(after.codes, after.level_sizes).max() == 1
    assert after.with_embeddings(ids, x, model) is after
    assert after.policy == "min_cost" and after.level_sizes == (3, 8)


def test_codes_without_vectors_are_an_error_that_names_the_remedy():
    with pytest.raises(ValueError, match=r"collisions='min_cost' needs vectors to move them; use from_embeddings"):
        Catalog.from_codes(["a", "b"], [[1, 0], [1, 0]], level_sizes=[2, 2], collisions="min_cost")
