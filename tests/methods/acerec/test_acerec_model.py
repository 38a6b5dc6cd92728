"""ACERec's model: who sees whom, scores by look-up, losses, and its files."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from cost_hf.methods.acerec import configuration_acerec
from cost_hf.methods.acerec import options as acerec_options
from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
from cost_hf.methods.acerec.layers_acerec import block_mask
from cost_hf.methods.acerec.modeling_acerec import AceRecModel
from cost_hf.methods.acerec.objectives_acerec import alignment_losses, popularity_bias
from tests.methods.acerec.acerec_toys import ITEMS, SIZES, TINY, tiny_model, toy_codes
from tests.methods.sasrec.sasrec_toys import are_equal

HISTORIES = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1], [8, -1, -1, -1, -1]])
LABELS = torch.tensor([[1, 4, 1, 5, 7], [2, 6, 0, -100, -100], [-100] * 5])
SHAPES = {
    "published": {},
    "mean": {"merger": "mean"},
    "no_intent": {"use_intent_token": False},
    "all_digits": {"num_latents": len(SIZES)},
    "one_latent": {"num_latents": 1},
}


def tokens_of(model, seed=0):
    return model.item_tokens(toy_codes(seed=seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_later_items_and_pads_change_no_earlier_state(shape):
    model = tiny_model(**SHAPES[shape])
    whole = model(HISTORIES, tokens_of(model)).hidden_states

    for row, length in enumerate((5, 3, 1)):
        for end in range(1, length + 1):
            alone = model(HISTORIES[row : row + 1, :end], tokens_of(model)).hidden_states
            torch.testing.assert_close(alone[0], whole[row, :end])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_earlier_item_counts(shape):
    model = tiny_model(**SHAPES[shape])
    whole = model(HISTORIES, tokens_of(model)).hidden_states

    for place in range(5):
        other = HISTORIES.clone()
        other[0, place] = 20
        found = model(other, tokens_of(model)).hidden_states
        assert ((found[0] - whole[0]).abs().amax(-1) > 1e-5).tolist() == [later >= place for later in range(5)]


@pytest.mark.parametrize("has_intent", [True, False])
def test_noise_in_a_token_reaches_exactly_what_may_see_it(has_intent):
    # noise, not a shift: layer normalisation takes a constant off
    config = AceRecConfig(**TINY | {"use_intent_token": has_intent, "num_latents": 2, "num_layers": 1})
    layer = tiny_model(use_intent_token=has_intent, num_layers=1).layers[0]
    size = config.block_size
    mask = block_mask(3, config)
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 3 * size, 8, generator=draws)
    before = layer(hidden, mask)

    for noisy in range(3 * size):
        changed = hidden.clone()
        changed[0, noisy] += torch.randn(8, generator=draws)
        reached = (layer(changed, mask) - before)[0].abs().amax(-1) > 1e-6
        for place in range(3 * size):
            in_order = place // size > noisy // size
            same_block = place // size == noisy // size
            is_hidden = has_intent and noisy % size == 2 and place % size != 2
            assert bool(reached[place]) == (in_order or (same_block and not is_hidden)), (noisy, place)


def test_the_mask_is_a_float_one_that_hides_by_minus_infinity():
    mask = block_mask(2, AceRecConfig(**TINY))

    assert mask.dtype == torch.float32
    assert mask.tolist() == [
        [0, 0, -torch.inf, *[-torch.inf] * 3],
        [0, 0, -torch.inf, *[-torch.inf] * 3],
        [0, 0, 0, *[-torch.inf] * 3],
        [0, 0, 0, 0, 0, -torch.inf],
        [0, 0, 0, 0, 0, -torch.inf],
        [0] * 6,
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_look_up_is_the_sum_of_the_log_probabilities_of_the_digits(shape):
    model = tiny_model(**SHAPES[shape])
    codes, tokens = toy_codes(), tokens_of(model)

    found = model.scores(HISTORIES, tokens)

    probabilities = model.log_probs(HISTORIES, tokens).split(SIZES, dim=1)
    for row in range(len(HISTORIES)):
        for item in range(ITEMS):
            expected = sum(digit[row, code] for digit, code in zip(probabilities, codes[item], strict=True))
            torch.testing.assert_close(found[row, item], expected)
    for digit in probabilities:
        torch.testing.assert_close(digit.exp().sum(1), torch.ones(len(HISTORIES)))


def test_scores_do_not_depend_on_what_else_is_in_the_batch_or_the_catalog():
    model = tiny_model()
    whole = model.scores(HISTORIES, tokens_of(model))

    torch.testing.assert_close(model.scores(HISTORIES[1:2, :3], tokens_of(model)), whole[1:2])
    first = tokens_of(model)[:10]
    torch.testing.assert_close(model.scores(HISTORIES, first), whole[:, :10])


def test_items_with_the_same_digits_have_the_same_score_bit_for_bit():
    model = tiny_model()
    codes = toy_codes()
    codes[17] = codes[4]

    scores = model.scores(HISTORIES, model.item_tokens(codes))

    assert torch.equal(scores[:, 17], scores[:, 4])


def test_an_empty_history_tells_no_item_from_another():
    model = tiny_model()

    scores = model.scores(torch.tensor([[-1, -1], [3, -1]]), tokens_of(model))

    assert scores[0].tolist() == [0.0] * ITEMS and scores[1].unique().numel() > 20
    assert model.scores(torch.full((1, 0), -1), tokens_of(model)).tolist() == [[0.0] * ITEMS]
    assert model.scores(torch.full((0, 3), -1), tokens_of(model)).shape == (0, ITEMS)


def test_only_the_latest_items_are_read():
    model = tiny_model()
    long = torch.tensor([[9, 9, 9, 3, 1, 4, 1, 5, 2]])

    torch.testing.assert_close(model.scores(long, tokens_of(model)), model.scores(long[:, 3:], tokens_of(model)))
    with pytest.raises(ValueError, match="at most max_history=6 items, got 9"):
        model(long, tokens_of(model))


@torch.no_grad()
def test_with_a_latent_for_every_digit_and_attention_to_it_alone_the_digits_come_back():
    """k = m: the query of latent j finds digit j by the embedding of its subspace, and values are the tokens."""
    digits = 6
    model = tiny_model(num_latents=digits, num_heads=1)
    merger, width = model.merger, 8
    merger.subspaces.weight.copy_(torch.eye(digits, width))
    for name in ("keys", "values"):
        getattr(merger, name).weight.copy_(torch.eye(width))
    merger.queries.weight.zero_()
    merger.queries.bias.copy_(1e4 * torch.eye(digits, width).flatten())
    table = torch.cat([torch.zeros(sum(SIZES), digits), torch.randn(sum(SIZES), width - digits)], dim=1)
    marked = torch.cat([part + mark for part, mark in zip(table.split(SIZES), merger.subspaces.weight, strict=True)])
    tokens = tokens_of(model)

    found = merger.attend(marked, tokens, merger.summarise(table, tokens))

    torch.testing.assert_close(found, functional.embedding(tokens, marked))


def test_the_mean_merger_takes_runs_of_digits():
    model = tiny_model(merger="mean", num_latents=3)
    merger = model.merger
    seen = []
    merger.latent_input.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = tokens_of(model)

    merger(model.tokens.weight, tokens)

    own = model.tokens(tokens) + merger.subspaces.weight
    torch.testing.assert_close(seen[0], torch.stack([own[:, run : run + 2].mean(1) for run in (0, 2, 4)], 1))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "one_latent"])  # nothing to attend to there
def test_every_weight_learns(shape):
    model = tiny_model(**SHAPES[shape]).train()

    model(HISTORIES, tokens_of(model), labels=LABELS, popularity=torch.arange(ITEMS)).loss.backward()

    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_the_loss_is_the_weighted_sum_of_its_terms():
    model = tiny_model(alignment_weight=0.2, reconstruction_weight=0.3)

    found = model(HISTORIES, tokens_of(model), labels=LABELS)

    expected = found.token_loss + 0.2 * found.alignment_loss + 0.3 * found.reconstruction_loss
    torch.testing.assert_close(found.loss, expected)
    plain = tiny_model(alignment_weight=0.0, reconstruction_weight=0.0)
    alone = plain(HISTORIES, tokens_of(plain), labels=LABELS)
    assert alone.alignment_loss is None and alone.reconstruction_loss is None
    assert plain.decoder is None and torch.equal(alone.loss, alone.token_loss)


def test_the_token_loss_is_the_mean_negative_log_probability_of_a_digit():
    model = tiny_model()
    codes, tokens = toy_codes(), tokens_of(model)

    found = model(HISTORIES, tokens, labels=LABELS).token_loss

    logs = []
    for row, place in (LABELS >= 0).nonzero().tolist():
        probabilities = model.log_probs(HISTORIES[row : row + 1, : place + 1], tokens)[0].split(SIZES)
        target = codes[LABELS[row, place]]
        logs += [digit[code] for digit, code in zip(probabilities, target, strict=True)]
    torch.testing.assert_close(found, -torch.stack(logs).mean())


def test_label_weights_are_factors_of_the_losses():
    model = tiny_model(reconstruction_weight=0.0)
    tokens = tokens_of(model)
    weights = torch.where(LABELS >= 0, 2.0, 0.0)

    plain = model(HISTORIES, tokens, labels=LABELS)

    doubled = model(HISTORIES, tokens, labels=LABELS, label_weights=weights)
    torch.testing.assert_close(doubled.loss, 2 * plain.loss)
    weights[0] = 0.0
    one = model(HISTORIES, tokens, labels=LABELS, label_weights=weights)
    assert not torch.allclose(one.token_loss, plain.token_loss)


def test_negatives_of_the_alignment_are_all_positions_but_those_of_the_same_item():
    draws = torch.Generator().manual_seed(0)
    states, items = torch.randn(5, 8, generator=draws), torch.randn(3, 8, generator=draws)
    targets = torch.tensor([0, 1, 0, 2, 0])
    bias = torch.tensor([0.3, 0.1, 0.0])

    found = alignment_losses(states, items, targets, counts=targets.bincount().float(), bias=bias, temperature=0.5)

    for position in range(5):
        scores = [
            functional.cosine_similarity(states[position], items[item], dim=0) / 0.5 - bias[item] for item in targets
        ]
        others = [score for score, item in zip(scores, targets, strict=True) if item != targets[position]]
        own = scores[position]
        torch.testing.assert_close(found[position], torch.stack([own, *others]).logsumexp(0) - own)


def test_losses_of_a_batch_are_of_its_own_items_and_their_clicks():
    model = tiny_model(popularity_weight=0.5)
    tokens, clicks = tokens_of(model), torch.arange(1, ITEMS + 1)
    histories, labels = (torch.where(rows >= 0, 3 * rows, rows) for rows in (HISTORIES, LABELS))  # rows with gaps

    found = model(histories, tokens, labels=labels, popularity=clicks)

    latents, summaries = model.merger(model.tokens.weight, tokens)  # of the whole catalog
    targets = labels[labels >= 0]
    bias = 0.5 * clicks.log() / clicks.log().max()
    losses = []
    for state, own in zip(found.hidden_states[labels >= 0], targets.tolist(), strict=True):
        negatives = [item for item in targets.tolist() if item != own]
        scores = functional.cosine_similarity(state, summaries[[own, *negatives]]) / 0.07 - bias[[own, *negatives]]
        losses.append(scores.logsumexp(0) - scores[0])
    torch.testing.assert_close(found.alignment_loss, torch.stack(losses).mean())
    read = torch.cat([histories[histories >= 0], targets]).unique()
    cosines = functional.cosine_similarity(model.decoder(latents[read]), model.tokens(tokens[read]), dim=-1)
    torch.testing.assert_close(found.reconstruction_loss, 1 - cosines.mean())


def test_the_popularity_bias_is_the_share_of_the_largest_logarithm():
    bias = popularity_bias(torch.tensor([0, 1, 10, 100]), 0.5)

    torch.testing.assert_close(bias, torch.tensor([0.0, 0.0, 0.25, 0.5]))
    assert popularity_bias(torch.tensor([1, 1]), 0.5).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_saved_model_scores_the_same(tmp_path, shape):
    model = tiny_model(**SHAPES[shape])
    model.save_pretrained(tmp_path)

    again, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    assert type(again) is AceRecModel and not any(info.values())
    assert again.config.level_sizes == SIZES
    assert are_equal(again, model)
    torch.testing.assert_close(again.scores(HISTORIES, tokens_of(again)), model.scores(HISTORIES, tokens_of(model)))


def test_a_half_precision_model_ranks_and_learns(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)

    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded(HISTORIES, tokens_of(loaded), labels=LABELS, popularity=torch.arange(ITEMS)).loss.backward()

    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    scores = loaded.scores(HISTORIES, tokens_of(loaded))
    assert scores.dtype == torch.float32
    exact = model.scores(HISTORIES, tokens_of(model))
    assert torch.corrcoef(torch.stack([scores.flatten(), exact.flatten()]))[0, 1] > 0.99


def test_auto_classes_know_the_family():
    assert type(AutoModel.from_config(AutoConfig.for_model("acerec", **TINY))) is AceRecModel


def test_codes_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"expected codes \[N, 6\], one per digit, got shape \(30, 5\)"):
        tiny_model().item_tokens(toy_codes()[:, :5])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level_sizes": ()}, "level_sizes must be 1 to 64 sizes of at least 2 codes"),
        ({"level_sizes": (4, 1)}, "level_sizes must be 1 to 64 sizes of at least 2 codes"),
        ({"level_sizes": (1 << 21,) * 3}, "4194304 in all"),
        ({"num_latents": 7}, "num_latents must be 1 to 6"),
        ({"num_latents": 0}, "num_latents must be 1 to 6"),
        ({"merger": "max"}, "merger must be one of attention, mean"),
        ({"merger": "mean", "num_latents": 4}, "num_latents that divide the 6 digits, got 4"),
        ({"hidden_size": 7}, "hidden_size must be a multiple of num_heads=2, got 7"),
        ({"num_layers": 0}, "num_layers must be from 1 to 256"),
        ({"hidden_size": 1 << 16, "level_sizes": (4,) * 6}, "make more than 10000000000 weights"),
        ({"dropout": 1.0}, "dropout is a share"),
        ({"token_temperature": 0.0}, "token_temperature must be above 0"),
        ({"alignment_weight": -1.0}, "alignment_weight must be 0 or above"),
    ],
)
def test_configurations_that_define_no_model_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        AceRecConfig(**TINY | fields)


@pytest.mark.parametrize("name", ["MERGERS", "MAX_WIDTH", "MAX_LAYERS", "MAX_LEVELS", "MAX_HISTORY"])
def test_the_bounds_of_the_options_are_those_of_the_model(name):
    assert getattr(acerec_options, name) == getattr(configuration_acerec, name)
