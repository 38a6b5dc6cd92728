from types import SimpleNamespace

import pytest
import torch

from cost_hf.quantizers.residual import CostOptions
from cost_hf.quantizers.training.callbacks import (
    MAX_SAMPLE,
    CheckpointCallback,
    DeadCodeResetCallback,
    InitializationCallback,
    ItemTable,
    latents_of,
    set_codebooks,
)
from cost_hf.quantizers.training.kmeans import residual_kmeans
from tests.quantizers.cost.toys import item_vectors, tiny_model

ITEMS = item_vectors(200)


def training_state(*, epoch=1, epochs=10):
    """What Trainer passes to a callback: arguments, state and control."""
    return (
        SimpleNamespace(num_train_epochs=epochs),
        SimpleNamespace(epoch=float(epoch), global_step=epoch, max_steps=epochs),
        SimpleNamespace(should_save=False),
    )


def with_dead_codes(**changes):
    """A model whose codes 1 and 3 of the middle level are out of every item's reach, and its optimizer after a step."""
    model = tiny_model(**changes)
    set_codebooks(model, latents_of(model, ITEMS), seed=0)
    model.quantizer.replace_codes(1, torch.tensor([1, 3]), torch.full((2, 6), 1e3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model(ITEMS).loss.backward()
    optimizer.step()
    return model, optimizer


def reset_dead_codes(model, optimizer, *, options=None, seed=0, epoch=1):
    callback = DeadCodeResetCallback(ItemTable(ITEMS, seed=seed), options or CostOptions(), seed=seed)
    callback.on_epoch_end(*training_state(epoch=epoch), model=model, optimizer=optimizer)


def unused_codes(model, level):
    counts = torch.bincount(model.encode(ITEMS)[:, level], minlength=model.level_sizes[level])
    return torch.nonzero(counts == 0).flatten().tolist()


def test_a_dead_code_is_used_after_its_reset():
    model, optimizer = with_dead_codes()
    assert set(unused_codes(model, 1)) >= {1, 3}

    reset_dead_codes(model, optimizer)

    assert not {1, 3} & set(unused_codes(model, 1))


def test_the_reset_moves_a_code_to_the_residual_of_an_item_and_no_used_code():
    model, optimizer = with_dead_codes()
    unused = unused_codes(model, 1)
    residuals = model.quantizer(latents_of(model, ITEMS)).residuals[:, 1]
    before = model.level_vectors(1).detach().clone()

    reset_dead_codes(model, optimizer)

    after = model.level_vectors(1).detach()
    used = [code for code in range(7) if code not in unused]
    assert torch.equal(after[used], before[used])
    assert (after[unused][:, None] == residuals).all(2).any(1).all()


def test_the_reset_is_a_function_of_seed_and_epoch():
    def reset(seed, epoch):
        model, optimizer = with_dead_codes()
        reset_dead_codes(model, optimizer, seed=seed, epoch=epoch)
        return model.level_vectors(1).detach()

    assert torch.equal(reset(0, 1), reset(0, 1))
    assert not torch.equal(reset(0, 1), reset(0, 2))
    assert not torch.equal(reset(0, 1), reset(1, 1))


def test_the_reset_clears_the_moments_of_these_codes_only():
    model, optimizer = with_dead_codes()
    state = optimizer.state[model.level_vectors(1)]
    for name in ("exp_avg", "exp_avg_sq"):
        state[name].fill_(1.0)
    unused = unused_codes(model, 1)

    reset_dead_codes(model, optimizer)

    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.nonzero(state[name].sum(1) == 0).flatten().tolist() == unused


@pytest.mark.parametrize(
    ("options", "epoch"),
    [(CostOptions(reset_dead_codes=False), 1), (CostOptions(), 8), (CostOptions(dead_code_reset_share=0.0), 1)],
    ids=["switched off", "after its share of the epochs", "share 0"],
)
def test_no_code_is_reset(options, epoch):
    model, optimizer = with_dead_codes()
    before = model.level_vectors(1).detach().clone()

    reset_dead_codes(model, optimizer, options=options, epoch=epoch)

    assert torch.equal(model.level_vectors(1), before)


def test_a_shared_code_is_unused_only_where_no_level_has_it():
    model = tiny_model(level_sizes=(8, 8), share_codebooks=True)
    model.quantizer.replace_codes(0, torch.tensor([2]), torch.full((1, 6), 1e3))
    before = model.level_vectors(0).detach().clone()
    codes = model.encode(ITEMS)
    used = sorted(set(codes.flatten().tolist()))

    reset_dead_codes(model, torch.optim.AdamW(model.parameters()))

    assert 2 not in used
    assert torch.equal(model.level_vectors(0)[used], before[used])
    assert model.level_vectors(0)[2].abs().max() < 100


@pytest.mark.parametrize(("kind", "rows"), [("full", 200), ("first_batch", 64)])
def test_codebooks_start_from_residual_kmeans_of_the_latents(monkeypatch, kind, rows):
    seen = []
    monkeypatch.setattr(
        "cost_hf.quantizers.training.callbacks.residual_kmeans",
        lambda latents, *args, **kwargs: seen.append(latents) or residual_kmeans(latents, *args, **kwargs),
    )
    model = tiny_model()
    options = CostOptions(initialization=kind, batch_size=64)

    InitializationCallback(ItemTable(ITEMS, seed=0), options, seed=0).on_train_begin(
        *training_state(epoch=0), model=model
    )

    assert [len(latents) for latents in seen] == [rows]
    assert torch.equal(model.level_vectors(0), residual_kmeans(seen[0], model.level_sizes, seed=0)[0])


@pytest.mark.parametrize(("kind", "step"), [("none", 0), ("full", 5)], ids=["none", "resumed run"])
def test_initialization_leaves_codebooks_alone(kind, step):
    model = tiny_model()
    before = [codebook.detach().clone() for codebook in model.quantizer.codebooks]

    InitializationCallback(ItemTable(ITEMS, seed=0), CostOptions(initialization=kind), seed=0).on_train_begin(
        *training_state(epoch=step), model=model
    )

    assert all(map(torch.equal, before, model.quantizer.codebooks))


def test_checkpoints_are_asked_for_every_few_epochs():
    def asks(epoch):
        return CheckpointCallback(10).on_epoch_end(*training_state(epoch=epoch)).should_save

    assert [epoch for epoch in range(1, 35) if asks(epoch)] == [10, 20, 30]


def test_a_large_table_is_watched_through_a_fixed_sample():
    vectors = torch.arange(MAX_SAMPLE + 1000, dtype=torch.float32).unsqueeze(1)

    first, again = ItemTable(vectors, seed=0).sample, ItemTable(vectors, seed=0).sample

    assert len(first) == MAX_SAMPLE and torch.equal(first, again)
    assert torch.equal(first.unique(), first.flatten())  # in row order, no row twice
