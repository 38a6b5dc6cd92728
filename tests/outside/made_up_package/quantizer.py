"""A quantizer: signs of random projections, one bit a level."""

from dataclasses import dataclass, field
from pathlib import Path

from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult, FitInputs


@CodesOptions.register("made_up_hash")
@dataclass
class HashOptions(CodesOptions):
    """Section `codes` of this kind."""

    scale: float = field(default=1.0, metadata={"help": "of the planes"})

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Draw the planes and encode the items."""
        from made_up_package.hash_model import draw_planes

        model = draw_planes(inputs.vectors.shape[1], bits=len(self.level_sizes), scale=self.scale, seed=seed)
        return CodesResult.of_model(model, inputs)
