"""Weights that move to a copy for training and come back for a search; with two processes in test_two_processes.py."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.trainer_callback import TrainerState

from cost_hf.checkpoints import DIGESTS, last_complete_checkpoint
from cost_hf.files import file_digests, write_json
from cost_hf.sharding import LAUNCH, ShardedModel, is_sharded, whole_weights


class Tied(nn.Module):
    """An embedding and a head with one weight, and a buffer that training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(rows)) + self.steps


def test_weights_are_in_one_place_while_training_and_in_both_in_a_search():
    torch.manual_seed(0)
    model = Tied()
    rows = torch.arange(4)
    before = model(rows).detach()

    sharded = ShardedModel(model)

    assert all(weight.is_meta for weight in model.parameters())
    assert torch.equal(sharded.trained(rows), before)
    assert sharded.trained.head.weight is sharded.trained.embedding.weight
    with torch.no_grad():
        sharded.trained.embedding.weight += 1
        sharded.trained.steps += 1
    with sharded.gathered() as whole:
        assert whole is model and torch.equal(model(rows), sharded.trained(rows))
        assert model.head.weight is model.embedding.weight
        with torch.no_grad():
            model.embedding.weight.zero_()  # a copy: no search changes what is trained
    assert all(weight.is_meta for weight in model.parameters())
    assert sharded.gather() is model and torch.equal(model(rows), sharded.trained(rows))
    assert model.embedding.weight.requires_grad and not model.frozen.requires_grad


def test_an_error_in_a_search_leaves_the_model_without_weights():
    sharded = ShardedModel(Tied())

    with pytest.raises(RuntimeError, match="of the search"), sharded.gathered():
        raise RuntimeError("of the search")

    assert all(weight.is_meta for weight in sharded.model.parameters())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"fsdp_plugin": SimpleNamespace(fsdp_version=1)}, r"by FSDP version 1, expected 2; set fsdp_version: 2"),
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=3)}, r"by DeepSpeed ZeRO-3, .*fsdp.yaml, or with .*ZeRO-2"),
        (
            {"fsdp_plugin": SimpleNamespace(fsdp_version=2, cpu_ram_efficient_loading=True)},
            r"fsdp_cpu_ram_efficient_loading is true, expected false",
        ),
    ],
)
def test_weights_that_can_not_be_gathered_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        is_sharded(SimpleNamespace(**state))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, False),
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=2), "fsdp_plugin": None}, False),
        ({"fsdp_plugin": SimpleNamespace(fsdp_version=2, cpu_ram_efficient_loading=False)}, True),
    ],
)
def test_a_launch_spreads_the_weights_or_not(state, expected):
    assert is_sharded(SimpleNamespace(**state)) is expected


@pytest.mark.parametrize("launched", ["true", None])
def test_small_models_keep_their_weights_in_any_launch(monkeypatch, launched):
    monkeypatch.delenv(LAUNCH, raising=False)
    if launched is not None:
        monkeypatch.setenv(LAUNCH, launched)

    with whole_weights():
        assert os.environ[LAUNCH] == "false"

    assert os.environ.get(LAUNCH) == launched


def test_a_checkpoint_of_shards_is_resumed_and_a_damaged_one_is_not(tmp_path):
    folder = tmp_path / "checkpoint-3"
    shards = ("pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "scheduler.pt", "rng_state_0.pth")
    for name in shards:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    TrainerState(global_step=3).save_to_json(str(folder / "trainer_state.json"))
    write_json(folder / DIGESTS, file_digests(folder))
    assert last_complete_checkpoint(tmp_path) == str(folder)

    (folder / shards[0]).write_text("cut short")

    assert last_complete_checkpoint(tmp_path) is None
