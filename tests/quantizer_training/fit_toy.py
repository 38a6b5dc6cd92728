"""Fit codes to toy vectors in a process of its own: killed, or started by torchrun, by test_processes.py."""

import sys

from cost_hf.quantizer_training.fit import CodesOptions, fit_codes
from tests.quantizer.toys import item_vectors

NUM_ITEMS = 301  # odd, so that two processes can't share it evenly


def toy_options(epochs: int) -> CodesOptions:
    return CodesOptions(
        level_sizes=[8, 8], latent_dim=8, hidden_sizes=[16], epochs=epochs, batch_size=64, save_epochs=5
    )


def fit_toy(directory: str, epochs: int) -> None:
    items = item_vectors(NUM_ITEMS, clusters=30)
    fit_codes(items, toy_options(epochs), output_dir=directory, seed=0, item_ids=list(map(str, range(NUM_ITEMS))))


if __name__ == "__main__":
    fit_toy(sys.argv[1], int(sys.argv[2]))
