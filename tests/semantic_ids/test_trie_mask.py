"""A compiled mask against a dict of prefixes, on random catalogs with collisions and removed rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog_mask import CatalogMask, log_legal
from cost_hf.semantic_ids.trie import SidTrie
from tests.semantic_ids.sid_fakes import code_tables


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


def test_another_number_of_requests_is_an_error():
    trie = SidTrie([[0], [1]], (2,))
    compiled = CatalogMask(2, denied=torch.tensor([[0], [1]])).on(trie)

    with pytest.raises(ValueError, match="the mask is for 2 requests, got 3"):
        compiled.keeps_nodes(0, torch.zeros(3, 1, 1, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_not_legal_gets_minus_infinity(dtype):
    found = log_legal(torch.tensor([True, False]), dtype)

    assert found.dtype == dtype
    assert found.tolist() == [0.0, -torch.inf]
