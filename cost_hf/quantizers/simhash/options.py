"""Recipe section `codes` of kind `simhash`; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cost_hf.quantizers.base import CodesOptions

if TYPE_CHECKING:
    from torch import Tensor

    from cost_hf.quantizers.fit import CodesResult, FitInputs
    from cost_hf.quantizers.simhash.configuration_simhash import SimhashConfig
    from cost_hf.quantizers.simhash.modeling_simhash import SimhashModel


@CodesOptions.register("simhash")
@dataclass
class SimhashOptions(CodesOptions):
    """SimHash: signs of random projections, cut into levels; no training."""

    is_control: ClassVar[bool] = True
    has_parallel_levels: ClassVar[bool] = True
    auto_models: ClassVar[str | None] = "cost_hf.quantizers.simhash.auto_simhash"

    def config(self, item_dim: int) -> SimhashConfig:
        """Return the configuration of the model for item vectors `[N, item_dim]`."""
        from cost_hf.quantizers.simhash.configuration_simhash import SimhashConfig

        return SimhashConfig(item_dim=item_dim, level_sizes=self.level_sizes)

    def build_model(self, item_dim: int) -> SimhashModel:
        """Return a model with random hyperplanes and a mean of 0."""
        from cost_hf.quantizers.simhash.modeling_simhash import SimhashModel

        return SimhashModel(self.config(item_dim))

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Draw the hyperplanes and set the mean of the items that fitting may see."""
        from cost_hf.quantizers.fit import CodesResult

        model = fit_simhash(inputs.for_fitting(inputs.vectors), self.config(inputs.vectors.shape[1]), seed=seed)
        return CodesResult.of_model(model, inputs)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        for level, size in enumerate(self.level_sizes, start=1):
            if size & (size - 1):
                above = 1 << size.bit_length()
                raise ValueError(
                    f"codes of kind simhash are bits, so every level needs a power of two of codes, got {size} on "
                    f"level {level} of codes.level_sizes={self.level_sizes!r}; take {above // 2} or {above} there"
                )


def fit_simhash(vectors: Tensor, config: SimhashConfig, *, seed: int) -> SimhashModel:
    """Return a model with hyperplanes of a seed and the mean of item vectors `[N, E]`."""
    import torch

    from cost_hf.quantizers.simhash.modeling_simhash import SimhashModel
    from cost_hf.quantizers.training.kmeans import seeded_generator

    model = SimhashModel(config).eval()
    generator = seeded_generator("simhash", seed)
    model.replace_hyperplanes(torch.randn(config.num_bits, config.item_dim, generator=generator))
    model.fit_statistics(vectors)
    return model
