import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.methods.negatives import SharedNegatives, draw_negatives


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


def test_shared_negatives_are_drawn_by_clicks_and_uniformly_half_each():
    torch.manual_seed(0)
    negatives = SharedNegatives(np.array([0, 30, 0, 10]), 10_000, device=torch.device("cpu"))

    rows, log_expected = negatives.draw()

    assert rows.tolist() == [0, 1, 2, 3]
    expected = 10_000 * (0.125 + np.array([0, 0.375, 0, 0.125]))
    times = expected / log_expected.exp().numpy()  # an expectation over n draws is divided by n
    assert np.allclose(times, times.round(), atol=0.1) and times.sum().round() == 10_000
    assert (np.abs(times - expected) < 5 * np.sqrt(expected)).all()


def test_the_last_item_is_drawn_where_shares_round_below_one():
    negatives = SharedNegatives(np.ones(7), 5, device=torch.device("cpu"))
    negatives._upper[-1] = 0.5  # far below what rounding does

    rows, _ = negatives.draw()

    assert rows.max() <= 6


def test_sums_over_shared_negatives_estimate_those_over_all_items():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, generator=generator)
    clicks = torch.randint(5, (50,), generator=generator).numpy()
    negatives = SharedNegatives(clicks, 20, device=torch.device("cpu"))
    torch.manual_seed(0)

    sums = []
    for _ in range(2_000):
        rows, log_expected = negatives.draw()
        sums.append((scores[rows].log() - log_expected).exp().sum().item())

    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - scores.sum().item()) < 5 * error
