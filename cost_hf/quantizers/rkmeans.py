"""Residual k-means as a `CostModel`: no training, the same interface.

Level m is k-means over what the levels before it left over (OneRec, arXiv 2502.18965, without its balance). On raw
sentence vectors the second level degenerates (one giant center and outliers: every code used, perplexity 12 to 24 of
64); a PCA to 32 or 64 dimensions in front prevents that and is here the encoder's one linear layer, the decoder its
transpose.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import CodesOptions, check_fitted_items, check_minimum
from cost_hf.quantizers.residual import ResidualOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cost_hf.quantizers.cost import CostConfig, CostModel
    from cost_hf.quantizers.fit import CodesResult, FitInputs

logger = logging.getLogger(__name__)


@CodesOptions.register("rkmeans")
@dataclass
class RkmeansOptions(ResidualOptions):
    """Residual k-means: no gradient steps."""

    pca_dim: int | None = field(default=32, metadata={"help": "dimensions after a PCA; null keeps all"})

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return the layers of a PCA, or none, and the quantization error as the only loss term."""
        hidden: list[int] | None = None
        latent = item_dim
        if self.pca_dim is not None:
            hidden = []
            latent = min(self.pca_dim, item_dim)
            if latent < self.pca_dim:
                logger.warning("codes.pca_dim=%d is lowered to the %d dimensions of the vectors", self.pca_dim, latent)
        return {
            "hidden_sizes": hidden,
            "latent_dim": latent,
            "contrastive_weight": 0.0,
            "reconstruction_weight": 0.0,
            "codebook_weight": 1.0,
            "commitment_weight": 0.0,
        }

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Fit PCA and codebooks."""
        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.semantic_ids.codebook_utilization import codebook_utilization

        vectors = inputs.for_fitting(inputs.vectors)
        model = fit_rkmeans(vectors, self.config(vectors.shape[1]), seed=seed)
        history = [codebook_utilization(model.encode(vectors).cpu().numpy(), model.level_sizes)]
        self.check_collapse(history, num_items=len(vectors))
        return CodesResult.of_model(model, inputs, history)

    def collapse_advice(self) -> list[str]:
        """Return what to change after a collapse."""
        more = ["lower codes.pca_dim", "look for items with the same text", "lower codes.level_sizes"]
        return [*super().collapse_advice(), *more]

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a level with more codes than there are items."""
        super().check_items(items)
        check_fitted_items(self.level_sizes, items.num_fitted)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        check_minimum("pca_dim", self.pca_dim, 1)


def fit_rkmeans(vectors: Tensor, config: CostConfig, *, seed: int) -> CostModel:
    """Return a model whose codes are residual k-means of item vectors `[N, E]`.

    Args:
        vectors: item vectors.
        config: `hidden_sizes=()` puts a PCA to `latent_dim` in front, None quantizes the vectors as they are.
        seed: of k-means++.

    Raises:
        ValueError: with fewer items than codes of a level, or hidden layers, which need training.
    """
    import torch

    from cost_hf.quantizers.cost import CostModel
    from cost_hf.quantizers.training.callbacks import latents_of, set_codebooks

    if config.hidden_sizes:
        raise ValueError(
            f"residual k-means has no hidden layers, got hidden_sizes={config.hidden_sizes!r}; use () or None"
        )
    model = CostModel(config).eval()
    with torch.no_grad():
        model.fit_statistics(vectors)
        if config.hidden_sizes is not None:
            _set_pca(model, vectors)
        set_codebooks(model, latents_of(model, vectors), seed=seed)
    return model


def _set_pca(model: CostModel, vectors: Tensor) -> None:
    """Make the encoder a projection to the leading principal components and the decoder its inverse."""
    import torch

    items = model.input_norm(vectors).to(torch.float64)
    mean = items.mean(0)
    centered = items - mean
    _, directions = torch.linalg.eigh(centered.T @ centered)  # ascending
    leading = directions[:, -model.config.latent_dim :].flip(1).T  # [D, E]
    strongest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
    leading = leading * strongest.sign()  # an eigenvector's sign is arbitrary
    _set_linear(model.encoder.layers[0], leading, -leading @ mean)
    _set_linear(model.decoder.layers[0], leading.T, mean)


def _set_linear(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    for parameter, value in zip(layer.parameters(), (weight, bias), strict=True):
        parameter.copy_(value)
