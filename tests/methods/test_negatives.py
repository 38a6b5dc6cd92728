import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.methods.negatives import draw_negatives


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=4))
def test_negatives_are_any_item_but_those_of_the_user(owned):
    known = torch.full((len(owned), 12), -1)
    for line, rows in zip(known, owned, strict=True):
        line[: len(rows)] = torch.tensor(rows)

    drawn = draw_negatives(known, 400, num_items=11)

    for line, rows in zip(drawn.tolist(), owned, strict=True):
        assert set(line) == set(range(11)) - set(rows)


def test_negatives_are_uniform():
    torch.manual_seed(0)

    drawn = draw_negatives(torch.tensor([[0, 4, 4, -1]]), 60_000, num_items=8)

    counts = torch.bincount(drawn[0], minlength=8)
    assert counts[[0, 4]].tolist() == [0, 0]
    assert ((counts[[1, 2, 3, 5, 6, 7]] - 10_000).abs() < 500).all()
