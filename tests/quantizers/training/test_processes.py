import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cost_hf.quantizers.fit import CodesResult
from tests.quantizers.fit_toy import NUM_ITEMS

pytestmark = pytest.mark.trains
ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
FIT_TOY = ["-m", "tests.quantizers.fit_toy"]


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cost", "cost+coclick", "letter", "prism"])
def test_a_run_killed_by_the_system_continues_to_the_same_bytes(tmp_path, kind):
    how = ["60", kind]
    run(*FIT_TOY, str(tmp_path / "straight"), *how)
    command = [sys.executable, *FIT_TOY, str(tmp_path / "killed"), *how]
    child = subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("checkpoint-*/trainer_state.json")):
        assert child.poll() is None and time.monotonic() < deadline, "the child ended before its first checkpoint"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "codes.json").exists()

    run(*FIT_TOY, str(tmp_path / "killed"), *how)

    names = sorted(path.name for path in (tmp_path / "straight").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cost", "cost+coclick", "letter", "prism"])
def test_two_processes_fit_a_table_of_odd_size_in_the_steps_of_one(tmp_path, kind):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run(*FIT_TOY, str(tmp_path / "one"), "20", kind)

    run(*launch, *FIT_TOY, str(tmp_path / "two"), "20", kind)

    one, two = CodesResult.load(tmp_path / "one"), CodesResult.load(tmp_path / "two")
    assert two.codes.shape == (NUM_ITEMS, 2) and len(two.history) == 20
    assert not (tmp_path / "two" / "checkpoints").exists()
    first, second = (load_file(tmp_path / "two" / f"rank-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert [record["step"] for record in two.history] == [record["step"] for record in one.history]
    assert two.history[0]["step"] == 5
    for result in (one, two):
        assert result.history[-1]["loss"] < result.history[0]["loss"]


@pytest.mark.slow
def test_a_letter_step_of_two_processes_equals_that_of_one_with_the_same_batch(tmp_path):
    def weights(processes):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        # plain gradient descent, whose update is the gradient itself
        options = ["--use_cpu=True", "--max_steps=1", "--optim=sgd", "--learning_rate=1.0", "--max_grad_norm=0"]
        options += ["--seed=5", "--data_seed=5", "--lr_scheduler_type=constant", "--save_strategy=no"]
        options += ["--report_to=none", "--disable_tqdm=True", "--remove_unused_columns=False"]
        run(*launch, "-m", "tests.quantizers.letter.letter_step", f"--output_dir={folder}", *options)
        return load_file(folder / "step.safetensors")

    single, double = weights(1), weights(2)

    for name, value in single.items():
        torch.testing.assert_close(double[name], value, atol=1e-5, rtol=0)
