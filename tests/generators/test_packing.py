from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.packing import SLACK, pack
from cost_hf.generators.prompts import PromptBuilder
from tests.recommenders.toys import toy_batch, toy_catalog

USERS = [("u", np.array([1, 2, 3, 4]), 0), ("v", np.array([5, 6]), 0), ("w", np.array([7]), 0)]


def generator_and_collator(attention: str = "sdpa", num_user_tokens: int = 0):
    options = GeneratorOptions(size="tiny", dropout=0.0, num_user_tokens=num_user_tokens)
    backbone = build_backbone(options, toy_catalog(), seed=0)
    backbone.model.set_attn_implementation(attention)
    prompts = PromptBuilder.for_catalog(toy_catalog(), backbone.vocabulary, is_causal=True, max_history=20)
    return backbone.model.train(), partial(toy_batch, prompts)


def places(batch) -> list[tuple[int, int]]:
    """Row and first column of every sequence, in the order of rows."""
    starts = (batch["position_ids"] == 0) & (batch["input_ids"] != 0)
    return [(int(row), int(column)) for row, column in starts.nonzero()]


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output.loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_every_token_has_a_cell_of_its_own_beside_its_sequence_in_one_row(lengths):
    packing = pack(np.array(lengths))

    rows, columns = np.divmod(packing.cells, packing.width)
    assert len(set(packing.cells.tolist())) == sum(lengths)
    assert max(lengths) <= packing.width <= max(lengths) + SLACK
    assert set(rows.tolist()) == set(range(packing.num_rows))
    for number, length in enumerate(lengths):
        own = packing.owners == number
        assert packing.positions[own].tolist() == list(range(length))
        assert np.ptp(rows[own]) == 0
        assert np.array_equal(np.diff(columns[own]), np.ones(length - 1))


def test_two_short_sequences_share_a_row():
    packing = pack(np.array([3, 9, 5]))

    assert (packing.num_rows, packing.width) == (2, 9)
    assert packing.grid(packing.owners, fill=-1).tolist() == [[1] * 9, [2] * 5 + [0] * 3 + [-1]]


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_a_sequence_without_tokens_is_refused(lengths):
    with pytest.raises(ValueError, match=r"every sequence must have a token, got lengths \["):
        pack(np.array(lengths))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("num_user_tokens", [0, 5])
def test_packed_logits_are_those_of_every_user_alone(attention, num_user_tokens):
    model, collate = generator_and_collator(attention, num_user_tokens)
    batch = collate(USERS)
    packed = model(**batch).logits

    assert len(batch["input_ids"]) < len(USERS)
    alone = {
        tuple(ids[0].tolist()): model(input_ids=ids).logits[0]
        for ids in (collate([user])["input_ids"] for user in USERS)
    }
    for row, column in places(batch):
        ids = next(ids for ids in alone if tuple(batch["input_ids"][row, column : column + len(ids)].tolist()) == ids)
        torch.testing.assert_close(packed[row, column : column + len(ids)], alone.pop(ids), atol=1e-5, rtol=0)
    assert not alone


def segments(batch) -> torch.Tensor:
    """Number of every cell's sequence in its row, from 1 on; 0 for padding."""
    is_token = batch["input_ids"] != 0
    return ((batch["position_ids"] == 0) & is_token).cumsum(1) * is_token


# u has row 0; in row 1 stands v with w behind it: a leaky causal mask shows v to w, a leaky full one w to v as well
V, W = (1, 1), (1, 2)


def is_of(batch, place: tuple[int, int]) -> torch.Tensor:
    row, segment = place
    return (torch.arange(len(batch["labels"])) == row)[:, None] & (segments(batch) == segment)


def test_the_users_of_these_tests_share_a_row():
    _, collate = generator_and_collator()
    batch = collate(USERS)

    assert [int(is_of(batch, place).sum()) for place in ((0, 1), V, W)] == [17, 9, 5]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize(
    ("changed", "user"), [(V, ("v", np.array([9, 8]), 0)), (W, ("w", np.array([10]), 0))], ids=["ahead", "behind"]
)
def test_a_changed_neighbour_changes_nothing(attention, use_cache, is_half, changed, user):
    model, collate = generator_and_collator(attention)
    model.config.use_cache = use_cache
    batches = [collate(users) for users in (USERS, [user if user[0] == old[0] else old for old in USERS])]
    others = (segments(batches[0]) > 0) & ~is_of(batches[0], changed)

    same = [batch | {"labels": batch["labels"].masked_fill(~others, -100)} for batch in batches]

    assert not torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        first, second = (model(**batch).logits for batch in batches)
        losses, gradients = zip(*(loss_and_gradients(model, batch) for batch in same), strict=True)
    assert torch.equal(first[others], second[others])
    assert not torch.equal(first[is_of(batches[0], changed)], second[is_of(batches[1], changed)])
    assert torch.equal(*losses)
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize("mine", [V, W])
def test_no_gradient_flows_from_one_user_to_another(attention, is_half, mine):
    model, collate = generator_and_collator(attention)
    batch = collate(USERS)
    is_mine = is_of(batch, mine)
    embeds = model.get_input_embeddings()(batch.pop("input_ids")).detach().requires_grad_()
    batch.pop("labels")

    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        logits = model(inputs_embeds=embeds, **batch).logits
    logits[is_mine].float().square().sum().backward()

    assert (embeds.grad.abs().sum(-1) > 0)[is_mine].all()
    assert (embeds.grad[~is_mine] == 0).all()


def test_loss_and_gradients_are_those_of_the_padded_batch():
    model, collate = generator_and_collator()
    packed = collate(USERS)
    alone = [collate([user]) for user in USERS]
    width = max(part["input_ids"].shape[1] for part in alone)

    def padded(name: str, fill: int) -> torch.Tensor:
        rows = (part[name] for part in alone)
        return torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1]), value=fill) for row in rows])

    reference = {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100)}

    loss, gradients = loss_and_gradients(model, packed)
    expected_loss, expected = loss_and_gradients(model, reference)

    torch.testing.assert_close(loss, expected_loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients, expected, atol=1e-6, rtol=1e-4)


def test_half_precision_sees_the_same_blocks():
    model, collate = generator_and_collator()
    batch = collate(USERS)

    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients = loss_and_gradients(model, batch)

    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert loss.item() == pytest.approx(model(**batch).loss.item(), rel=0.02)
