"""A toy catalog, and a quantizer of its lsa vectors as a recommender's directory has it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cost_hf import CostConfig, CostModel
from cost_hf.data import ItemEncoder, LsaEncoder
from cost_hf.data.item_texts import render_texts
from cost_hf.data.options import DataOptions, VectorOptions
from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.item_vectors.latents import LatentOptions

DATA = {"synthetic_users": 40, "synthetic_items": 60}
DIM = 12  # of the lsa
LATENT = 6


def toy_data(**values: Any) -> PreparedData:
    return prepare_data(DataOptions(reader="synthetic", **{**DATA, **values}))


def text_options() -> VectorOptions:
    return VectorOptions(dim=DIM, template="{title}")


def latent_options(quantizer: Path | str, **values: Any) -> LatentOptions:
    return LatentOptions(quantizer=str(quantizer), **{"dim": DIM, "template": "{title}", **values})


def toy_quantizer(*, seed: int = 0, item_dim: int = DIM) -> CostModel:
    torch.manual_seed(seed)
    config = CostConfig(item_dim=item_dim, hidden_sizes=(8,), latent_dim=LATENT, level_sizes=(4, 4))
    return CostModel(config).eval()


def write_home(folder: Path, *, seed: int = 0) -> Path:
    """Write `quantizer/` and the encoder of its item vectors."""
    texts = render_texts(toy_data().tables.items, "{title}")
    lsa = LsaEncoder.fit(texts, dim=DIM)
    ItemEncoder.of(lsa, text_options()).save(folder / "encoder")
    model = toy_quantizer(seed=seed)
    model.config.text_encoder = {"model": "lsa"}
    model.save_pretrained(folder / "quantizer")
    return folder


class LetterEncoder:
    """A text encoder in place of a pretrained one: counts of letters, projected."""

    name = "org/letters"

    def __init__(self, revision: str = "one", width: int = DIM):
        self.revision = revision
        self.digest = f"letters {revision}"
        self.table = np.random.default_rng(0).normal(size=(26, width)).astype(np.float32)

    def settings(self) -> dict[str, Any]:
        common = {"pooling": "mean", "normalize": True, "max_length": None, "prompt": None}
        return {"model": self.name, "revision": self.revision, **common}

    def encode(self, texts: list[str]) -> np.ndarray:
        counts = [[text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts]
        return np.asarray(counts, dtype=np.float32) @ self.table
