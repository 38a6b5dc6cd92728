"""Fit codes to toy vectors in a process of its own: killed, or started by torchrun, by test_processes.py."""

import os
import sys
from pathlib import Path

import numpy as np
from accelerate import PartialState
from safetensors.torch import save_file

from cost_hf.quantizers.fit import CodesOptions, fit_codes
from tests.quantizers.cost.toys import item_vectors

NUM_ITEMS = 301  # odd, so that two processes can't share it evenly


def toy_options(epochs: int, kind: str) -> CodesOptions:
    return CodesOptions(
        kind=kind, level_sizes=[8, 8], latent_dim=8, hidden_sizes=[16], epochs=epochs, batch_size=64, save_epochs=5
    )


def toy_collaborative(num_items: int) -> np.ndarray:
    """Vectors of width 8; every tenth item has none."""
    vectors = item_vectors(num_items, 8, clusters=10, seed=7).numpy()
    vectors[::10] = 0
    return vectors


def fit_toy(directory: str, epochs: int, kind: str) -> None:
    items = item_vectors(NUM_ITEMS, clusters=30)
    ids = list(map(str, range(NUM_ITEMS)))
    options = toy_options(epochs, kind)
    result = fit_codes(
        items, options, output_dir=directory, seed=0, item_ids=ids, collaborative=toy_collaborative(NUM_ITEMS)
    )
    if "RANK" in os.environ and result.model is not None:
        weights = {name: value.contiguous() for name, value in result.model.state_dict().items()}
        save_file(weights, Path(directory) / f"rank-{os.environ['RANK']}.safetensors")


if __name__ == "__main__":
    fit_toy(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    PartialState().destroy_process_group()  # a process that exits with its group may abort
