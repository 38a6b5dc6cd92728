"""Recipe section `vectors` of kind `latents`; imports neither pandas nor torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.data.errors import DataError
from cost_hf.data.options import ItemVectorOptions, VectorOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.encoders import ItemEncoder
    from cost_hf.data.prepare import PreparedData


@ItemVectorOptions.register("latents")
@dataclass
class LatentOptions(VectorOptions):
    """Item vectors that are the latents of a fitted quantizer: what its encoder makes of text vectors.

    The other fields are those of the text vectors that the quantizer was fitted to.

    Examples:
        >>> LatentOptions(model="org/text-encoder", quantizer="runs/cost").validate()
        >>> LatentOptions().validate()
        Traceback (most recent call last):
        cost_hf.data.errors.DataError: vectors.kind latents needs a fitted quantizer, got vectors.quantizer ''; give ...
    """

    is_text: ClassVar[bool] = False

    quantizer: str = field(
        default="", metadata={"help": "directory of a run or of a quantizer, or Hub id: the encoder of the latents"}
    )

    def __post_init__(self) -> None:
        """Check the numbers; a quantizer may be set later."""
        super().validate()

    def validate(self) -> None:
        """Raise `DataError` for values that no run can have."""
        super().validate()
        if not self.quantizer:
            raise DataError(
                f"vectors.kind latents needs a fitted quantizer, got vectors.quantizer {self.quantizer!r}; give the "
                "directory of a run, such as runs/cost, or that of a quantizer, or its Hub id"
            )

    def text_options(self) -> VectorOptions:
        """Return the section `vectors` of the text vectors that the quantizer encodes."""
        names = [entry.name for entry in dataclasses.fields(VectorOptions)]
        return VectorOptions(**{name: getattr(self, name) for name in names})

    @property
    def input_parts(self) -> list[Any]:
        """What the names of the text encoder and the quantizer stand for."""
        from cost_hf.item_vectors.latents.source import QuantizerSource

        return [*super().input_parts, QuantizerSource.of(self.quantizer).identity]

    def most_width(self, num_items: int) -> int | None:
        """Return None: the quantizer tells the width of its latents."""
        return None

    def content(self) -> dict[str, Any]:
        """Return the kind and the fields that vectors depend on; where the quantizer lies is none of them."""
        return {"kind": self.kind} | dataclasses.asdict(self.text_options())

    def fit(self, data: PreparedData, *, output_dir: Path, fit_rows: np.ndarray | None) -> None:
        """Encode the item texts, and their vectors by the quantizer; nothing is fitted."""
        from cost_hf.item_vectors.latents.fitting import write_latents

        write_latents(data, self, output_dir=output_dir, fit_rows=fit_rows)

    @classmethod
    def read_encoder(cls, directory: Path, content: dict[str, Any]) -> ItemEncoder:
        """Return text encoder and quantizer; the first is loaded with its first text."""
        from cost_hf.item_vectors.latents.encoder import LatentItemEncoder

        return LatentItemEncoder.read(directory, content)

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a directory of an encoder or a quantizer that is not there."""
        super().check_paths()
        name = self.quantizer
        if (Path(name).is_absolute() or name.startswith((".", "~"))) and not Path(name).is_dir():
            raise FileNotFoundError(f"vectors.quantizer {name!r} is no directory; check the path, or give a Hub id")
