"""Models trained by two processes: the weights of one process, whole or spread over both (FSDP)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cost_hf.files import read_json
from tests.generators.backbone_toys import causal_backbone
from tests.process_training import CODES, NAMES, SHARDED, STOPPED, UNEVEN
from tests.runs import run_module

pytestmark = [pytest.mark.slow, pytest.mark.trains]
SPREAD = f"{SHARDED}full"
ADAPTED = f"{SHARDED}lora"
AGAIN = f"{STOPPED}{SPREAD}"
SMALL = f"{SHARDED}{CODES}"
LAUNCHED = [SPREAD, ADAPTED, SMALL, AGAIN]  # last: from then on the processes are of a sharded launch
ODD = [f"{UNEVEN}{name}" for name in NAMES]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A directory with folders 1 and 2, of models that as many processes have trained."""
    directory = tmp_path_factory.mktemp("trained")
    backbone = causal_backbone(directory / "base")
    for processes, names in ((1, NAMES), (2, [*NAMES, *ODD, *LAUNCHED])):
        (directory / str(processes)).mkdir()
        arguments = [str(directory / str(processes)), str(backbone), *names]
        run_module("tests.process_training", arguments, processes=processes)
    return directory


def weights(directory: Path, name: str, rank: int) -> dict[str, torch.Tensor]:
    return load_file(directory / f"{name}-{rank}.safetensors")


@pytest.mark.parametrize("name", [*NAMES, SPREAD, ADAPTED])
def test_two_processes_take_the_steps_and_find_the_ranking_of_one(trained, name):
    kind = name.removeprefix(SHARDED)
    one, two = weights(trained / "1", kind, 0), weights(trained / "2", name, 0)

    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-3, rtol=0, msg=lambda text, key=key: f"{key}: {text}")
    logs = [read_json(trained / folder / f"{found}.json")["log"] for folder, found in (("1", kind), ("2", name))]
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]]
    for alone, together in zip(*logs, strict=True):
        for metric in {"loss", "eval_ndcg@10"} & set(alone):
            assert together[metric] == pytest.approx(alone[metric], abs=1e-2), metric


@pytest.mark.parametrize("name", [*NAMES, *ODD, *LAUNCHED])
def test_both_processes_end_with_the_same_weights(trained, name):
    first, second = (weights(trained / "2", name, rank) for rank in range(2))

    for key, value in first.items():
        assert torch.equal(second[key], value), key


def test_a_process_holds_its_share_of_the_weights_alone(trained):
    held = read_json(trained / "2" / f"{SPREAD}.json")["held"]

    assert len(held) == 3  # two validations, and the end
    for own, whole in held:
        assert own <= 0.6 * whole


def test_users_that_can_not_be_shared_evenly_are_all_learned(trained):
    log = read_json(trained / "2" / f"{UNEVEN}{NAMES[0]}.json")["log"]

    assert [entry["step"] for entry in log if "loss" in entry] == [3, 6]  # 37 users in batches of 2 times 8
    assert log[-1]["epoch"] == 2.0


@pytest.mark.parametrize("name", [*NAMES, ADAPTED, SMALL])
def test_whole_weights_are_not_gathered(trained, name):
    assert read_json(trained / "2" / f"{name}.json")["held"] == []


def test_a_training_of_spread_weights_that_was_stopped_ends_like_an_undisturbed_one(trained):
    whole, again = (weights(trained / "2", name, 0) for name in (SPREAD, AGAIN))

    for key, value in whole.items():
        assert torch.equal(again[key], value), key
