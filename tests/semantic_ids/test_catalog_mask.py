"""Masks of catalog rows, and the same masks compiled for a trie."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask, log_legal
from cost_hf.semantic_ids.trie import SidTrie
from tests.semantic_ids.sid_fakes import code_tables

STOCK = torch.tensor([True, True, False, True])


def small_catalog(removed=()):
    codes = [[0, 0], [0, 1], [1, 0], [1, 1]]
    catalog = Catalog.from_codes(["a", "b", "c", "d"], codes, level_sizes=[2, 2], collisions="none")
    return catalog.without_items(list(removed))


def test_item_ids_are_allowed_or_denied():
    catalog = small_catalog()

    assert CatalogMask.from_item_ids(catalog, allowed=["d", "a"]).dense(1).tolist() == [[True, False, False, True]]
    assert CatalogMask.from_item_ids(catalog, denied=["b", "b"]).dense(1).tolist() == [[True, False, True, True]]
    assert CatalogMask.from_item_ids(catalog, allowed=["a", "b"], denied=["b"]).dense(1).sum() == 1
    assert not CatalogMask.from_item_ids(catalog, allowed=[]).dense(1).any()


def test_removed_items_are_never_allowed():
    mask = CatalogMask.from_item_ids(small_catalog(removed=["a"]), allowed=["a", "b"])

    assert mask.dense(1).tolist() == [[False, True, False, False]]


def test_an_unknown_id_or_a_bare_string_is_an_error():
    with pytest.raises(KeyError, match="1 of 2 item ids are not in the catalog of 4 items: 'x'"):
        CatalogMask.from_item_ids(small_catalog(), denied=["a", "x"])
    with pytest.raises(ValueError, match=r"allowed must be a list of item ids, got the string 'a'; pass \['a'\]"):
        CatalogMask.from_item_ids(small_catalog(), allowed="a")


def test_denied_rows_count_per_request_and_add_up():
    mask = CatalogMask(4, STOCK).without(torch.tensor([[0, -1], [3, 3]])).without(torch.tensor([[-1], [1]]))

    assert mask.batch == 2
    assert mask.dense(2).tolist() == [[False, True, False, True], [True, False, False, False]]


@pytest.mark.parametrize("form", ["shared", "table", "denied", "without"])
def test_a_mask_does_not_change_with_the_callers_tensors(form):
    allowed, denied = STOCK.clone(), torch.tensor([[0], [1]])
    if form == "table":
        allowed = torch.stack([allowed, ~allowed])
    mask = CatalogMask(4, allowed if form in ("shared", "table") else None, denied if form == "denied" else None)
    mask = mask.without(denied) if form == "without" else mask
    before = mask.dense(2)

    allowed.logical_not_(), denied.add_(1), mask.dense(2).logical_not_()

    assert torch.equal(mask.dense(2), before)


def test_a_narrower_mask_does_not_change_with_the_callers_table():
    table = STOCK.clone()
    mask = CatalogMask(4).within(table)

    table.fill_(True)

    assert torch.equal(mask.dense(1)[0], STOCK)


@pytest.mark.parametrize(
    "mask",
    [
        CatalogMask(4, STOCK[None]),
        CatalogMask(4, denied=torch.tensor([[2, -1]])),
        CatalogMask(4).without(torch.tensor([[2]])),
        CatalogMask(4, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[2]])),
    ],
    ids=["table", "rows", "without", "both"],
)
def test_one_line_counts_for_any_number_of_requests(mask):
    trie = SidTrie.from_catalog(small_catalog())
    rows = torch.arange(4).expand(3, 1, 4)

    assert mask.batch is None and mask.take([1]) is mask
    assert torch.equal(mask.dense(3), STOCK.expand(3, -1))
    assert torch.equal(mask.hide(torch.zeros(3, 4)) == 0, STOCK.expand(3, -1))
    assert torch.equal(mask.on(trie).keeps_items(rows)[:, 0], STOCK.expand(3, -1))
    both = mask.without(torch.tensor([[0], [1]]))
    assert both.dense(2).tolist() == [[False, True, False, True], [True, False, False, True]]
    assert torch.equal(both.without(torch.tensor([[3]])).dense(2)[:, 3], torch.tensor([False, False]))


def test_a_table_of_many_lines_takes_one_line_of_denied_rows():
    mask = CatalogMask(4, torch.stack([STOCK, ~STOCK])).without(torch.tensor([[0, 2]]))

    assert mask.dense(2).tolist() == [[False, True, False, True], [False, False, False, False]]


def test_a_table_per_request_takes_denied_rows_in():
    table = torch.stack([STOCK, ~STOCK])

    mask = CatalogMask(4, table).without(torch.tensor([[0], [2]]))

    assert mask.dense(2).tolist() == [[False, True, False, True], [False, False, False, False]]
    assert torch.equal(table[0], STOCK)


@pytest.mark.parametrize("most", [0, 1, 3, 4])
def test_a_table_that_denies_few_items_is_kept_as_rows(most):
    table = torch.ones(3, 200, dtype=torch.bool)
    table[1, torch.arange(most) * 50] = False
    table[2, 7] = False

    mask = CatalogMask(200, table)

    assert (mask._denied is not None) == (most < 4)
    assert torch.equal(mask.dense(3), table)
    assert mask.batch == 3


@pytest.mark.parametrize(
    "mask",
    [
        CatalogMask(4, STOCK, denied=torch.tensor([[0], [1], [3]])),
        CatalogMask(4, torch.eye(3, 4, dtype=torch.bool)),
        CatalogMask(4, STOCK),
    ],
    ids=["rows", "table", "shared"],
)
def test_some_requests_keep_their_lines(mask):
    assert torch.equal(mask.take([2, 0]).dense(2), mask.dense(3)[[2, 0]])


def test_scores_of_items_that_are_not_allowed_are_hidden():
    mask = CatalogMask(4, STOCK, denied=torch.tensor([[0, -1], [3, 1]]))

    assert torch.equal(mask.hide(torch.zeros(2, 4)) == 0, mask.dense(2))


def test_a_narrower_mask_is_itself_where_nothing_changes():
    mask = CatalogMask(4, STOCK)

    assert mask.within(torch.tensor([True, True, True, True])) is mask
    for other in (CatalogMask(4), CatalogMask(4, denied=torch.tensor([[0], [1]]))):
        assert other.within(torch.tensor([True, True, True, True])) is other
    assert mask.within(torch.tensor([False, True, True, True])).dense(1).tolist() == [[False, True, False, True]]


def test_what_requests_share_is_compiled_once_for_a_trie():
    catalog = small_catalog()
    trie, other = SidTrie.from_catalog(catalog), SidTrie.from_catalog(catalog)
    mask = CatalogMask(4, STOCK)
    mask.on(trie)
    first = mask._compiled[trie]

    mask.without(torch.tensor([[0]])).on(trie)
    mask.without(torch.tensor([[1]])).on(other)

    assert mask._compiled[trie] is first
    assert len(mask._compiled) == 2
    del trie
    assert len(mask._compiled) == 1


def test_a_mask_may_be_given_as_a_tensor_or_not_at_all():
    mask = CatalogMask(4, STOCK)

    assert CatalogMask.of(None, 4) is None
    assert CatalogMask.of(mask, 4) is mask
    assert torch.equal(CatalogMask.of(STOCK, 4).dense(1)[0], STOCK)
    with pytest.raises(ValueError, match="the mask covers 4 catalog rows, expected 5; build it from the same catalog"):
        CatalogMask.of(mask, 5)
    with pytest.raises(ValueError, match="covers 4 catalog rows, expected 2"):
        mask.on(SidTrie(np.array([[0], [1]]), (2,)))


@pytest.mark.parametrize(
    "mask", [torch.ones(3, dtype=torch.bool), torch.ones(2), torch.ones(1, 1, 2, dtype=torch.bool)]
)
def test_a_table_of_another_shape_is_an_error(mask):
    with pytest.raises(ValueError, match=r"bool of shape \[2\] or \[B, 2\]"):
        CatalogMask.of(mask, 2)


@pytest.mark.parametrize("mask", [[True, False], np.ones(2, dtype=bool)], ids=["list", "array"])
def test_a_mask_that_is_no_tensor_is_an_error(mask):
    message = r"mask must be a CatalogMask or a bool tensor of shape \[2\] or \[B, 2\] .*, got (list|ndarray); convert"
    with pytest.raises(ValueError, match=message):
        CatalogMask.of(mask, 2)


@pytest.mark.parametrize("table", [STOCK, STOCK.numpy()], ids=["tensor", "array"])
def test_a_table_in_place_of_item_ids_is_an_error(table):
    with pytest.raises(
        ValueError, match=r"allowed must be a list of item ids \(strings\), got (Tensor|ndarray) of .*bool"
    ):
        CatalogMask.from_item_ids(small_catalog(), allowed=table)


def test_item_ids_may_stand_in_an_array():
    assert CatalogMask.from_item_ids(small_catalog(), denied=np.array(["c"])).dense(1)[0].equal(STOCK)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1]], r"int64 tensor of shape \[B, T\], got list; pad"),
        (torch.tensor([1]), r"int64 tensor of shape \[B, T\], got torch.int64 of shape \(1,\)"),
        (torch.tensor([[1.0]]), "got torch.float32"),
        (torch.tensor([[0, 4]]), "must be below 4, the number of catalog rows, got 4"),
    ],
)
def test_denied_rows_of_another_kind_are_an_error(rows, message):
    with pytest.raises(ValueError, match=message):
        CatalogMask(4, denied=rows)


@pytest.mark.parametrize("num_items", ["4", 4.0, None, -1, True])
def test_a_number_of_rows_is_a_whole_number(num_items):
    with pytest.raises(ValueError, match="num_items must be"):
        CatalogMask(num_items)


def test_another_number_of_requests_is_an_error():
    mask = CatalogMask(4, denied=torch.tensor([[0], [1]]))

    for call in (
        lambda: mask.dense(3),
        lambda: mask.hide(torch.zeros(1, 4)),
        lambda: mask.without(torch.tensor([[0]] * 3)),
        lambda: CatalogMask(4, torch.ones(3, 4, dtype=torch.bool)).without(torch.tensor([[0]] * 2)),
        lambda: CatalogMask(4, torch.stack([STOCK, ~STOCK])).without(torch.tensor([[0]] * 3)),
    ):
        with pytest.raises(ValueError, match=r"the mask is for . requests, got .; pass one row per request"):
            call()


@st.composite
def masked_tries(draw):
    """A trie, a mask for a batch of requests, and what it allows as a table `[B, N]` without removed rows."""
    codes, sizes = draw(code_tables(max_rows=40))
    count, batch = len(codes), draw(st.integers(1, 3))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    removed = torch.tensor(draw(flags))
    removed[draw(st.integers(0, count - 1))] = False
    form = draw(st.sampled_from(["all", "shared", "line", "table"]))
    lines = None if form == "all" else [draw(flags) for _ in range(batch if form == "table" else 1)]
    allowed = None if lines is None else torch.tensor(lines[0] if form == "shared" else lines)
    mask, expected = CatalogMask(count, allowed), torch.ones(batch, count, dtype=torch.bool)
    expected &= ~removed if allowed is None else allowed & ~removed
    width = draw(st.integers(0, 2 * count))
    if width:
        rows = st.lists(st.integers(-1, count - 1), min_size=width, max_size=width)
        denied = torch.tensor([draw(rows) for _ in range(draw(st.sampled_from([1, batch])))])
        mask = mask.without(denied)
        for request, line in enumerate(denied.expand(batch, -1).tolist()):
            expected[request, [row for row in line if row >= 0]] = False
    return SidTrie(codes, sizes, removed=removed.numpy()), torch.tensor(codes), mask, expected


@given(masked_tries())
def test_nodes_are_kept_that_lead_to_an_allowed_item(case):
    trie, codes, mask, expected = case
    compiled = mask.on(trie)

    for level, nodes in enumerate(trie.num_nodes):
        asked = torch.arange(nodes).expand(len(expected), 2, -1)
        found = compiled.keeps_nodes(level, asked)
        owners = trie.prefix(codes[:, : level + 1]).tolist()
        for request, line in enumerate(expected.tolist()):
            wanted = {owner for owner, is_allowed in zip(owners, line, strict=True) if is_allowed}
            for beam in found[request].tolist():
                assert {node for node, is_kept in enumerate(beam) if is_kept} == wanted


@given(masked_tries())
def test_items_are_kept_that_are_allowed(case):
    trie, _, mask, expected = case
    rows = trie.leaf_items.long()

    found = mask.on(trie).keeps_items(rows.expand(len(expected), 1, -1))

    assert torch.equal(found[:, 0], expected[:, rows])


@given(masked_tries())
def test_requests_without_an_item_are_known(case):
    trie, _, mask, expected = case

    assert torch.equal(mask.on(trie).is_empty.expand(len(expected)), ~expected.any(1))


@given(masked_tries(), st.randoms(use_true_random=False))
def test_requests_may_be_named_in_any_order(case, random):
    trie, _, mask, expected = case
    requests = torch.tensor(random.choices(range(len(expected)), k=4))
    compiled, last = mask.on(trie), len(trie.num_nodes) - 1
    nodes = torch.arange(trie.num_nodes[last])

    whole = compiled.keeps_nodes(last, nodes.expand(len(expected), 1, -1))[:, 0]

    assert torch.equal(compiled.keeps_nodes(last, nodes.expand(4, -1), requests), whole[requests])


def test_another_number_of_requests_is_an_error_on_a_trie():
    trie = SidTrie([[0], [1]], (2,))
    compiled = CatalogMask(2, denied=torch.tensor([[0], [1]])).on(trie)

    with pytest.raises(ValueError, match="the mask is for 2 requests, got 3"):
        compiled.keeps_nodes(0, torch.zeros(3, 1, 1, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_not_legal_gets_minus_infinity(dtype):
    found = log_legal(torch.tensor([True, False]), dtype)

    assert found.dtype == dtype
    assert found.tolist() == [0.0, -torch.inf]
