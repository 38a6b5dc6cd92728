import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from cost_hf.checkpoints import drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.generators.generator_training import (
    divide_logits,
    num_tokens,
    remove_checkpoints,
    train_generator,
)
from cost_hf.generators.options import TrainingOptions
from tests.recommenders.toys import toy_batch, toy_catalog

pytestmark = pytest.mark.trains


def sequences(users: int = 60, items: int = 40) -> list[np.ndarray]:
    """Users who walk through the items in steps of one: a rule that a generator can learn."""
    generator = np.random.default_rng(0)
    return [(generator.integers(items) + np.arange(generator.integers(4, 9))) % items for _ in range(users)]


def fit(directory, *, kind="causal", size="tiny", stop_after=None, **training):
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(kind=kind, size=size, max_history=8, dropout=0.1)
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)
    calls = []

    def validate(model):
        calls.append(model.training)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return {"ndcg@10": float(len(calls))}

    trained = train_generator(
        backbone,
        prompts,
        sequences(),
        [f"u{number}" for number in range(60)],
        generator=options,
        training=TrainingOptions(**{"epochs": 3, "batch_size": 16, "warmup_steps": 2, **training}),
        validate=validate,
        output_dir=directory,
        seed=0,
    )
    return trained, calls


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_training_lowers_the_loss_and_validates_in_eval_mode(tmp_path, kind):
    trained, calls = fit(tmp_path, kind=kind, epochs=4, learning_rate=5e-3)

    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert calls == [False] * 4
    assert not trained.model.training


def test_two_runs_of_one_seed_are_bit_equal(tmp_path):
    first, _ = fit(tmp_path / "a")
    second, _ = fit(tmp_path / "b")

    assert_equal_weights(weights(first.model), weights(second.model))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_two_threads_add_gradients_in_one_order(tmp_path, two_threads, kind):
    # wide enough that torch shares the rows of a batch out among threads
    options = {"kind": kind, "size": "small", "epochs": 1, "batch_size": 64}

    assert_equal_weights(*(weights(fit(tmp_path / name, **options)[0].model) for name in ("a", "b")))


def test_a_run_stopped_in_its_second_epoch_continues_bit_for_bit(tmp_path):
    straight, _ = fit(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", stop_after=1)

    resumed, calls = fit(tmp_path / "stopped")

    assert len(calls) == 2  # epoch 1 was not repeated
    assert_equal_weights(weights(straight.model), weights(resumed.model))


def test_the_checkpoint_with_the_best_ranking_comes_back(tmp_path):
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(size="tiny", max_history=8)
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)
    seen = []

    def validate(model):
        seen.append(weights(model))
        return {"ndcg@10": [0.1, 0.9, 0.2][len(seen) - 1]}

    trained = train_generator(
        backbone,
        prompts,
        sequences(),
        ["u"] * 60,
        generator=options,
        training=TrainingOptions(epochs=3, batch_size=16),
        validate=validate,
        output_dir=tmp_path,
        seed=0,
    )

    assert_equal_weights(weights(trained.model), seen[1])


def test_training_stops_when_the_ranking_stops_improving(tmp_path):
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(size="tiny", max_history=8)
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    calls = []

    train_generator(
        backbone,
        prompts,
        sequences(),
        ["u"] * 60,
        generator=options,
        training=TrainingOptions(epochs=5, batch_size=16, patience=2),
        validate=lambda model: calls.append(1) or {"ndcg@10": next(scores)},
        output_dir=tmp_path,
        seed=0,
    )

    assert len(calls) == 3


def test_the_embedding_learns_faster_where_asked(tmp_path):
    start = build_backbone(GeneratorOptions(kind="seq2seq", size="tiny", dropout=0.1), toy_catalog(40, (8, 8)), seed=0)
    moved = {}
    for factor in (1.0, 15.0):
        trained, _ = fit(
            tmp_path / str(factor),
            kind="seq2seq",
            epochs=1,
            embedding_learning_rate_multiplier=factor,
            learning_rate=1e-3,
        )
        moved[factor] = (
            (trained.model.get_input_embeddings().weight - start.model.get_input_embeddings().weight).abs().max()
        )

    assert moved[15.0] > 5 * moved[1.0]


def test_an_empty_history_has_the_loss_it_has_without_the_padding_of_its_batch():
    catalog = toy_catalog(40, (8, 8))
    backbone = build_backbone(
        GeneratorOptions(kind="seq2seq", size="tiny", dropout=0.0, max_history=8), catalog, seed=0
    )
    (prompts,) = backbone.prompts(catalog)
    examples = [("u", np.array([], dtype=np.int64), 3), ("v", np.array([1, 2, 4]), 5)]
    collate, model = partial(toy_batch, prompts), backbone.model.train()

    together = model(**collate(examples)).loss
    apart = torch.stack([model(**collate([example])).loss for example in examples])

    torch.testing.assert_close(together, apart.mean())


def test_a_seq2seq_generator_learns_first_items_where_asked(tmp_path):
    trained, _ = fit(tmp_path, kind="seq2seq", epochs=2, learning_rate=5e-3, first_items=True)

    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert trained.history[-1]["step"] == 2 * math.ceil(sum(map(len, sequences())) / 16)


def test_the_saved_generator_is_a_stock_model_that_uses_its_cache(tmp_path):
    for kind, auto in (("causal", AutoModelForCausalLM), ("seq2seq", AutoModelForSeq2SeqLM)):
        trained, _ = fit(tmp_path / kind, kind=kind, epochs=1)
        trained.model.save_pretrained(tmp_path / kind / "model")

        loaded, info = auto.from_pretrained(tmp_path / kind / "model", output_loading_info=True)

        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert json.loads((tmp_path / kind / "model" / "config.json").read_text()).get("use_cache", True) is True
        assert_equal_weights(weights(loaded), weights(trained.model))


def test_residual_dropout_acts_in_training_only():
    backbone = build_backbone(GeneratorOptions(size="tiny", dropout=0.0), toy_catalog(), seed=0)
    ids = torch.tensor([[3, 4, 5]])
    clean = backbone.model.eval()(ids).logits

    handles = add_residual_dropout(backbone.model, 0.5)

    assert torch.equal(backbone.model.eval()(ids).logits, clean)
    assert not torch.allclose(backbone.model.train()(ids).logits, clean)
    for handle in handles:
        handle.remove()
    assert torch.equal(backbone.model.train()(ids).logits, clean)


def test_building_a_generator_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_backbone(GeneratorOptions(size="tiny"), toy_catalog(), seed=0)

    assert torch.equal(torch.rand(3), expected)


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


def plain_loss(logits, labels, *, is_causal):
    if is_causal:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_loss_is_the_cross_entropy_of_the_divided_logits(kind, temperature):
    model = build_backbone(GeneratorOptions(kind=kind, size="tiny", dropout=0.0), toy_catalog(), seed=0).model.train()
    batch = {"input_ids": torch.tensor([[3, 5, 7], [4, 6, 8]]), "labels": torch.tensor([[-100, 5, 7], [4, -100, 8]])}
    stock_loss, stock = loss_and_gradients(model, batch)
    model.zero_grad()
    expected_loss = plain_loss(model(**batch).logits / temperature, batch["labels"], is_causal=kind == "causal")
    expected_loss.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}

    handle = divide_logits(model, temperature)
    loss, found = loss_and_gradients(model, batch)
    handle.remove()

    torch.testing.assert_close(loss, expected_loss.detach())
    torch.testing.assert_close(found, expected)
    if temperature == 1.0:
        assert torch.equal(loss, stock_loss)
        assert all(torch.equal(gradient, found[name]) for name, gradient in stock.items())


def test_the_temperature_leaves_the_logits_of_a_search_alone():
    model = build_backbone(GeneratorOptions(size="tiny"), toy_catalog(), seed=0).model.eval()
    ids = torch.tensor([[3, 4, 5]])
    plain = model(ids).logits

    divide_logits(model, 0.5)

    assert torch.equal(model(ids).logits, plain)


def test_training_uses_the_temperature_and_leaves_a_stock_model(tmp_path):
    plain, _ = fit(tmp_path / "plain", epochs=1)
    sharp, _ = fit(tmp_path / "sharp", epochs=1, temperature=0.5)

    assert not torch.equal(plain.model.lm_head.weight, sharp.model.lm_head.weight)
    assert not sharp.model.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_accumulated_steps_have_the_loss_of_the_whole_batch(tmp_path, kind):
    whole, _ = fit(tmp_path / "whole", kind=kind, epochs=1, batch_size=512)

    parts, _ = fit(tmp_path / "parts", kind=kind, epochs=1, batch_size=16, gradient_accumulation=32)

    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=0.05)


def test_tokens_of_a_step_are_those_of_all_its_batches(tmp_path):
    whole, _ = fit(tmp_path / "whole", kind="seq2seq", epochs=2, batch_size=512)

    parts, _ = fit(tmp_path / "parts", kind="seq2seq", epochs=2, batch_size=16, gradient_accumulation=32)

    counts = [entry["tokens_per_step"] for entry in whole.history if "loss" in entry]
    assert counts[0] == counts[1] > 0  # one step an epoch
    assert [entry["tokens_per_step"] for entry in parts.history if "loss" in entry] == counts


def test_padding_is_not_counted():
    ids = torch.ones(2, 4, dtype=torch.long)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])

    assert num_tokens({"input_ids": ids, "attention_mask": mask}) == 6
    assert num_tokens({"input_ids": ids, "attention_mask": torch.zeros(2, 1, 4, 4)}) == 8


def make_checkpoint(directory, step, *, state='{"global_step": 5}', without=""):
    folder = directory / f"checkpoint-{step}"
    folder.mkdir()
    save_file({"weight": torch.ones(50)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save(torch.ones(50), folder / name)
    if without:
        (folder / without).unlink()
    (folder / "trainer_state.json").write_text(state)


@pytest.mark.parametrize("state", ["[" * 100_000, "[]", "{}", "null", "\xff", '{"unknown": 1}', '{"global_st'])
def test_a_checkpoint_without_a_whole_state_is_not_resumed(tmp_path, state):
    make_checkpoint(tmp_path, 5)
    make_checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_bytes(state.encode("latin-1"))

    whole = "checkpoint-10" if state == "{}" else "checkpoint-5"  # a state of defaults is one
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / whole)


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_with_half_a_file_is_not_resumed(tmp_path, part):
    make_checkpoint(tmp_path, 5)
    make_checkpoint(tmp_path, 10)
    path = tmp_path / "checkpoint-10" / part
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")


def test_a_half_written_checkpoint_is_left_out_and_removed(tmp_path):
    make_checkpoint(tmp_path, 5)
    make_checkpoint(tmp_path, 10, state='{"global_st')
    (tmp_path / "checkpoint-15").mkdir()

    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    drop_incomplete_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_half_deleted_checkpoint_is_not_resumed(tmp_path, part):
    make_checkpoint(tmp_path, 5)
    make_checkpoint(tmp_path, 10, without=part)

    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")


def test_removing_checkpoints_of_a_run_without_any_is_fine(tmp_path):
    remove_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "rnn"}, "causal or seq2seq, got 'rnn'"),
        ({"size": "letter"}, r"size of kind causal must be one of \[.*'small'.*\], got 'letter'"),
        ({"prompt": "instruction"}, "generator.prompt='instruction' and embedding_init=None need a generator.backbone"),
        ({"dropout": -0.2}, r"generator.dropout must be a share from 0 to below 1, got -0.2"),
        ({"dropout": 1.0}, r"generator.dropout must be a share from 0 to below 1, got 1.0"),
        ({"max_history": 0}, "generator.max_history must be at least 1, got 0"),
        ({"num_user_tokens": -1}, "generator.num_user_tokens must be at least 0, got -1"),
    ],
)
def test_options_that_name_no_generator_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(GeneratorOptions(**options), toy_catalog(), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "training.epochs must be at least 1, got 0"),
        ({"validation_beams": 5}, "at least 10 for NDCG@10"),
        ({"precision": "fp8"}, "auto, fp32 or bf16, got 'fp8'"),
        ({"temperature": 0.0}, "training.temperature must be above 0, got 0.0"),
        ({"learning_rate": 0.0}, "training.learning_rate must be above 0, got 0.0"),
        ({"weight_decay": -0.1}, "training.weight_decay must not be negative, got -0.1"),
    ],
)
def test_training_options_that_no_run_can_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options).validate()


def test_training_users_without_a_single_example_are_an_error(tmp_path):
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(kind="seq2seq", size="tiny", max_history=8)
    backbone = build_backbone(options, catalog, seed=0)
    prompts = backbone.prompts(catalog)

    with pytest.raises(ValueError, match="the training part holds no example"):
        train_generator(
            backbone,
            prompts,
            [np.array([1])],
            ["u"],
            generator=options,
            training=TrainingOptions(),
            validate=lambda model: {"ndcg@10": 0.0},
            output_dir=tmp_path,
            seed=0,
        )
