"""Residual quantization: each level encodes the residual of the levels before it.

`r_0 = z`, `c_m = argmin_k |r_{m-1} - e_m^k|`, `r_m = r_{m-1} - e_m^{c_m}` (arXiv 2404.14774, section on RQ; also
arXiv 2203.01941). Initialisation and dead-code reset are not here: `forward` changes nothing, and training code
writes code vectors by `replace_codes` alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_cost import CostConfig
from .layers_cost import full_precision
from .sinkhorn_cost import balanced_codes


class QuantizedLatents(NamedTuple):
    """What the residual quantizer made of latents.

    Attributes:
        codes: `[B, L]` int64.
        residuals: input of each level, r_0 … r_{L-1}, `[B, L, D]`.
        vectors: the chosen code vectors, `[B, L, D]`, with gradient to the codebooks.
    """

    codes: Tensor
    residuals: Tensor
    vectors: Tensor

    @property
    def quantized(self) -> Tensor:
        """Sum of the chosen code vectors, `[B, D]`."""
        return self.vectors.sum(1)


class ResidualQuantizer(nn.Module):
    """Codebooks and the nearest-code search of every level.

    Args:
        config: sizes, sharing and the residual rule.
    """

    def __init__(self, config: CostConfig) -> None:
        super().__init__()
        self.level_sizes = tuple(config.level_sizes)
        self.residual_update = config.residual_update
        sizes = self.level_sizes[:1] if config.share_codebooks else self.level_sizes
        self.codebooks = nn.ParameterList(nn.Parameter(torch.empty(size, config.latent_dim)) for size in sizes)

    def codebook(self, level: int) -> nn.Parameter:
        """Return the code vectors of a level, `[K, D]`."""
        return self.codebooks[level if len(self.codebooks) > 1 else 0]

    def forward(self, latents: Tensor, *, sinkhorn_epsilon: float = 0.0) -> QuantizedLatents:
        """Quantize latents `[B, D]`; an epsilon above 0 balances the last level over the batch of all processes."""
        residual = latents
        codes = []
        residuals = []
        vectors = []
        for level in range(len(self.level_sizes)):
            distances = squared_distances(residual.detach(), self.codebook(level).detach())
            if sinkhorn_epsilon and level == len(self.level_sizes) - 1:
                code = balanced_codes(distances, epsilon=sinkhorn_epsilon, gathers_rows=True)  # [B]
            else:
                code = distances.argmin(-1)  # [B]
            vector = functional.embedding(code, self.codebook(level))  # [B, D]
            codes.append(code)
            residuals.append(residual)
            vectors.append(vector)
            residual = residual - self._subtrahend(residual, vector)
        return QuantizedLatents(torch.stack(codes, 1), torch.stack(residuals, 1), torch.stack(vectors, 1))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the sum of the code vectors of a prefix `[N, l]` with `0 <= l <= L`, `[N, D]`."""
        total = self.codebook(0).new_zeros(len(codes), self.codebook(0).shape[1])
        for level in range(codes.shape[1]):
            total = total + functional.embedding(codes[:, level], self.codebook(level))
        return total

    @torch.no_grad()
    def replace_codes(self, level: int, rows: Tensor, vectors: Tensor) -> None:
        """Overwrite the code vectors `rows` `[n]` of a level by `vectors` `[n, D]`, in place.

        Every process of a distributed run must call this with the same values.
        """
        codebook = self.codebook(level)
        codebook[rows.to(codebook.device)] = vectors.to(codebook)

    def _subtrahend(self, residual: Tensor, vector: Tensor) -> Tensor:
        if self.residual_update == "detached":
            return vector.detach()
        return residual + (vector - residual).detach()  # published code: later residuals carry no gradient


def squared_distances(residuals: Tensor, codebook: Tensor) -> Tensor:
    """Return squared Euclidean distances `[N, K]` between `[N, D]` and `[K, D]`, never negative."""
    with full_precision(residuals.device):
        distances = residuals @ codebook.T
    # in place: a table of this size takes longer to write than to compute
    distances.mul_(-2).add_(residuals.square().sum(-1, keepdim=True)).add_(codebook.square().sum(-1))
    return distances.clamp_min_(0)
