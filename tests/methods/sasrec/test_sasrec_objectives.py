import math

import pytest
import torch
from torch.nn import functional

from cost_hf.methods.sasrec import objectives_sasrec
from cost_hf.methods.sasrec.objectives_sasrec import (
    catalog_cross_entropy,
    sampled_binary_loss,
    sampled_softmax_loss,
)


def operands(positions=23, items=17, width=5, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(positions, width, generator=generator, dtype=dtype) * scale
    table = torch.randn(items, width, generator=generator, dtype=dtype)
    labels = torch.randint(items, (positions,), generator=generator)
    return users.requires_grad_(), table.requires_grad_(), labels


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_catalog_cross_entropy_and_its_gradients_are_those_of_the_plain_formula(monkeypatch, chunk):
    monkeypatch.setattr(objectives_sasrec, "POSITIONS_PER_CHUNK", chunk)
    users, table, labels = operands()

    loss = catalog_cross_entropy(users, table, labels)
    found = torch.autograd.grad(loss * 3, (users, table))

    plain = functional.cross_entropy(users @ table.T, labels)
    expected = torch.autograd.grad(plain * 3, (users, table))
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, expected)


def test_only_the_gradients_that_are_needed_are_asked_for():
    users, table, labels = operands()

    (gradient,) = torch.autograd.grad(catalog_cross_entropy(users.detach(), table, labels), table)

    (expected,) = torch.autograd.grad(functional.cross_entropy(users.detach() @ table.T, labels), table)
    torch.testing.assert_close(gradient, expected)


def test_a_hopeless_label_has_a_finite_loss_and_the_right_gradient():
    users = torch.tensor([[200.0, 0.0]], requires_grad=True)
    table, labels = torch.eye(2), torch.tensor([1])

    loss = catalog_cross_entropy(users, table, labels)
    loss.backward()

    assert math.isfinite(loss.item())
    assert users.grad.tolist() == [[1.0, -1.0]]


def test_autocast_halves_the_precision_of_the_logits_only():
    users, table, labels = operands(dtype=torch.float32)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = catalog_cross_entropy(users, table, labels)
    gradients = torch.autograd.grad(loss, (users, table))

    plain = functional.cross_entropy(users @ table.T, labels)
    expected = torch.autograd.grad(plain, (users, table))
    assert loss.dtype == gradients[0].dtype == gradients[1].dtype == torch.float32
    assert loss.item() != plain.item()
    assert loss.item() == pytest.approx(plain.item(), rel=0.01)
    for found, exact in zip(gradients, expected, strict=True):
        assert functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.999


def test_sampled_binary_loss_is_the_mean_over_positions_of_its_two_terms():
    generator = torch.Generator().manual_seed(1)
    users, positives = torch.randn(2, 4, 3, generator=generator)
    negatives = torch.randn(4, 2, 3, generator=generator)

    loss = sampled_binary_loss(users, positives, negatives)

    expected = 0.0
    for position in range(4):
        expected -= math.log(torch.sigmoid(users[position] @ positives[position]))
        for negative in negatives[position]:
            expected -= math.log(1 - torch.sigmoid(users[position] @ negative)) / 2
    assert loss.item() == pytest.approx(expected / 4, rel=1e-5)


def test_weights_multiply_the_losses_of_labels():
    users, table, labels = operands()
    weights = torch.linspace(0, 2, len(labels), dtype=torch.float64)

    loss = catalog_cross_entropy(users, table, labels, weights)
    found = torch.autograd.grad(loss, (users, table))

    plain = (functional.cross_entropy(users @ table.T, labels, reduction="none") * weights).mean()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, torch.autograd.grad(plain, (users, table)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_one_are_bit_for_bit_no_weights(dtype):
    users, table, labels = operands(dtype=dtype)
    negatives = table[labels.flip(0)][:, None]
    ones = torch.ones(len(labels))
    pairs = [
        [catalog_cross_entropy(users, table, labels, weights) for weights in (None, ones)],
        [
            sampled_binary_loss(users.float(), table.float()[labels], negatives.float(), weights)
            for weights in (None, ones)
        ],
    ]
    for plain, weighted in pairs:
        assert torch.equal(plain, weighted)
        for left, right in zip(
            torch.autograd.grad(plain, (users, table), retain_graph=True),
            torch.autograd.grad(weighted, (users, table), retain_graph=True),
            strict=True,
        ):
            assert torch.equal(left, right)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_a_sampled_softmax_over_every_item_is_the_full_one(monkeypatch, chunk):
    monkeypatch.setattr(objectives_sasrec, "POSITIONS_PER_CHUNK", chunk)
    users, table, labels = operands()
    rows = torch.arange(len(table))
    weights = torch.arange(1.0, len(users) + 1)

    loss = sampled_softmax_loss(users, table[labels], table, labels, rows, torch.zeros(len(table)), weights)
    found = torch.autograd.grad(loss, (users, table))

    plain = catalog_cross_entropy(users, table, labels, weights)
    expected = torch.autograd.grad(plain, (users, table))
    torch.testing.assert_close(loss, plain, check_dtype=False, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_a_sampled_softmax_and_its_gradients_are_those_of_the_plain_formula(monkeypatch, chunk):
    monkeypatch.setattr(objectives_sasrec, "POSITIONS_PER_CHUNK", chunk)
    users, table, labels = operands()
    rows = torch.tensor([3, 5, 6, 11, 16])
    log_expected = torch.linspace(-2, 2, len(rows), dtype=torch.float64)
    positives = table.detach()[labels].requires_grad_()
    negatives = table.detach()[rows].requires_grad_()
    weights = torch.linspace(0, 2, len(users), dtype=torch.float64)
    operand_list = (users, positives, negatives)

    loss = sampled_softmax_loss(users, positives, negatives, labels, rows, log_expected, weights)
    found = torch.autograd.grad(loss * 3, operand_list)

    own = (users * positives).sum(1, keepdim=True)
    others = (users @ negatives.T - log_expected).masked_fill(labels[:, None] == rows, -torch.inf)
    plain = ((torch.cat([own, others], 1).logsumexp(1) - own[:, 0]) * weights).mean()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, torch.autograd.grad(plain * 3, operand_list))


def test_a_sampled_softmax_keeps_no_logits_for_its_gradients():
    users, table, labels = operands(dtype=torch.float32)
    kept = []

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda it: it):
        rows = torch.arange(len(table))
        sampled_softmax_loss(users, table[labels].detach(), table, labels, rows, torch.zeros(len(table)))

    assert kept and max(kept) <= len(users) * users.shape[1] < len(users) * len(rows)


def test_a_negative_counts_by_its_expected_draws():
    users = torch.zeros(1, 2)
    negatives = torch.randn(3, 2)
    log_expected = torch.tensor([2.0, 4.0, 0.5]).log()

    loss = sampled_softmax_loss(
        users, torch.zeros(1, 2), negatives, torch.tensor([7]), torch.tensor([1, 2, 7]), log_expected
    )

    assert loss.item() == pytest.approx(math.log(1 + 1 / 2 + 1 / 4))
