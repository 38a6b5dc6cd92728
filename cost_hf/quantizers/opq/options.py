"""Recipe section `codes` of kind `opq`; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import CodesOptions, check_choice, check_fitted_items
from cost_hf.semantic_ids.options import whole_number

if TYPE_CHECKING:
    from cost_hf.quantizers.fit import CodesResult, FitInputs
    from cost_hf.quantizers.opq.configuration_opq import OpqConfig
    from cost_hf.quantizers.opq.modeling_opq import OpqModel

INPUT_NORMS = ("none", "l2")  # those of `configuration_opq`, whose import takes seconds
MAX_ITERATIONS = 10_000


@CodesOptions.register("opq")
@dataclass
class OpqOptions(CodesOptions):
    """Optimized product quantization: a rotation, then k-means on each part of the vector; no gradient steps."""

    has_parallel_levels: ClassVar[bool] = True
    auto_models: ClassVar[str | None] = "cost_hf.quantizers.opq.auto_opq"

    iterations: int = field(
        default=20,
        metadata={"help": "alternations of codes and rotation; 0 keeps the rotation of the balanced PCA"},
    )
    input_norm: str = field(default="l2", metadata={"help": "none or l2"})

    def config(self, item_dim: int) -> OpqConfig:
        """Return the configuration of the model for item vectors `[N, item_dim]`.

        Raises:
            ValueError: with more levels than the vectors have dimensions.
        """
        from cost_hf.quantizers.opq.configuration_opq import OpqConfig

        self._check_width(item_dim)
        return OpqConfig(item_dim=item_dim, level_sizes=self.level_sizes, input_norm=self.input_norm)

    def build_model(self, item_dim: int) -> OpqModel:
        """Return a model with random weights."""
        from cost_hf.quantizers.opq.modeling_opq import OpqModel

        return OpqModel(self.config(item_dim))

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Fit rotation and centroids to the items that fitting may see."""
        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.opq.fitting import fit_opq

        vectors = inputs.for_fitting(inputs.vectors)
        model = fit_opq(vectors, self.config(vectors.shape[1]), iterations=self.iterations, seed=seed)
        return CodesResult.of_model(model, inputs)

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for more codes than there are items, or more levels than vectors can have dimensions."""
        super().check_items(items)
        check_fitted_items(self.level_sizes, items.num_fitted)
        if items.most_width is not None:
            self._check_width(items.most_width)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        whole_number(self.iterations, "codes.iterations", least=0, most=MAX_ITERATIONS)
        check_choice("input_norm", self.input_norm, INPUT_NORMS)

    def _check_width(self, item_dim: int) -> None:
        if item_dim < len(self.level_sizes):
            raise ValueError(
                f"codes of kind opq need a dimension or more for each level, got {len(self.level_sizes)} levels for "
                f"vectors of width {item_dim}; shorten codes.level_sizes"
            )
