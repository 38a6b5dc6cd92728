"""The model of PRISM's quantizer: what moves what, which terms may act, averages, new items, files."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional
from transformers import AutoModel

from cost_hf.quantizers.cost.objectives_cost import codebook_loss, commitment_loss
from cost_hf.quantizers.prism.configuration_prism import PrismConfig
from cost_hf.quantizers.prism.modeling_prism import PrismModel
from cost_hf.quantizers.prism.objectives_prism import anchor_loss, balance_loss, cosine_loss, gate_loss, tag_loss
from tests.quantizers.prism.prism_toys import (
    AVERAGED,
    COLLABORATIVE,
    CONTENT,
    PLAIN,
    TAGGED,
    TINY,
    both_vectors,
    tiny_prism,
    training_inputs,
)


def gradients(loss: torch.Tensor, tensors: list[torch.Tensor]) -> list[bool]:
    """Tell which tensors a loss has a gradient for that is not 0 throughout."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=True)
    return [part is not None and bool(part.any()) for part in found]


def test_every_codebook_has_a_gradient_from_the_codebook_and_the_balance_term():
    model = tiny_prism()
    output = model(**training_inputs())

    codebooks = list(model.quantizer.codebooks)
    for term in (output.codebook_loss, output.balance_loss):
        assert gradients(term, codebooks) == [True, True, True]


def test_latents_have_a_gradient_from_the_commitment_of_every_level():
    model = tiny_prism()
    latents = model.embed(both_vectors()).detach().requires_grad_()
    quantized = model.quantizer(latents)

    for level in range(3):
        one = slice(level, level + 1)
        loss = commitment_loss(quantized.residuals[:, one], quantized.vectors[:, one], reduction="sum")
        assert gradients(loss, [latents]) == [True]


def test_tags_move_code_vectors_and_the_encoder_on_the_levels_that_have_tags():
    model = tiny_prism(**TAGGED)
    output = model(**training_inputs())
    codebooks = list(model.quantizer.codebooks)

    encoder = [model.encoder.stack.layers[0].weight]
    assert gradients(output.tag_loss, codebooks) == gradients(output.anchor_loss, codebooks) == [True, True, False]
    assert gradients(output.tag_loss, encoder) == [True]
    heads = [*model.tag_heads.classifiers, *model.tag_heads.projections]
    assert all(gradients(output.loss, [head.weight for head in heads]))


def test_popularity_moves_the_gate_towards_it_and_reconstruction_does_not_shrink_its_own_target():
    model = tiny_prism(gate_spread_weight=0.0)
    inputs = training_inputs()
    gate = list(model.gate.parameters())
    output = model(**inputs)
    assert all(gradients(output.gate_loss, gate))

    before = output.gate_loss
    for parameter, slope in zip(gate, torch.autograd.grad(before, gate, retain_graph=True), strict=True):
        parameter.data -= 0.1 * slope
    assert model(**inputs).gate_loss < before
    # by way of the target alone, the encoder's outputs held fixed
    target = functional.normalize(torch.randn(4, COLLABORATIVE), dim=1).requires_grad_()
    assert gradients(cosine_loss(target.detach(), torch.randn(4, COLLABORATIVE, requires_grad=True)), [target]) == [
        False
    ]


def test_the_gate_term_is_that_of_the_items_that_have_a_vector():
    gates, popularity = torch.rand(6, 3), torch.rand(6)
    is_known = torch.tensor([True, True, False, True, True, False])

    loss = gate_loss(gates, popularity, is_known, spread=0.2, spread_weight=2.0)

    means = gates.mean(1)[is_known]
    error = (means - popularity[is_known]).square().sum() / 6
    assert torch.allclose(loss, error + 2 * functional.relu(0.04 - means.var(correction=0)))


def test_the_tag_term_is_the_cross_entropy_of_the_items_that_have_a_tag():
    logits = [torch.randn(4, 3), torch.randn(4, 5)]
    tags = torch.tensor([[0, 1], [2, -1], [-1, -1], [1, 4]])

    expected = functional.cross_entropy(logits[0][[0, 1, 3]], tags[[0, 1, 3], 0], reduction="sum")
    expected = expected + functional.cross_entropy(logits[1][[0, 3]], tags[[0, 3], 1], reduction="sum")

    assert torch.allclose(tag_loss(logits, tags), expected / 8)


def test_an_anchor_costs_nothing_where_a_code_vector_is():
    codebook = 10 * torch.eye(4)

    assert anchor_loss(codebook[[1, 3]], codebook) < 1e-6
    assert anchor_loss(codebook[[1, 3]] + 1, codebook) > 0.1


def test_balance_is_least_for_unlike_code_vectors_that_are_used_equally():
    codebook = torch.eye(4)
    equal = balance_loss(codebook, torch.arange(4), codebook)

    assert equal < 1e-6
    assert balance_loss(codebook[[0, 0, 0, 1]], torch.tensor([0, 0, 0, 1]), codebook) > equal
    similar = torch.stack([codebook[0], codebook[0] + 0.1 * codebook[1], codebook[2], codebook[3]])
    assert balance_loss(similar, torch.arange(4), similar) > equal


def test_without_its_own_terms_the_loss_is_that_of_a_residual_quantizer():
    model = tiny_prism(**PLAIN)
    output = model(both_vectors())

    quantized = model.quantizer(output.latents)
    content = functional.normalize(both_vectors()[:, :CONTENT], dim=1)
    expected = (1 - functional.cosine_similarity(content, output.reconstruction)).mean()
    expected = expected + codebook_loss(quantized.residuals, quantized.vectors, reduction="mean")
    expected = expected + 0.25 * commitment_loss(quantized.residuals, quantized.vectors, reduction="mean")
    assert torch.allclose(output.loss, expected)
    named = {name for name, value in output.items() if name.endswith("_loss")}
    assert named == {"content_loss", "codebook_loss", "commitment_loss"}


def test_the_loss_is_the_weighted_sum_of_its_terms_times_the_factors_of_the_curriculum():
    model = tiny_prism(**TAGGED)
    output = model(**training_inputs(), term_factors={"tag": 0.5, "anchor": 0.0})

    config = model.config
    names = ("content", "collaborative", "codebook", "commitment", "gate", "balance")
    expected = sum(getattr(config, f"{name}_weight") * output[f"{name}_loss"] for name in names)
    assert torch.allclose(output.loss, expected + 0.5 * 0.25 * output.tag_loss)


def test_popularity_and_tags_are_read_in_training_alone():
    model = tiny_prism(**TAGGED).eval()
    inputs = training_inputs()

    trained, alone = model(**inputs), model(inputs["item_embeddings"])

    assert torch.equal(trained.codes, alone.codes)
    assert alone.gate_loss is None and alone.tag_loss is None and alone.anchor_loss is None


def test_items_without_collaborative_vector_are_those_of_a_row_of_zeros():
    model = tiny_prism().eval()
    vectors = both_vectors()
    without = vectors.clone()
    without[:, CONTENT:] = 0

    assert torch.equal(model.encode(vectors[:, :CONTENT]), model.encode(without))
    assert not torch.equal(model.embed(vectors), model.embed(without))
    assert torch.equal(model.embed(vectors)[::10], model.embed(without)[::10])
    distances = [model.level_distances(part, model.encode(part)[:, :2]) for part in (vectors[:, :CONTENT], without)]
    assert torch.equal(*distances) and distances[0].shape == (40, 4)
    with pytest.raises(
        ValueError, match=r"\[items, 16\], or with collaborative ones .* \[items, 24\], got shape \(2, 20\)"
    ):
        model.encode(torch.zeros(2, 20))


def test_the_scale_of_collaborative_vectors_is_that_of_the_training():
    model = tiny_prism().eval()
    vectors = both_vectors()
    larger = vectors.clone()
    larger[:, CONTENT:] *= 8
    model.fit_statistics(vectors)
    before = model.embed(vectors)
    assert torch.allclose(model.gate.scale, torch.tensor(1 / 3))

    model.fit_statistics(larger)

    assert torch.allclose(model.embed(larger), before, atol=1e-6)


def test_a_model_of_content_alone_has_no_gate():
    model = tiny_prism(**PLAIN, collaborative_dim=0)

    assert not hasattr(model, "gate")
    assert model(both_vectors()[:, :CONTENT]).gates is None
    with pytest.raises(ValueError, match="has no gates"):
        model.gate_values(both_vectors()[:, :CONTENT])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"codebook_update": "ema"},
            "codebook_weight, anchor_weight, balance_weight must be 0, .* got codebook_weight=1.0",
        ),
        (AVERAGED | TAGGED, "got anchor_weight=0.3"),
        (AVERAGED | {"share_codebooks": True, "level_sizes": (4, 4)}, "needs a codebook for each level"),
        ({"tag_weight": 0.1}, "they need tags"),
        ({"collaborative_dim": 0}, "they need collaborative vectors"),
        ({"contrastive_weight": 0.1}, "no term of this model has them"),
        ({"codebook_update": "adam"}, "must be one of gradient, ema, got 'adam'"),
        ({"gate_weight": -1.0}, "gate_weight must be 0 or above"),
        ({"hidden_sizes": ()}, "hidden_sizes must hold one or more"),
    ],
)
def test_terms_that_would_do_nothing_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_prism(**changes)


def test_averaged_codebooks_have_no_gradient_and_move_by_the_formula():
    model = tiny_prism(**AVERAGED, ema_decay=0.9)
    latents = model(**training_inputs()).latents.detach()
    quantizer = model.quantizer
    assert not any(parameter.requires_grad for parameter in quantizer.codebooks)
    found = quantizer(latents)
    before = [codebook.detach().clone() for codebook in quantizer.codebooks]

    quantizer.update(*quantizer.statistics(latents))

    for level, codebook in enumerate(before):
        for code, vector in enumerate(codebook):
            chosen = found.residuals[found.codes[:, level] == code, level]
            count = 0.9 + 0.1 * len(chosen)
            expected = (0.9 * vector + 0.1 * chosen.sum(0)) / count
            assert torch.allclose(quantizer.codebook(level)[code], expected, atol=1e-5)


def test_a_replaced_code_vector_begins_its_average_again_and_the_others_do_not():
    model = tiny_prism(**AVERAGED)
    quantizer = model.quantizer
    quantizer.update(*quantizer.statistics(model.embed(both_vectors()).detach()))
    counts = quantizer.counts.clone()
    codebook = quantizer.codebook(1).detach().clone()
    codebook[2] = 5.0

    quantizer.replace_codes(1, torch.arange(7), codebook)

    assert quantizer.counts[5 + 2] == 1 and (quantizer.sums[5 + 2] == 5).all()
    others = torch.arange(16) != 5 + 2
    assert torch.equal(quantizer.counts[others], counts[others])


@pytest.mark.parametrize(
    "changes", [TAGGED, AVERAGED, PLAIN | {"collaborative_dim": 0}], ids=["tags", "ema", "content"]
)
def test_a_saved_model_comes_back_by_auto_model(tmp_path, changes):
    model = tiny_prism(**changes).eval()
    model.save_pretrained(tmp_path)

    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert type(loaded) is PrismModel and not any(info.values()), info
    assert loaded.config.tag_sizes == model.config.tag_sizes
    vectors = both_vectors()[:, : CONTENT + model.config.collaborative_dim]
    assert torch.equal(loaded.encode(vectors), model.encode(vectors))
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_the_configuration_of_another_model_is_refused():
    with pytest.raises(ValueError, match="expected 'prism_quantizer'"):
        PrismConfig.from_dict({"model_type": "cost"})


def test_averaged_codes_do_not_jump_to_zero_where_nothing_set_them():
    torch.manual_seed(0)
    model = PrismModel(PrismConfig(**TINY | AVERAGED))
    before = torch.cat(list(model.quantizer.codebooks)).clone()

    model.quantizer.update(torch.zeros_like(model.quantizer.counts), torch.zeros_like(model.quantizer.sums))

    assert torch.allclose(torch.cat(list(model.quantizer.codebooks)), before, atol=1e-6) and before.any()
