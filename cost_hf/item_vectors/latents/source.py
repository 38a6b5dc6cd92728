"""Where the quantizer of latents comes from: a run, a recommender, the quantizer's own directory, or the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cost_hf.data.encoders import FILE_NAME, ItemEncoder, model_identity
from cost_hf.data.errors import DataError
from cost_hf.files import check_fields, file_digest, read_object
from cost_hf.quantizers.base import Quantizer, load_quantizer
from cost_hf.stages import is_run, require_finished

QUANTIZER = "quantizer"  # below a run and a recommender
ENCODERS = (Path("vectors") / "encoder", Path("encoder"))  # of a run and of a recommender
RESULTS = Path("evaluation") / "results.json"


@dataclass(frozen=True)
class QuantizerSource:
    """A quantizer by its place.

    Attributes:
        name: as the recipe names it.
        place: the quantizer's own directory, or its Hub id.
        home: the run or the recommender that it is a part of; None where it stands alone.
    """

    name: str
    place: str
    home: Path | None

    @classmethod
    def of(cls, name: str) -> QuantizerSource:
        """Find the quantizer that `vectors.quantizer` names; nothing is read yet."""
        path = Path(name)
        if (path / QUANTIZER).is_dir():
            return cls(name, str(path / QUANTIZER), path)
        is_part = path.name == QUANTIZER and any((path.parent / folder).is_dir() for folder in ENCODERS)
        return cls(name, name, path.parent if is_part else None)

    @property
    def identity(self) -> list[str]:
        """Digests of the files, or Hub id and commit; and the digest of the encoder's file beside them."""
        beside = [] if self._encoder_folder is None else [file_digest(self._encoder_folder / FILE_NAME)]
        return [*model_identity(self.place), *beside]

    def load(self) -> Quantizer:
        """Load the quantizer, in eval mode on the CPU.

        Raises:
            DataError: where there is none, or one without an encoder.
            DamagedFileError: for damaged files.
            UnfinishedRunError: for a run that did not end: quantizer and vectors could be of different settings.
        """
        if self.home is not None and is_run(self.home):
            require_finished(self.home)
        if Path(self.place).is_dir() and not (Path(self.place) / "config.json").is_file():
            raise DataError(
                f"vectors.quantizer {self.name!r} holds no quantizer ({Path(self.place) / 'config.json'} is missing): "
                "codes of some kinds, such as random, have none; give a run with a learned quantizer"
            )
        try:
            model = load_quantizer(self.place)
        except OSError as error:
            raise DataError(
                f"cannot load the quantizer {self.name!r} ({type(error).__name__}: {error}); expected "
                "vectors.quantizer as the directory of a run, that of a quantizer, or a Hub id; check the name and the "
                "network"
            ) from error
        if not hasattr(model, "embed"):
            raise DataError(
                f"the quantizer {self.name!r} is of type {model.config.model_type!r:.80}, which makes no latents (it "
                "has no method embed); give one with an encoder, such as that of codes.kind cost or rqvae"
            )
        return model

    @cached_property
    def encoder(self) -> ItemEncoder | None:
        """What made the vectors that the quantizer was fitted to; None where it stands alone.

        Raises:
            OSError: for files that can't be read.
            DamagedFileError: for damaged files.
        """
        return None if self._encoder_folder is None else ItemEncoder.load(self._encoder_folder)

    @property
    def split_digest(self) -> str | None:
        """Digest of the split of the run that fitted the quantizer; None where it is not known."""
        path = None if self.home is None else self.home / RESULTS
        if path is None or not path.is_file():
            return None
        results = read_object(path)
        check_fields(results, {"split_digest": str}, source=path)
        digest: str = results["split_digest"]
        return digest

    @property
    def _encoder_folder(self) -> Path | None:
        folders = [] if self.home is None else [self.home / folder for folder in ENCODERS]
        return next((folder for folder in folders if (folder / FILE_NAME).is_file()), None)
