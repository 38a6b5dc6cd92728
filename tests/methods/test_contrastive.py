import pytest
import torch
from torch.nn import functional

from cost_hf.methods.contrastive import contrastive_loss, pooled, random_positions, share_of


def views(batch=5, width=6, seed=0):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("similarity", "temperature"), [("dot", 1.0), ("dot", 0.5), ("cosine", 0.1)])
def test_the_loss_is_that_of_simclr(similarity, temperature):
    first, second = views(), views(seed=1)

    found = contrastive_loss(first, second, similarity=similarity, temperature=temperature)

    everything = [*first, *second]
    losses = []
    for own, view in enumerate(everything):
        scores = []
        for other, candidate in enumerate(everything):
            if other == own:
                continue
            is_cosine = similarity == "cosine"
            product = functional.cosine_similarity(view, candidate, dim=0) if is_cosine else view @ candidate
            scores.append((other, product / temperature))
        positive = next(score for other, score in scores if other == (own + 5) % 10)
        losses.append(torch.logsumexp(torch.stack([score for _, score in scores]), 0) - positive)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_equal_views_that_are_far_from_others_lose_little():
    own = torch.eye(5) * 10

    assert contrastive_loss(own, own) < 1e-6
    assert contrastive_loss(own, own.roll(1, 0)) > 50


def test_one_sequence_alone_has_no_negatives_and_no_loss():
    assert contrastive_loss(views(1), views(1, seed=1)) == 0


def test_poolings_leave_pads_out():
    hidden = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([3, 1])

    last, mean = pooled(hidden, lengths, "last"), pooled(hidden, lengths, "mean")
    flat = pooled(hidden, lengths, "flatten")

    assert torch.equal(last, torch.stack([hidden[0, 2], hidden[1, 0]]))
    torch.testing.assert_close(mean, torch.stack([hidden[0].mean(0), hidden[1, 0]]))
    assert torch.equal(flat[0], hidden[0].flatten())
    assert torch.equal(flat[1, :4], hidden[1, 0])
    assert not flat[1, 4:].any()


def test_positions_are_inside_and_as_many_as_asked_for():
    lengths = torch.tensor([1, 4, 7, 7])
    count = torch.tensor([1, 0, 3, 7])

    chosen = random_positions(lengths, count, width=9)

    assert torch.equal(chosen.sum(1), count)
    assert not chosen[torch.arange(9) >= lengths[:, None]].any()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.29, 0.7, 1.0])
def test_shares_are_rounded_down_as_python_does(rate):
    lengths = torch.arange(1, 200)

    assert share_of(lengths, rate).tolist() == [int(length * rate) for length in range(1, 200)]
    assert share_of(lengths, rate, least=1).min() >= 1
