import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.quantizers.cost.toys import tiny_model

ROOT = Path(__file__).parents[3]


def one_step(directory: Path, processes: int) -> dict[str, torch.Tensor]:
    """Run one step with plain gradient descent, whose update is the gradient itself."""
    directory.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", "tests.quantizers.cost.one_step", f"--output_dir={directory}", "--use_cpu=True", "--max_steps=1"]
    command += ["--optim=sgd", "--learning_rate=1.0", "--max_grad_norm=0", "--seed=5", "--data_seed=5"]
    command += ["--lr_scheduler_type=constant", "--save_strategy=no", "--report_to=none", "--disable_tqdm=True"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return load_file(directory / "step.safetensors")


@pytest.mark.slow
def test_a_contrastive_step_of_two_processes_equals_that_of_one_with_the_same_batch(tmp_path):
    single, double = (one_step(tmp_path / str(number), number) for number in (1, 2))

    assert single.pop("sizes").tolist() == [1, 32] and double.pop("sizes").tolist() == [2, 32]
    start = tiny_model(input_norm="l2").state_dict()
    moved = [name for name, value in start.items() if not torch.equal(value, single[name])]
    assert moved == list(start)
    for name, value in single.items():
        torch.testing.assert_close(
            double[name], value, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
