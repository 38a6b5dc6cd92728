"""The encoder of new items: a text encoder and a fitted quantizer, stored together beside a recommender."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedConfig

from cost_hf.data.encoders import FILE_NAME, WEIGHTS, ItemEncoder, TextItemEncoder
from cost_hf.data.errors import DataError
from cost_hf.files import DamagedFileError, check_fields, content_digest, write_json
from cost_hf.item_vectors.latents.options import LatentOptions
from cost_hf.quantizers.base import load_quantizer

TEXTS = "texts"  # below the weights: text encoder and quantizer
QUANTIZER = "quantizer"
BATCH = 8192  # items at a time


class LatentItemEncoder(ItemEncoder):
    """Turns item texts into latents `[n, D]`: texts to vectors, vectors through the encoder of the quantizer.

    Args:
        options: recipe section `vectors`.
        texts: the text encoder.
        model: the quantizer, with `embed`, in eval mode. What its configuration says of a text encoder is
            removed, since it is stored with one.
    """

    options: LatentOptions

    def __init__(self, options: LatentOptions, texts: TextItemEncoder, model: Any):
        # where the quantizer was means nothing elsewhere
        name = Path(options.quantizer).name if Path(options.quantizer).is_dir() else options.quantizer
        self.options = dataclasses.replace(options, quantizer=name)
        self.settings = None  # plain transformers has no model of both parts
        self.texts = texts
        self.model = model
        self.model.config.text_encoder = None
        self.digest = content_digest("latents", texts.digest, *_model_parts(model))

    @classmethod
    def read(cls, directory: Path, content: dict[str, Any]) -> LatentItemEncoder:
        """Read what `save` wrote; the text encoder itself is loaded with its first text.

        Raises:
            OSError: for files that can't be read.
            DamagedFileError: for a damaged file, another quantizer, or invalid options.
        """
        path = directory / FILE_NAME
        check_fields(content["options"], {"quantizer": str}, source=f"{path}, options")
        texts = ItemEncoder.load(directory / WEIGHTS / TEXTS)
        if not isinstance(texts, TextItemEncoder):
            raise DamagedFileError(
                f"{directory / WEIGHTS / TEXTS} is of vectors of kind {texts.options.kind!r:.80}, expected a text "
                "encoder; copy the directory again"
            )
        model: Any = load_quantizer(directory / WEIGHTS / QUANTIZER)
        if not hasattr(model, "embed"):
            raise DamagedFileError(
                f"{directory / WEIGHTS / QUANTIZER} is of type {model.config.model_type!r:.80}, which makes no "
                "latents; copy the directory again"
            )
        options = LatentOptions(**dataclasses.asdict(texts.options), quantizer=content["options"]["quantizer"])
        encoder = cls(options, texts, model)
        if encoder.digest != content["digest"]:
            raise DamagedFileError(
                f"the item encoder in {directory} has digest {encoder.digest}, its {FILE_NAME} names "
                f"{content['digest']}; copy the directory again"
            )
        return encoder

    def __repr__(self) -> str:
        """Name both parts."""
        return f"LatentItemEncoder({self.name!r}, {self.options.quantizer!r}, digest {self.digest[:12]})"

    def save(self, directory: str | Path, *, bundle_weights: bool = False) -> None:
        """Write `encoder.json` and, below `model/`, the quantizer and what `TextItemEncoder.save` writes.

        Raises:
            ValueError: as `TextItemEncoder.save`.
        """
        target = Path(directory)
        self.texts.save(target / WEIGHTS / TEXTS, bundle_weights=bundle_weights)
        self.model.save_pretrained(target / WEIGHTS / QUANTIZER)
        options = {"quantizer": self.options.quantizer}  # the others are those of the text encoder
        content = {"kind": self.options.kind, "options": options, "digest": self.digest, "settings": None}
        write_json(target / FILE_NAME, content)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one latent per text, float32 `[n, D]`; raises as `TextItemEncoder.encode`."""
        return self.latents(self.texts.encode(texts))

    def latents(self, vectors: np.ndarray) -> np.ndarray:
        """Return the latents of text vectors `[n, E]`, float32 `[n, D]`.

        Raises:
            DataError: for vectors of another width than the quantizer was fitted to.
        """
        width = self.model.config.item_dim
        if vectors.shape[1] != width:
            raise DataError(
                f"the quantizer {self.options.quantizer!r} was fitted to vectors of width {width}, those of "
                f"vectors.model {self.name!r} have {vectors.shape[1]}; set vectors.model to the text encoder that the "
                "quantizer was fitted with"
            )
        starts = range(0, len(vectors), BATCH)
        with torch.inference_mode():
            parts = [self.model.embed(torch.from_numpy(vectors[start : start + BATCH])) for start in starts]
        return np.ascontiguousarray(torch.cat(parts).float().cpu().numpy())

    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items by the template that the catalog was built with."""
        return self.texts.render(items)

    def text_columns(self, items: pd.DataFrame) -> list[str]:
        """Return the columns of a table that texts are made of, sorted."""
        return self.texts.text_columns(items)

    @property
    def named_columns(self) -> set[str] | None:
        """Columns that the template names; None without one."""
        return self.texts.named_columns

    @property
    def made_of(self) -> str:
        """What the text of an item is made of."""
        return self.texts.made_of

    @property
    def bundled(self) -> bool:
        """Whether the weights of a pretrained text encoder are stored too; those of the quantizer always are."""
        return self.texts.bundled

    @property
    def holds_item_values(self) -> bool:
        """Whether the text encoder is an lsa, which holds words of the texts."""
        return self.texts.holds_item_values

    @property
    def name(self) -> str:
        """`lsa`, or the id or directory of the text encoder."""
        return self.texts.name

    @property
    def missing_directory(self) -> Path | None:
        """The directory of a pretrained text encoder that does not exist any more."""
        return self.texts.missing_directory

    def require(self) -> None:
        """Load the text encoder and compare its digest."""
        self.texts.require()


def _model_parts(model: Any) -> list[Any]:
    """Return what decides the latents, for digests: type, fields of the configuration, and weights by their names."""
    common = {entry.name for entry in dataclasses.fields(PreTrainedConfig)}
    config = model.config
    # the fields that transformers has for any model change with its versions
    names = [entry.name for entry in dataclasses.fields(config) if entry.name not in common]
    fields = {name: getattr(config, name) for name in sorted(names)}
    weights = sorted(model.state_dict().items())
    return [
        config.model_type,
        fields,
        [name for name, _ in weights],
        *(tensor.detach().cpu().numpy() for _, tensor in weights),
    ]
