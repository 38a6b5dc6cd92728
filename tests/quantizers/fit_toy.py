"""Fit codes to toy vectors in a process of its own: killed, or started by torchrun, by test_processes.py."""

import os
import sys
from pathlib import Path

import numpy as np
from accelerate import PartialState
from safetensors.torch import save_file
from scipy.sparse import csr_matrix

from cost_hf.data.coclicks import co_clicks
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import fit_codes
from tests.quantizers.cost.toys import item_vectors

NUM_ITEMS = 301  # odd, so that two processes can't share it evenly


SMALL = {"level_sizes": [8, 8], "latent_dim": 8, "hidden_sizes": [16], "epochs": 6, "batch_size": 32, "save_epochs": 2}


def small_options(kind: str = "cost", **changes) -> CodesOptions:
    """Options of a kind, small where it has sizes."""
    CodesOptions.load_kinds()
    options = CodesOptions.kinds[kind]
    collaborative = {options.collaborative_dim_field: 8} if CodesOptions.of(kind).needs_collaborative_vectors else {}
    return CodesOptions.of(kind, **(options.carried_over(SMALL) | collaborative | changes))


def toy_collaborative(num_items: int) -> np.ndarray:
    """Vectors of width 8; every tenth item has none."""
    vectors = item_vectors(num_items, 8, clusters=10, seed=7).numpy()
    vectors[::10] = 0
    return vectors


def toy_coclicks(num_items: int, *, seed: int = 0) -> csr_matrix:
    """Counts of clicks within groups of ten items; the last items have none."""
    random = np.random.default_rng(seed)
    starts = 10 * random.integers(num_items // 10, size=2 * num_items)
    return co_clicks([start + random.integers(10, size=6) for start in starts], num_items)


def fit_toy(directory: str, epochs: int, kind: str) -> None:
    """Fit codes of a kind; a word after a plus is its `positives`."""
    items = item_vectors(NUM_ITEMS, clusters=30)
    ids = list(map(str, range(NUM_ITEMS)))
    kind, _, positives = kind.partition("+")
    changes = {"positives": positives} if positives else {}
    options = small_options(kind, epochs=epochs, batch_size=64, save_epochs=5, **changes)
    result = fit_codes(
        items,
        options,
        output_dir=directory,
        seed=0,
        item_ids=ids,
        collaborative=toy_collaborative(NUM_ITEMS),
        coclicks=toy_coclicks(NUM_ITEMS),
        popularity=np.arange(NUM_ITEMS),
    )
    if "RANK" in os.environ and result.model is not None:
        weights = {name: value.contiguous() for name, value in result.model.state_dict().items()}
        save_file(weights, Path(directory) / f"rank-{os.environ['RANK']}.safetensors")


if __name__ == "__main__":
    fit_toy(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    PartialState().destroy_process_group()  # a process that exits with its group may abort
