"""Residual k-means as a `CostModel`: no training, the same interface.

On raw sentence vectors the second level degenerates (one giant center and outliers: every code used, perplexity 12 to
24 of 64); a PCA to 32 or 64 dimensions in front cures it and is here the encoder's one linear layer, the decoder its
transpose.
"""

import logging

import torch
from torch import Tensor, nn

from cost_hf.quantizers.callbacks import latents_of, set_codebooks
from cost_hf.quantizers.cost import CostConfig, CostModel

logger = logging.getLogger(__name__)


@torch.no_grad()
def fit_rkmeans(vectors: Tensor, config: CostConfig, *, seed: int) -> CostModel:
    """Return a model whose codes are residual k-means of item vectors `[N, E]`.

    Args:
        vectors: item vectors.
        config: `hidden_sizes=()` puts a PCA to `latent_dim` in front, None quantizes the vectors as they are.
        seed: of k-means++.

    Raises:
        ValueError: with fewer items than codes of a level, or hidden layers, which need training.
    """
    if config.hidden_sizes:
        raise ValueError(
            f"residual k-means has no hidden layers, got hidden_sizes={config.hidden_sizes!r}; use () or None"
        )
    model = CostModel(config).eval()
    model.fit_statistics(vectors)
    if config.hidden_sizes is not None:
        _set_pca(model, vectors)
    set_codebooks(model, latents_of(model, vectors), seed=seed)
    return model


def _set_pca(model: CostModel, vectors: Tensor) -> None:
    """Make the encoder a projection to the leading principal components and the decoder its inverse."""
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
