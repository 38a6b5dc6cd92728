"""The trie against a ten-line dict, on random catalogs with many collisions."""

import gc
import pickle
from collections import defaultdict
from weakref import ref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import ChildRanges, SidTrie
from tests.semantic_ids.sid_fakes import code_tables, names


def dict_trie(codes, rows):
    """Reference: prefix → set of next codes, and SID → rows."""
    following, items = defaultdict(set), defaultdict(list)
    for row in rows:
        sid = tuple(codes[row].tolist())
        items[sid].append(row)
        for level, code in enumerate(sid):
            following[sid[:level]].add(code)
    return following, items


def children_of(trie, prefix):
    node = trie.prefix(torch.tensor(prefix, dtype=torch.long).view(1, -1))
    codes, nodes, valid = trie.children(len(prefix), node)
    return codes[valid].tolist(), nodes[valid]


@given(code_tables())
def test_children_and_leaves_are_those_of_a_dict(table):
    codes, sizes = table
    trie = SidTrie(codes, sizes)
    following, items = dict_trie(codes, range(len(codes)))

    for prefix, expected in following.items():
        found, nodes = children_of(trie, prefix)
        assert found == sorted(expected)
        extended = torch.tensor([[*prefix, code] for code in found])
        assert torch.equal(trie.prefix(extended), nodes)
    for sid, rows in items.items():
        found_rows, present = trie.leaf_rows(trie.prefix(torch.tensor([sid])))
        assert found_rows[present].tolist() == rows
    assert trie.num_nodes == [len({tuple(row[: level + 1]) for row in codes.tolist()}) for level in range(len(sizes))]


@given(code_tables(), st.sampled_from([0, 20, 1 << 18]), st.data())
def test_a_prefix_that_no_item_has_is_minus_one(table, table_size, data):
    codes, sizes = table
    trie = SidTrie(codes, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_hf.semantic_ids.trie.TABLE_SIZE", table_size)
        assert len(trie._tables) <= table_size
    length = data.draw(st.integers(0, len(sizes)))
    asked = data.draw(st.lists(st.tuples(*[st.integers(-5, 300)] * length), min_size=1))
    known = {tuple(row[:length]) for row in codes.tolist()}

    nodes = trie.prefix(torch.tensor(asked, dtype=torch.long).view(len(asked), length))

    assert [node >= 0 for node in nodes.tolist()] == [prefix in known for prefix in asked]


def test_prefixes_may_have_any_number_of_dimensions():
    trie = SidTrie(np.array([[0, 1], [1, 1]]), (2, 2))

    assert trie.prefix(torch.tensor([[[0, 1], [1, 1]], [[1, 0], [0, 0]]])).tolist() == [[0, 1], [-1, -1]]
    assert trie.prefix(torch.empty(2, 3, 0, dtype=torch.long)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_unknown_node_has_no_children_and_no_items():
    trie = SidTrie(np.array([[0, 1], [1, 1]]), (2, 2))

    assert trie.children(0, torch.tensor([0, -1]))[2].tolist() == [[True, True], [False, False]]
    assert trie.children(1, torch.tensor([-1, 1]))[2].tolist() == [[False], [True]]
    assert trie.leaf_rows(torch.tensor([-1, 1]))[1].tolist() == [[False], [True]]


def test_padding_of_children_names_existing_nodes():
    trie = SidTrie(np.array([[0, 0], [0, 1], [0, 3], [1, 2]]), (2, 4))

    codes, nodes, valid = trie.children(1, torch.tensor([0, 1]))

    assert valid.tolist() == [[True, True, True], [True, False, False]]
    assert nodes.max() < 4 and nodes.min() >= 0
    assert codes.max() < 4 and codes[1, 0] == 2


def test_items_of_one_sid_stand_by_popularity_then_id():
    catalog = Catalog.from_codes(["d", "c", "b", "a"], [[0], [0], [0], [1]], level_sizes=[2], collisions="none")

    popular, _ = SidTrie.from_catalog(catalog, popularity=np.array([1, 5, 1, 9])).leaf_rows(torch.tensor([0]))
    plain, _ = SidTrie.from_catalog(catalog).leaf_rows(torch.tensor([0]))

    assert [catalog.item_ids[row] for row in popular[0].tolist()] == ["c", "b", "d"]
    assert [catalog.item_ids[row] for row in plain[0].tolist()] == ["b", "c", "d"]


def test_removed_rows_are_not_in_the_trie():
    catalog = Catalog.from_codes(["a", "b", "c"], [[0, 0], [0, 1], [1, 0]], level_sizes=[2, 2], append_size=2)
    trie = SidTrie.from_catalog(catalog.without_items(["a", "c"]), popularity=np.array([3, 2, 1]))

    assert trie.num_nodes == [1, 1, 1]
    assert trie.num_items == 3
    assert trie.prefix(torch.tensor(catalog.codes)).tolist() == [-1, 0, -1]
    assert trie.leaf_rows(torch.tensor([0]))[0].tolist() == [[1]]
    assert trie.leaves.tolist() == [-1, 0, -1]


def test_a_catalog_without_items_is_an_error():
    catalog = Catalog.from_codes(["a"], [[0]], level_sizes=[2])

    with pytest.raises(ValueError, match="at least one item"):
        SidTrie.from_catalog(catalog.without_items(["a"]))


def test_codes_outside_their_level_are_an_error():
    with pytest.raises(ValueError, match=r"codes of level 1 must be in 0 … 1, got 2 in row 1"):
        SidTrie(np.array([[0, 0], [1, 2]]), (2, 2))


@given(code_tables())
def test_items_under_a_prefix_are_those_that_have_it(table):
    codes, sizes = table
    trie = SidTrie(codes, sizes)

    for length in range(len(sizes) + 1):
        for prefix in {tuple(row[:length]) for row in codes.tolist()}:
            expected = [row for row in range(len(codes)) if tuple(codes[row, :length].tolist()) == prefix]
            assert sorted(trie.items_under(prefix).tolist()) == expected


def test_no_items_are_under_an_unknown_prefix():
    assert SidTrie(np.array([[0, 1]]), (2, 2)).items_under([1]).tolist() == []


@given(code_tables(max_rows=60))
def test_every_row_has_the_leaf_of_its_sid(table):
    codes, sizes = table
    trie = SidTrie(codes, sizes)

    assert torch.equal(trie.leaves.long(), trie.prefix(torch.tensor(codes)))


def test_a_moved_trie_has_its_own_leaves():
    trie = SidTrie(np.array([[0], [1]]), (2,))

    trie.prefix(trie.leaves[:, None])

    assert trie.to("meta").__dict__.keys() == trie.__dict__.keys() - {"leaves", "_tables"}


def test_a_device_has_one_copy_of_a_trie_which_knows_where_it_came_from():
    trie = SidTrie(np.array([[0], [1]]), (2,))

    moved = trie.to("meta")

    assert moved.device.type == "meta"
    assert trie.to(torch.device("meta")) is moved and moved.to("meta") is moved
    assert moved.to("cpu") is trie and trie.to("cpu") is trie


def test_copies_are_freed_with_the_trie():
    trie = SidTrie(np.array([[0], [1]]), (2,))
    moved, held = ref(trie.to("meta")), trie.to("meta")
    gc.disable()
    try:
        del held, trie
        assert moved() is None
    finally:
        gc.enable()


def test_a_copy_that_outlives_the_trie_is_on_its_own():
    moved = SidTrie(np.array([[0], [1]]), (2,)).to("meta")

    assert moved.to("meta") is moved


def test_a_trie_that_was_moved_can_be_pickled():
    trie = SidTrie(np.array([[0], [1]]), (2,))
    moved = trie.to("meta")

    other = pickle.loads(pickle.dumps(trie))

    assert other.to("meta") is not moved
    assert other.prefix(torch.tensor([[1], [0]])).tolist() == [1, 0]


def test_wide_sids_give_the_same_trie_as_packed_ones():
    codes = np.random.default_rng(0).integers(0, 3, (200, 4))
    sizes = (3, 3, 3, 3)
    packed = SidTrie(codes, sizes, priority=np.arange(200))
    # 2^16 codes a level do not fit into one integer
    wide = SidTrie(codes, tuple(1 << 16 for _ in sizes), priority=np.arange(200))

    assert torch.equal(packed.leaf_items, wide.leaf_items)
    assert packed.num_nodes == wide.num_nodes
    probe = torch.tensor(codes)
    assert torch.equal(packed.prefix(probe), wide.prefix(probe))


@pytest.mark.parametrize("size", [256, 257, 1 << 15, (1 << 15) + 1, 70000])
def test_levels_of_any_size_keep_their_codes(size):
    codes = np.array([[0, size - 1], [size - 1, 0], [size - 1, size - 1]])

    trie = SidTrie(codes, (size, size))

    assert trie.prefix(torch.tensor(codes)).tolist() == [0, 1, 2]
    assert children_of(trie, (size - 1,))[0] == [0, size - 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_codes_of_any_integer_type_give_the_same_trie(dtype):
    codes = np.random.default_rng(0).integers(0, 100, (300, 3))

    trie, wide = SidTrie(codes.astype(dtype), (100,) * 3), SidTrie(codes, (100,) * 3)

    assert torch.equal(trie.leaf_items, wide.leaf_items)
    assert all(torch.equal(own, other) for own, other in zip(trie.codes, wide.codes, strict=True))


def test_many_prefixes_are_looked_up_in_pieces(monkeypatch):
    codes = np.random.default_rng(0).integers(0, 5, (60, 3))
    trie = SidTrie(codes, (5, 5, 5))
    whole = trie.prefix(torch.tensor(codes))

    monkeypatch.setattr("cost_hf.semantic_ids.trie.SEARCHED", 20)

    assert torch.equal(trie.prefix(torch.tensor(codes)), whole)


@pytest.mark.parametrize("nodes", [64, 500, 1024])
@pytest.mark.parametrize("fanout", [1, 3, 600], ids=["single", "few", "beyond 16 bits"])
def test_packed_child_ranges_are_the_starts(fanout, nodes):
    counts = np.random.default_rng(0).integers(1, fanout + 1, nodes)
    starts = np.concatenate([[0], np.cumsum(counts)])

    ranges = ChildRanges.from_starts(starts)

    assert ranges.all_starts().tolist() == starts.tolist()
    assert ranges.start(torch.arange(nodes + 1)).tolist() == starts.tolist()
    assert ranges.spans(torch.arange(nodes))[1].tolist() == counts.tolist()
    owners = np.repeat(np.arange(nodes), counts).tolist()
    assert ranges.all_parents().tolist() == ranges.parents(torch.arange(starts[-1])).tolist() == owners


def test_an_index_of_unique_sids_takes_at_most_ten_bytes_an_item():
    codes = np.unique(np.random.default_rng(0).integers(0, 256, (101_000, 4)), axis=0)[:100_000]

    assert SidTrie(codes, (256,) * 4).nbytes <= 10 * len(codes)


def test_names_decide_ties_in_a_large_group():
    ids = names(50)[::-1]
    trie = SidTrie(np.zeros((50, 2), dtype=np.int64), (2, 2), item_ids=ids)

    rows, present = trie.leaf_rows(torch.tensor([0]))

    assert [ids[row] for row in rows[present].tolist()] == sorted(ids)
