"""The text encoder of a run as one thing that is saved, published and loaded: it gives new items their vectors.

A fitted lsa is stored whole. A pretrained encoder is stored by name and commit, with the digest of its weights; the
weights themselves are copied where a local directory must travel with the recommender.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.encoders import LsaEncoder, SentenceEncoder, weight_files
from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import render_texts
from cost_hf.data.options import VectorOptions
from cost_hf.files import DamagedFileError, atomic_path, check_fields, read_object, write_json

FILE_NAME = "encoder.json"
WEIGHTS = "model"
OPTIONS = {
    "model": str,
    "revision": str | None,
    "template": str | None,
    "dim": int,
    "max_length": int | None,
    "batch_size": int,
    "normalize": bool,
    "prompt": str | None,
}


class ItemEncoder:
    """Item texts to vectors, in the way a catalog was made.

    Args:
        options: the vectors section of the recipe.
        digest: of the encoder; loading another one is refused.
        settings: what plain transformers needs to compute the same vectors (`SentenceEncoder.settings`),
            `{"model": "lsa"}`, or None where it can't.
        directory: where the files of the encoder lie, for an encoder that loads at its first text.
        encoder: the encoder itself, where it is in memory.
    """

    def __init__(
        self,
        options: VectorOptions,
        digest: str,
        settings: dict[str, Any] | None,
        *,
        directory: Path | None = None,
        encoder: LsaEncoder | SentenceEncoder | None = None,
    ):
        self.options, self.digest, self.settings, self.directory = options, digest, settings, directory
        self._encoder = encoder

    @classmethod
    def of(cls, encoder: LsaEncoder | SentenceEncoder, options: VectorOptions) -> "ItemEncoder":
        """Wrap an encoder that is in memory."""
        settings = {"model": "lsa"} if isinstance(encoder, LsaEncoder) else encoder.settings()
        return cls(options, encoder.digest, settings, encoder=encoder)

    @classmethod
    def load(cls, directory: str | Path) -> "ItemEncoder":
        """Read what `save` wrote; the encoder itself loads at its first text.

        Raises:
            OSError: where it can't be read.
            DamagedFileError: for a damaged file, or options that no encoder has.
        """
        path = Path(directory) / FILE_NAME
        content = read_object(path)
        check_fields(content, {"options": dict, "digest": str, "settings": dict | None}, source=path)
        check_fields(content["options"], OPTIONS, source=f"{path}, options")
        if set(content["options"]) != set(OPTIONS):
            raise DamagedFileError(f"{path} has the options {sorted(content['options'])}, expected {sorted(OPTIONS)}")
        try:
            options = VectorOptions(**content["options"])
        except DataError as error:
            raise DamagedFileError(f"{path}: {error}") from error
        return cls(options, content["digest"], content["settings"], directory=Path(directory))

    def __repr__(self) -> str:
        """Name the encoder."""
        return f"ItemEncoder({self.options.model!r}, digest {self.digest[:12]})"

    def save(self, directory: str | Path, *, bundle_weights: bool = False) -> None:
        """Write `encoder.json`, and the fitted lsa or, with `bundle_weights`, the weights of a local directory.

        Raises:
            ValueError: where that directory holds another encoder than the catalog was made with, or a link that leads
                out of it: what is not the encoder must not travel with it.
        """
        target, options, settings = Path(directory), self.options, self.settings
        if options.model == "lsa":
            encoder = self.encoder
            if isinstance(encoder, LsaEncoder):
                encoder.save(target)
        elif self._weights is not None and (bundle_weights or self.bundled):
            if not self.bundled:
                _ = self.encoder  # the directory is known by its name alone: loading compares its digest
            _copy_weights(self._weights, target / WEIGHTS)
            # a path of this machine means nothing elsewhere
            options = replace(options, model=Path(options.model).name)
            settings = settings and settings | {"model": options.model}
        write_json(target / FILE_NAME, {"options": asdict(options), "digest": self.digest, "settings": settings})

    @property
    def bundled(self) -> bool:
        """True where the weights of a pretrained encoder lie beside `encoder.json`."""
        return self.directory is not None and (self.directory / WEIGHTS).is_dir()

    @property
    def encoder(self) -> LsaEncoder | SentenceEncoder:
        """The encoder itself.

        Raises:
            DataError: where its model can't be loaded.
            ValueError: where it is another one than the catalog was made with.
        """
        if self._encoder is None:
            encoder = self._load()
            if encoder.digest != self.digest:
                raise ValueError(
                    f"text encoder {self.options.model!r} has digest {encoder.digest}, the catalog was made with "
                    f"{self.digest}; put the encoder of that time in its place, or pass vectors"
                )
            self._encoder = encoder
        return self._encoder

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector a text, float32 `[n, E]`."""
        if isinstance(texts, str):
            raise ValueError(f"expected a list of texts, got the string {texts!r:.80}; pass it in a list")
        return self.encoder.encode(list(texts))

    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items by the template that the catalog was made with."""
        return render_texts(items, self.options.template)

    def _load(self) -> LsaEncoder | SentenceEncoder:
        if self.options.model == "lsa" and self.directory is not None:
            return LsaEncoder.load(self.directory)
        if self._weights is not None:
            return sentence_encoder(replace(self.options, model=str(self._weights)))
        return sentence_encoder(replace(self.options, revision=(self.settings or {}).get("revision")))

    @property
    def _weights(self) -> Path | None:
        """The directory of a pretrained encoder's weights; None for a Hub id."""
        if self.directory is not None and self.bundled:
            return self.directory / WEIGHTS
        return Path(self.options.model) if Path(self.options.model).is_dir() else None


def sentence_encoder(options: VectorOptions) -> SentenceEncoder:
    """Load the text encoder that the options name."""
    return SentenceEncoder(
        options.model,
        revision=options.revision,
        max_length=options.max_length,
        batch_size=options.batch_size,
        normalize=options.normalize,
        prompt=options.prompt,
    )


def _copy_weights(source: Path, target: Path) -> None:
    """Copy the files that the digest counts; no pickled weights, no other languages' formats."""
    with atomic_path(target) as temporary:
        for path in weight_files(source):
            copy = temporary / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
