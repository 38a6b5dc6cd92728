"""TTDSR in training: with all of it off it is the plain generator, and a stopped run goes on with the index it had."""

import dataclasses
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed

from cost_hf.checkpoints import last_complete_checkpoint
from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.generator_training import GeneratorTrainer
from cost_hf.methods.base import Workspace
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.training_stages import training_clicks
from cost_hf.methods.ttdsr.dynamic_index import FOLDER
from cost_hf.methods.ttdsr.options import AlignmentOptions
from cost_hf.methods.ttdsr.stages import entity_texts, index_stage
from cost_hf.methods.ttdsr.text_states import TextRows, mean_states
from cost_hf.methods.ttdsr.towers import Tower, load_index
from cost_hf.methods.ttdsr.trainer import IndexedTrainer, alignment_terms
from cost_hf.methods.ttdsr.training import dynamic_index, frozen_codes
from cost_hf.precision import trains_in_bf16
from cost_hf.semantic_ids.trie import SidTrie
from tests.generators.backbone_toys import causal_backbone
from tests.methods.ttdsr.ttdsr_toys import OFF, toy_recipe, toy_workspace

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return causal_backbone(tmp_path_factory.mktemp("ttdsr") / "base")


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A run that was never stopped: what `run` returns."""
    return run(base, tmp_path_factory.mktemp("finished"))


class Stopped(Exception):
    pass


def run(base, directory, *, stop_after=None, plain=False, **fields):
    """Train on toy data; return weights, index of items, log and method. Validation prefers the last checkpoint."""
    recipe = toy_recipe(base, **fields)
    workspace: Workspace = toy_workspace(directory, recipe)
    method = recipe.system
    first = index_stage(workspace, method.options, seed=0).codes["items"]
    catalog = method.build_catalog(workspace, first, seed=0)
    set_seed(0)
    if plain:
        backbone = build_backbone(
            method.options.generator, catalog, seed=0, adapter=method.options.adapter, tasks=method.options.tasks
        )
    else:
        backbone = method.build_backbone(workspace, catalog, first, seed=0)
    prompts = backbone.prompts(catalog)
    trie = SidTrie.from_catalog(catalog, popularity=training_clicks(workspace))
    folder = directory / "work"
    folder.mkdir(exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:

        def metrics(ranker, *_args, **_options):
            codes = backbone.vocabulary.decode(ranker.prompts.item_tokens)
            assert (ranker.trie.prefix(codes) >= 0).all()  # the index that holds now is searched
            done = len(list(directory.glob("validation-*")))
            if stop_after is not None and done == stop_after:
                raise Stopped
            (directory / f"validation-{done}").touch()  # a resumed run goes on counting
            return {"ndcg@10": float(done), "recall@10": 0.0}

        patch.setattr("cost_hf.methods.generative.training.validation_metrics", metrics)
        # the plain training is that of a generator, without what the method adds to it
        train = partial(GenerativeMethod.train, method) if plain else method.train
        log = train(workspace, backbone, prompts, catalog, trie, folder=folder, seed=0)
    trained = catalog if plain else frozen_codes(folder, catalog, first)[0]
    return dict(backbone.model.state_dict()), trained, log, backbone


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name, weight in left.items():
        assert torch.equal(weight, right[name]), name


def untimed(entry):
    of_the_clock = ("train_", "total_")
    return {name: value for name, value in entry.items() if "seconds" not in name and not name.startswith(of_the_clock)}


def test_with_all_of_it_off_it_is_the_plain_generator_bit_for_bit(base, tmp_path):
    off = {name.replace(".", "__"): value for name, value in OFF.items()}

    own, catalog, log, _ = run(base, tmp_path / "own", **off)
    plain, start, plain_log, _ = run(base, tmp_path / "plain", plain=True, **off)

    assert_same_weights(own, plain)
    assert catalog.digest == start.digest
    assert [entry["loss"] for entry in log if "loss" in entry] == [e["loss"] for e in plain_log if "loss" in e]


def test_refreshes_change_codes_until_the_index_is_frozen(finished):
    _, catalog, log, _ = finished
    refreshes = [entry for entry in log if "refresh_seconds" in entry]
    last = max(entry["step"] for entry in log if "step" in entry)

    assert [entry["step"] for entry in refreshes] == list(range(2, last // 2 + 1, 2))
    assert any(entry["items_changed"] > 0 for entry in refreshes)
    for entry in refreshes:
        assert {"users_changed", "items_first_changed", "items_perplexity_1", "users_perplexity_2"} <= set(entry)
    assert {"items_drift", "users_drift", "items_drift_settled", "users_drift_settled"} == set(log[-1])
    assert (catalog.codes >= 0).all() and len(catalog) == 48
    losses = [entry for entry in log if "loss" in entry]
    # one for each of the two epochs, although the first one ends with a refresh
    assert [entry["step"] for entry in losses] == [last // 2, last]
    assert refreshes[-1]["step"] == last // 2
    assert all(entry["tokens_per_step"] > 0 and entry["items_mse"] > 0 for entry in losses)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_of_the_alignment_have_the_precision_of_the_training(base, tmp_path, monkeypatch, precision):
    in_bf16 = set()

    def states(model, *args, **others):
        in_bf16.add(torch.is_autocast_enabled(model.device.type))
        return mean_states(model, *args, **others)

    monkeypatch.setattr("cost_hf.methods.ttdsr.trainer.mean_states", states)

    run(base, tmp_path, training__precision=precision, training__epochs=1)

    assert in_bf16 == {trains_in_bf16(precision)}  # some processors train in fp32 in either case


def test_examples_and_prompts_have_the_codes_that_training_ended_with(finished):
    _, catalog, _, backbone = finished
    tokens = backbone.vocabulary.encode(torch.tensor(catalog.codes))

    fresh = backbone.prompts(catalog)

    assert torch.equal(fresh[0].item_tokens, tokens)


def test_a_stopped_run_goes_on_bit_for_bit_with_the_index_of_its_checkpoint(base, finished, tmp_path):
    straight, catalog, straight_log, backbone = finished
    with pytest.raises(Stopped):
        run(base, tmp_path, stop_after=1)
    checkpoint = last_complete_checkpoint(tmp_path / "work" / "checkpoints")
    assert checkpoint is not None

    resumed, found, log, again = run(base, tmp_path)

    assert_same_weights(straight, resumed)
    assert [untimed(entry) for entry in log] == [untimed(entry) for entry in straight_log]
    assert found.digest == catalog.digest
    assert torch.equal(again.user_tokens, backbone.user_tokens)


def test_a_checkpoint_carries_its_index_under_a_digest(base, tmp_path):
    with pytest.raises(Stopped):
        run(base, tmp_path, stop_after=1)
    checkpoint = last_complete_checkpoint(tmp_path / "work" / "checkpoints")
    index = tmp_path / "work" / "checkpoints" / checkpoint.rpartition("/")[2] / FOLDER

    assert {path.name for path in index.iterdir()} == {"index.json", "codes.safetensors", "items", "users"}
    with (index / "codes.safetensors").open("ab") as file:
        file.write(b"0")
    assert last_complete_checkpoint(tmp_path / "work" / "checkpoints") is None


def test_the_index_that_is_kept_is_that_of_the_best_checkpoint(base, tmp_path):
    # refreshes come before each of the two validations, of which the first one is the best
    with pytest.MonkeyPatch.context() as patch:
        seen = []

        def first_is_best(*_args, **_options):
            seen.append(1)
            return {"ndcg@10": 1.0 / len(seen), "recall@10": 0.0}

        recipe = toy_recipe(base, index__freeze_share=1.0)
        workspace = toy_workspace(tmp_path, recipe)
        method = recipe.system
        first = index_stage(workspace, method.options, seed=0).codes["items"]
        catalog = method.build_catalog(workspace, first, seed=0)
        backbone = method.build_backbone(workspace, catalog, first, seed=0)
        patch.setattr("cost_hf.methods.generative.training.validation_metrics", first_is_best)
        (tmp_path / "work").mkdir()
        log = method.train(
            workspace, backbone, backbone.prompts(catalog), catalog, None, folder=tmp_path / "work", seed=0
        )
    kept = frozen_codes(tmp_path / "work", catalog, first)[0]
    best = min((tmp_path / "work" / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    held = load_index(best / FOLDER, {"items": Tower(first.model, catalog)})["items"].catalog

    assert len(seen) == 2
    assert np.array_equal(kept.codes, held.codes)
    assert torch.equal(torch.tensor(kept.codes), backbone.vocabulary.decode(backbone.prompts(kept)[0].item_tokens))
    later = [entry for entry in log if "refresh_seconds" in entry and entry["epoch"] > 1]
    assert later and log[-1]["items_drift"] >= 0


def test_states_are_means_over_tokens_whatever_stands_beside(base, tmp_path):
    recipe = toy_recipe(base)
    workspace = toy_workspace(tmp_path, recipe)
    first = index_stage(workspace, recipe.options, seed=0).codes["items"]
    catalog = recipe.system.build_catalog(workspace, first, seed=0)
    backbone = recipe.system.build_backbone(workspace, catalog, first, seed=0)
    rows = TextRows.of(["a red lamp", "", "blue chair, green table"], backbone.prompt_encoder(), max_tokens=6)
    model = backbone.model.eval()

    together = rows.vectors(model, batch_size=3)
    hidden = [
        model(input_ids=torch.tensor([row.tolist()]), output_hidden_states=True).hidden_states[-1][0].mean(0)
        for row in rows.rows
    ]

    assert max(map(len, rows.rows)) <= 6 and len(rows.rows[1]) == 1
    assert torch.allclose(together, torch.stack(hidden).detach(), atol=1e-4)
    with torch.no_grad():
        ids, mask = rows.batch(np.array([2]), model.device)
        assert torch.allclose(mean_states(model, ids, mask)[0], together[2], atol=1e-4)


def test_a_refresh_of_the_untouched_model_and_towers_changes_no_code(base, tmp_path):
    recipe = toy_recipe(base, index__tower_epochs=0)
    workspace = toy_workspace(tmp_path, recipe)
    options = recipe.options
    first = index_stage(workspace, options, seed=0)
    catalog = recipe.system.build_catalog(workspace, first.codes["items"], seed=0)
    backbone = recipe.system.build_backbone(workspace, catalog, first.codes["items"], seed=0)
    index = dynamic_index(
        backbone,
        backbone.prompts(catalog),
        catalog,
        first.users(workspace),
        first,
        options,
        texts=entity_texts(workspace, options),
        fit_rows=None,
        seed=0,
    )

    found = index.refresh(backbone.model, step=1)

    assert [found[f"{name}_changed"] for name in ("items", "users")] == [0, 0]
    assert set(index.settle(backbone.model).values()) == {0}


def test_alignment_terms_by_hand():
    sids = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    texts = torch.tensor([[2.0, 0.0], [0.0, 1.0]])

    terms = alignment_terms(sids, texts, temperature=0.5)

    assert terms["infonce"].item() == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    assert terms["mse"].item() == pytest.approx(0.5)
    swapped = alignment_terms(sids, texts.flip(0), temperature=0.5)
    assert swapped["infonce"].item() == pytest.approx(2 + np.log(1 + np.exp(-2)), rel=1e-5)


def test_alignment_is_a_mean_over_the_batches_of_a_step_the_last_one_of_an_epoch_too(monkeypatch):
    trainer: Any = object.__new__(IndexedTrainer)
    settings = {"_alignment": AlignmentOptions(), "_batches": 0, "_tokens": 0, "model_accepts_loss_kwargs": True}
    args = SimpleNamespace(gradient_accumulation_steps=4)
    # of four batches of a step, two were left
    vars(trainer).update(settings, args=args, current_gradient_accumulation_steps=2)
    monkeypatch.setattr(GeneratorTrainer, "compute_loss", lambda *_args: (torch.tensor(1.0), None))
    monkeypatch.setattr(IndexedTrainer, "_alignment_loss", lambda *_args: torch.tensor(6.0))

    loss = trainer.compute_loss(None, {"numbers": torch.tensor([3]), "attention_mask": torch.ones(1, 2)})

    assert loss.item() == 1 + 6 / 2


@pytest.mark.parametrize("begin_ids", [(), (1,)])
def test_the_alignment_pairs_semantic_ids_with_their_own_texts(base, finished, begin_ids):
    backbone = finished[3]
    model = backbone.model
    texts = TextRows.of(["a red lamp", "blue chair", "desk"], backbone.prompt_encoder(), max_tokens=6)
    texts = dataclasses.replace(texts, begin_ids=begin_ids)
    sids = backbone.user_tokens[:3, 1:]
    rows = np.array([0, 2])  # the only ones that may be drawn
    trainer: Any = object.__new__(IndexedTrainer)
    index = SimpleNamespace(
        towers=["users"], texts={"users": texts}, tokens=lambda _name: sids, rows_to_learn=lambda _name: rows
    )
    vars(trainer).update(
        _alignment=AlignmentOptions(infonce_weight=2.0, mse_weight=0.5, temperature=0.2, entities=8),
        _index=index,
        _sums={},
        _tokens=0,
        _counted_from=0,
        args=SimpleNamespace(seed=0, device=model.device),
        accelerator=SimpleNamespace(autocast=nullcontext),
    )
    own = mean_states(model, sids[rows], torch.ones_like(sids[rows]), begin_ids=begin_ids)
    wanted = mean_states(model, *texts.batch(rows, model.device), begin_ids=begin_ids).detach()
    terms = alignment_terms(own, wanted, temperature=0.2)
    expected = 2 * terms["infonce"] + 0.5 * terms["mse"]
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    loss = trainer._alignment_loss(model, 3)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    # the same gradients as with constant texts
    for found, wanted_gradient in zip(
        torch.autograd.grad(loss, weights, allow_unused=True),
        torch.autograd.grad(expected, weights, allow_unused=True),
        strict=True,
    ):
        if found is not None or wanted_gradient is not None:
            torch.testing.assert_close(found, wanted_gradient, atol=1e-4, rtol=1e-3)
    own_tokens = sids[rows].numel() + sum(len(texts.rows[row]) for row in rows)
    assert trainer._tokens == own_tokens + 2 * len(rows) * len(begin_ids)


class BeginningTokenizer:
    """A tokenizer that gives every text its begin token, as that of Llama does."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, *, add_special_tokens=True):
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return {"input_ids": [self.bos_token_id, *ids] if add_special_tokens else ids}


def test_a_begin_token_is_before_every_text_and_in_no_mean(finished, monkeypatch):
    backbone = finished[3]
    model = backbone.model.eval()
    encoder = backbone.prompt_encoder()
    plain = TextRows.of(["a red lamp", "blue chair"], encoder, max_tokens=6)
    start = encoder.tokenizer.bos_token_id
    monkeypatch.setattr(encoder, "tokenizer", BeginningTokenizer(encoder.tokenizer))

    rows = TextRows.of(["a red lamp", "blue chair"], encoder, max_tokens=6)

    assert rows.begin_ids == (start,) and plain.begin_ids == ()
    states = rows.vectors(model, batch_size=2)
    for row, own, state in zip(rows.rows, plain.rows, states, strict=True):
        assert row.tolist() == own.tolist()
        hidden = model(input_ids=torch.tensor([[start, *row.tolist()]]), output_hidden_states=True).hidden_states[-1]
        assert torch.allclose(hidden[0, 1:].mean(0), state, atol=1e-4)


def test_gradients_reach_the_semantic_id_and_not_its_text(base, finished):
    backbone = finished[3]
    model = backbone.model
    rows = TextRows.of(["a red lamp", "blue chair"], backbone.prompt_encoder(), max_tokens=6)
    sids = backbone.user_tokens[:2, 1:]
    states = mean_states(model, sids, torch.ones_like(sids))
    with torch.no_grad():
        texts = mean_states(model, *rows.batch(np.arange(2), model.device))

    alignment_terms(states, texts, temperature=0.1)["mse"].backward()

    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    model.zero_grad()
    assert any("lora_" in name for name in moved) and any("trainable_tokens_delta" in name for name in moved)
