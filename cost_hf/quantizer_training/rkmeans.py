"""Residual k-means (RQ-KMeans) as a CostModel without hidden layers: no gradient, a few seconds.

On raw text vectors the levels behind the first degenerate (one giant centre and outliers), so the vectors are projected on
their principal components first; the projection is the model's one linear layer.
"""

import torch
from torch import Tensor

from cost_hf.quantizer.configuration_cost import CostConfig
from cost_hf.quantizer.modeling_cost import CostModel
from cost_hf.quantizer_training.kmeans import residual_kmeans
from cost_hf.quantizer_training.options import CodesOptions

ITERATIONS = 25


@torch.no_grad()
def fit_rkmeans(vectors: Tensor, options: CodesOptions, *, seed: int) -> CostModel:
    """Fit PCA and residual k-means to item vectors `[N, E]`; return the model in eval mode."""
    item_dim = vectors.shape[1]
    pca_dim = None if options.pca_dim is None else min(options.pca_dim, item_dim, len(vectors))
    config = CostConfig(
        item_dim=item_dim,
        hidden_sizes=None if pca_dim is None else [],
        latent_dim=item_dim if pca_dim is None else pca_dim,
        level_sizes=options.level_sizes,
        input_norm=options.input_norm,
        contrastive_weight=0.0,
        reconstruction_weight=1.0,
    )
    model = CostModel(config).eval()
    model.normalizer.set_statistics(vectors)
    inputs = model.normalizer(vectors)
    if pca_dim is not None:
        _set_projection(model, inputs, pca_dim)
    generator = torch.Generator().manual_seed(seed)
    centers = residual_kmeans(model.embed(vectors), options.level_sizes, generator=generator, iterations=ITERATIONS)
    for codebook, values in zip(model.quantizer.codebooks, centers, strict=True):
        codebook.copy_(values)
    return model


def _set_projection(model: CostModel, inputs: Tensor, dims: int) -> None:
    """Make the encoder the projection on the first principal components, the decoder its transpose."""
    mean = inputs.double().mean(0)
    centered = inputs.double() - mean
    components = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)[:, :dims]  # [E, D]
    largest = components.abs().argmax(0)
    components = components * components[largest, torch.arange(dims)].sign()  # the sign of an eigenvector is arbitrary
    encoder, decoder = model.encoder.layers[0], model.decoder.layers[0]
    encoder.weight.copy_(components.T)
    encoder.bias.copy_(-(mean @ components))
    decoder.weight.copy_(components)
    decoder.bias.copy_(mean)
