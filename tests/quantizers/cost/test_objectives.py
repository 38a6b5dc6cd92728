import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, mse_loss

from cost_hf.quantizers.cost.objectives_cost import (
    codebook_loss,
    commitment_loss,
    contrastive_loss,
    reconstruction_loss,
)
from tests.quantizers.cost.toys import item_vectors, tiny_model


def contrastive_loss_one_by_one(items, reconstructions, temperature, left_out=()):
    """Ten-line reference: equation of the paper; `left_out` holds (anchor, candidate) pairs that do not count."""
    total = 0.0
    for row, item in enumerate(items):
        candidates = [other for other in range(len(items)) if (row, other) not in left_out]
        cosines = {other: float(cosine_similarity(item, reconstructions[other], dim=0)) for other in candidates}
        denominator = sum(math.exp(cosine / temperature) for cosine in cosines.values())
        total -= math.log(math.exp(cosines[row] / temperature) / denominator)
    return total / len(items)


def rqvae_loss_one_by_one(model, items, *, beta):
    """Ten-line reference: TIGER's loss, squared errors summed over dimensions, mean over items."""
    latents = model.encoder(items)
    residual, codebook_term, commitment_term = latents, 0.0, 0.0
    for level in range(len(model.level_sizes)):
        distances = torch.cdist(residual, model.level_vectors(level))
        chosen = model.level_vectors(level)[distances.argmin(-1)]
        codebook_term += mse_loss(chosen, residual.detach(), reduction="sum") / len(items)
        commitment_term += mse_loss(residual, chosen.detach(), reduction="sum") / len(items)
        residual = residual - chosen.detach()
    decoded = model.decoder(latents + (latents - residual - latents).detach())
    return mse_loss(decoded, items, reduction="sum") / len(items) + codebook_term + beta * commitment_term


def test_the_contrastive_loss_is_that_of_the_paper():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)

    loss = contrastive_loss(items, reconstructions, temperature=0.1)

    assert float(loss) == pytest.approx(contrastive_loss_one_by_one(items, reconstructions, 0.1), rel=1e-4)


def test_anchors_are_item_vectors_and_candidates_reconstructions():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)

    forward = contrastive_loss(items, reconstructions, temperature=0.1)
    swapped = contrastive_loss(reconstructions, items, temperature=0.1)

    assert not torch.isclose(forward, swapped)


def test_the_contrastive_loss_does_not_see_the_length_of_reconstructions():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)
    factors = torch.rand(12, 1) + 0.5

    torch.testing.assert_close(
        contrastive_loss(items, reconstructions * factors, temperature=0.1),
        contrastive_loss(items, reconstructions, temperature=0.1),
    )


def test_items_with_the_same_vector_are_not_each_others_negatives():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)
    items[1] = items[0]

    loss = contrastive_loss(items, reconstructions, temperature=0.1)

    expected = contrastive_loss_one_by_one(items, reconstructions, 0.1, left_out={(0, 1), (1, 0)})
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_threshold_of_one_leaves_duplicates_as_negatives():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)
    items[1] = items[0]

    loss = contrastive_loss(items, reconstructions, temperature=0.1, duplicate_similarity=1.0)

    assert float(loss) == pytest.approx(contrastive_loss_one_by_one(items, reconstructions, 0.1), rel=1e-4)


def test_two_items_with_one_reconstruction_cost_at_least_log_2_each():
    items = item_vectors(2)

    assert contrastive_loss(items, torch.ones(2, 16), temperature=0.1) >= math.log(2) - 1e-6


def test_item_vectors_get_no_gradient_from_the_contrastive_loss():
    items = item_vectors(6).requires_grad_()

    loss = contrastive_loss(items, torch.randn(6, 16), temperature=0.1)

    assert not loss.requires_grad


@pytest.mark.parametrize(("reduction", "factor"), [("sum", 1.0), ("mean", 1 / 6)])
def test_reductions_are_over_dimensions_and_levels_are_summed(reduction, factor):
    residuals, vectors = torch.randn(4, 3, 6), torch.randn(4, 3, 6)

    expected = (residuals - vectors).square().sum() / 4 * factor

    torch.testing.assert_close(codebook_loss(residuals, vectors, reduction=reduction), expected)
    torch.testing.assert_close(commitment_loss(residuals, vectors, reduction=reduction), expected)
    torch.testing.assert_close(
        reconstruction_loss(residuals[:, 0], vectors[:, 0], reduction=reduction),
        (residuals - vectors)[:, 0].square().sum() / 4 * factor,
    )


def test_each_quantization_term_moves_one_side_only():
    residuals, vectors = torch.randn(4, 3, 6, requires_grad=True), torch.randn(4, 3, 6, requires_grad=True)

    codebook_loss(residuals, vectors, reduction="sum").backward()
    assert residuals.grad is None and vectors.grad is not None

    vectors.grad = None
    commitment_loss(residuals, vectors, reduction="sum").backward()
    assert vectors.grad is None and residuals.grad is not None


def test_contrastive_weight_0_and_reconstruction_weight_1_are_the_rqvae_loss():
    model = tiny_model(contrastive_weight=0.0, reconstruction_weight=1.0)
    items = item_vectors()

    loss = model(items).loss
    expected = rqvae_loss_one_by_one(model, items, beta=0.25)

    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(loss, list(model.parameters())),
        torch.autograd.grad(expected, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def coclick_loss_one_by_one(items, reconstructions, positives, temperature):
    """Reference: cross-entropy with a target of shares, the rest of which is the own reconstruction's."""
    total = 0.0
    for row, item in enumerate(items):
        logits = torch.stack([cosine_similarity(item, other, dim=0) / temperature for other in reconstructions])
        target = positives[row].clone()
        target[row] = 1 - target.sum()
        total -= float((target * (logits - logits.logsumexp(0))).sum())
    return total / len(items)


def shares_of_others(num_items, *, seed=0):
    shares = torch.rand(num_items, num_items, generator=torch.Generator().manual_seed(seed)) / num_items
    return shares.fill_diagonal_(0)


def test_other_positives_share_the_target():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)
    positives = shares_of_others(12)

    loss = contrastive_loss(items, reconstructions, temperature=0.1, positives=positives)

    assert float(loss) == pytest.approx(coclick_loss_one_by_one(items, reconstructions, positives, 0.1), rel=1e-4)


def test_without_shares_of_others_the_loss_is_that_of_the_paper():
    items, reconstructions = item_vectors(12), torch.randn(12, 16)

    shared = contrastive_loss(items, reconstructions, temperature=0.1, positives=torch.zeros(12, 12))

    torch.testing.assert_close(shared, contrastive_loss(items, reconstructions, temperature=0.1))


def test_a_positive_is_pulled_to_the_anchor():
    items = item_vectors(12)
    positives = torch.zeros(12, 12)
    positives[0, 5] = 0.5

    def pull(**options):
        reconstructions = items.flip(0).clone().requires_grad_()
        contrastive_loss(items, reconstructions, temperature=0.1, **options).backward()
        return -float(reconstructions.grad[5] @ items[0])  # by a step against the gradient

    assert pull(positives=positives) > pull()


def test_the_share_of_an_item_with_the_same_text_returns_to_the_own_reconstruction():
    items, reconstructions = item_vectors(12), torch.randn(12, 16, requires_grad=True)
    items[5] = items[0]
    positives = torch.zeros(12, 12)
    positives[0, 5] = 0.5

    loss = contrastive_loss(items, reconstructions, temperature=0.1, positives=positives)
    loss.backward()

    torch.testing.assert_close(loss, contrastive_loss(items, reconstructions, temperature=0.1))
    assert reconstructions.grad.isfinite().all()


def test_the_model_passes_positives_on_to_the_contrastive_term():
    model, items = tiny_model(), item_vectors(12)
    positives = shares_of_others(12)

    output = model(items, positives=positives)

    expected = contrastive_loss(items, output.reconstruction, temperature=model.config.temperature, positives=positives)
    assert torch.equal(output.contrastive_loss, expected)
    assert not torch.equal(output.contrastive_loss, model(items).contrastive_loss)
