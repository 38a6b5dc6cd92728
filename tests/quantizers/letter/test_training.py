from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from cost_hf.quantizers.letter.training import CodeClusters, DiversityTerm, collaborative_loss, diversity_loss
from cost_hf.quantizers.training.kmeans import seeded_generator
from tests.quantizers.cost.toys import item_vectors, tiny_model

CLUSTERS = torch.tensor([2, 0, 0, 1, 2, 1, 2, 0, 2])


def diversity_one_by_one(codes, others, codebook):
    """Reference for one level: the published loss, logits of every item against the codebook without its own code."""
    losses = []
    for code, other in zip(codes.tolist(), others.tolist(), strict=True):
        logits = codebook @ codebook[code]
        logits = logits - torch.nn.functional.one_hot(torch.tensor(code), len(codebook)) * 1e12
        losses.append(cross_entropy(logits, torch.tensor(other)))
    return torch.stack(losses).mean()


def test_the_collaborative_loss_finds_the_own_row_by_raw_dot_products():
    quantized, collaborative = torch.randn(9, 6), torch.randn(9, 6)

    expected = cross_entropy(quantized @ collaborative.T, torch.arange(9))

    torch.testing.assert_close(collaborative_loss(quantized, collaborative), expected)


def test_items_without_a_collaborative_vector_are_left_out_on_both_sides():
    quantized, collaborative = torch.randn(9, 6, requires_grad=True), torch.randn(9, 6)
    collaborative[[2, 7]] = 0
    known = [0, 1, 3, 4, 5, 6, 8]

    loss = collaborative_loss(quantized, collaborative)
    loss.backward()

    torch.testing.assert_close(loss, collaborative_loss(quantized[known], collaborative[known]))
    assert torch.nonzero(quantized.grad.any(1)).flatten().tolist() == known


def test_a_batch_without_any_collaborative_vector_costs_nothing():
    quantized = torch.randn(4, 6, requires_grad=True)

    loss = collaborative_loss(quantized, torch.zeros(4, 6))
    loss.backward()

    assert loss == 0 and torch.equal(quantized.grad, torch.zeros(4, 6))


def test_the_diversity_loss_is_that_of_published_code_averaged_over_levels():
    codebooks = [torch.randn(7, 6), torch.randn(5, 6)]
    codes, others = torch.tensor([[1, 2], [6, 0], [1, 4]]), torch.tensor([[2, 3], [0, 4], [5, 2]])

    loss = diversity_loss(codes, others, codebooks)

    levels = [diversity_one_by_one(codes[:, level], others[:, level], codebooks[level]) for level in range(2)]
    torch.testing.assert_close(loss, torch.stack(levels).mean())


def test_the_diversity_term_moves_nothing_but_codebooks():
    model = tiny_model(codebook_weight=0.0)
    term = DiversityTerm(3, seed=0)
    term.on_epoch_begin(None, SimpleNamespace(epoch=0.0), None, model=model)

    term.loss(model, model(item_vectors()).codes).backward()

    moved = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert moved == {f"quantizer.codebooks.{level}" for level in range(3)}


def test_every_other_code_of_the_cluster_is_drawn_equally_often_and_the_code_itself_never():
    clusters = CodeClusters(CLUSTERS)

    for code in range(9):
        drawn = clusters.draw_others(torch.full((3000,), code), seeded_generator("test", code))
        mates = [other for other in range(9) if CLUSTERS[other] == CLUSTERS[code] and other != code]
        counts = torch.bincount(drawn, minlength=9)
        assert torch.nonzero(counts).flatten().tolist() == mates
        assert (counts[mates] / 3000 - 1 / len(mates)).abs().max() < 0.05


def drawn_after(epoch, *, seed=0, model_seed=0):
    """What the term costs in the first batch of an epoch: a function of clusters and draws."""
    model, term = tiny_model(seed=model_seed), DiversityTerm(2, seed=seed)
    term.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None, model=model)
    return float(term.loss(model, torch.randint(4, (50, 3), generator=seeded_generator("codes"))))


def test_the_term_is_a_function_of_weights_seed_and_epoch():
    assert drawn_after(3.0) == drawn_after(3.0)
    assert len({drawn_after(3.0), drawn_after(4.0), drawn_after(3.0, seed=1), drawn_after(3.0, model_seed=1)}) == 4


@pytest.mark.parametrize("num_clusters", [1, 10])
def test_small_levels_have_at_most_half_as_many_clusters_as_codes(num_clusters):
    model, term = tiny_model(level_sizes=(2, 3, 20)), DiversityTerm(num_clusters, seed=0)
    term.on_epoch_begin(None, SimpleNamespace(epoch=0.0), None, model=model)

    loss = term.loss(model, torch.randint(2, (50, 3)))

    assert loss.isfinite()
