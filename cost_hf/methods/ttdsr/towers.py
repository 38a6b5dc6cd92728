"""The two towers of the index, items and users: a quantizer each, and the codes that it gives.

A refresh trains a quantizer on from its weights, with the loss of its kind, on new text states; codes then move less
than those of a quantizer that is fitted anew. Collisions are resolved by the policy of the catalog each time, whose
level sizes stay, so that the vocabulary does.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    check_fields,
    check_file_digests,
    file_digests,
    read_object,
    read_tensors,
    write_json,
)
from cost_hf.quantizers.base import CodebookCollapse, load_quantizer
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.residual import TrainedOptions
from cost_hf.quantizers.training.kmeans import seeded_generator
from cost_hf.semantic_ids.catalog import DEFAULT_APPEND_SIZE, Catalog
from cost_hf.semantic_ids.digests import assignment_digest

ITEMS = "items"
USERS = "users"
RECORD = "index.json"
CODES = "codes.safetensors"


@dataclass(frozen=True)
class Tower:
    """One side of the index.

    Attributes:
        quantizer: of the text states.
        catalog: of items, or of users as its items, with their semantic IDs.
    """

    quantizer: CostModel
    catalog: Catalog

    @property
    def model_codes(self) -> np.ndarray:
        """Codes of the quantizer, without an appended level, `[N, L_model]`."""
        return self.catalog.codes[:, : self.catalog.model_levels]

    def changed_share(self, other: "Tower", levels: int | None = None) -> float:
        """Return the share of rows whose semantic ID, or its first `levels` codes, is another one there."""
        same = self.catalog.codes[:, :levels] == other.catalog.codes[:, :levels]
        return float(1 - same.all(1).mean())

    def reassigned(self, quantizer: CostModel, states: Tensor, codes: np.ndarray | None = None) -> "Tower":
        """Return the tower of another quantizer, which gives every row a code by its text state.

        Args:
            quantizer: of the states.
            states: fp32 `[N, D]`.
            codes: that the quantizer gives them, before collisions are resolved `[N, L_model]`; None encodes here.
        """
        known = self.catalog
        fresh = Catalog.from_embeddings(
            known.item_ids,
            states,
            quantizer,
            codes=codes,
            collisions=known.policy,
            append_size=known.level_sizes[-1] if known.policy == "append" else DEFAULT_APPEND_SIZE,
        )
        catalog = replace(known, codes=fresh.codes, quantizer_digest=fresh.quantizer_digest, moved=fresh.moved)
        return Tower(quantizer, catalog)

    def settled(self, states: Tensor) -> "Tower":
        """Return the tower with the same codes, whose quantizer standardizes its input by these states, `[N, D]`."""
        quantizer = copy.deepcopy(self.quantizer)
        quantizer.fit_statistics(states)
        return Tower(quantizer, replace(self.catalog, quantizer_digest=assignment_digest(quantizer)))


@contextmanager
def naming_tower(name: str) -> Iterator[None]:
    """Name the tower whose quantizer collapsed."""
    try:
        yield
    except CodebookCollapse as error:
        raise CodebookCollapse(f"the tower of {name}: {error}") from error


def trained_on(
    quantizer: CostModel, states: Tensor, options: TrainedOptions, *, epochs: int, learning_rate: float, seed: int
) -> CostModel:
    """Return a copy of a quantizer that was trained on for some epochs, in eval mode.

    Its input has the statistics of the states that it now gets (`input_norm: standardize`): the states of a language
    model in training share a mean that moves, and by the statistics of the first ones most rows would share few codes.

    Args:
        quantizer: stays as it is.
        states: text states, fp32 `[N, D]`.
        options: batch size and weight decay.
        epochs: passes over the states; 0 keeps the weights.
        learning_rate: of AdamW, whose moments begin at 0.
        seed: with the epoch, of the order.
    """
    model = copy.deepcopy(quantizer).train()
    model.fit_statistics(states)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=options.weight_decay)
    for epoch in range(epochs):
        order = torch.randperm(len(states), generator=seeded_generator("tower", seed, epoch))
        for batch in order.split(options.batch_size):
            model(states[batch]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def save_index(directory: str | Path, towers: Mapping[str, Tower]) -> None:
    """Write the towers as a folder that is there whole or not at all."""
    with atomic_path(directory) as folder:
        folder.mkdir()
        for name, tower in towers.items():
            tower.quantizer.save_pretrained(folder / name)
        save_file({name: np.ascontiguousarray(tower.catalog.codes) for name, tower in towers.items()}, folder / CODES)
        write_json(
            folder / RECORD,
            {
                "files": file_digests(folder),
                "catalogs": {name: tower.catalog.digest for name, tower in towers.items()},
                "moved": {name: tower.catalog.moved for name, tower in towers.items()},
            },
        )


def load_index(directory: str | Path, towers: Mapping[str, Tower]) -> dict[str, Tower]:
    """Read what `save_index` wrote.

    Args:
        directory: the folder.
        towers: of the same items and users.

    Raises:
        FileNotFoundError: where there is none.
        DamagedFileError: for a file that is not the one that was written, or an index of other items or users.
    """
    folder = Path(directory)
    record = read_object(folder / RECORD)
    check_fields(
        record, {"files": dict[str, str], "catalogs": dict[str, str], "moved": dict[str, int]}, source=folder / RECORD
    )
    check_file_digests(folder, record["files"])
    codes = read_tensors(folder / CODES)
    return {name: _loaded(folder, name, codes.get(name), record, tower) for name, tower in towers.items()}


def _loaded(folder: Path, name: str, codes: np.ndarray | None, record: dict[str, Any], tower: Tower) -> Tower:
    shape = tower.catalog.codes.shape
    if codes is None or codes.shape != shape:
        found = "none" if codes is None else f"those of shape {codes.shape}"
        raise DamagedFileError(
            f"{folder} must hold codes {shape} of {name}, found {found}; it is the index of another run"
        )
    quantizer: Any = load_quantizer(folder / name)
    catalog = replace(
        tower.catalog, codes=codes, quantizer_digest=assignment_digest(quantizer), moved=record["moved"][name]
    )
    if catalog.digest != record["catalogs"].get(name):
        raise DamagedFileError(
            f"{folder} is the index of {name} with digest {record['catalogs'].get(name)}, this run's have "
            f"{catalog.digest}; it is the index of another run"
        )
    return Tower(quantizer, catalog)
