"""`SimhashModel`: codes are the signs of random projections, as a Transformers model without gradient steps.

Two unit vectors differ in the sign of a random projection with a probability of their angle over pi (Charikar, STOC
2002), so similar items share bits. Bits are cut into levels in their order, the first of a level being its highest.
`forward` is pure; `replace_hyperplanes` and `fit_statistics` are the changes of state.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from cost_hf.quantizers.cost.layers_cost import constant_weight
from cost_hf.quantizers.cost.modeling_base_cost import QuantizerPreTrainedModel

from .configuration_simhash import SimhashConfig


class Hyperplanes(nn.Module):
    """Random hyperplanes through the mean of the items, fp32.

    Weights, which no gradient step changes:
        normals: unit vectors, one for each bit, `[bits, E]`.
        mean: of the items' unit vectors, `[E]`.
    """

    def __init__(self, config: SimhashConfig) -> None:
        super().__init__()
        self.normals = constant_weight(config.num_bits, config.item_dim)
        self.mean = constant_weight(config.item_dim)

    def forward(self, items: Tensor) -> Tensor:
        """Return the signed distances of item vectors `[B, E]` to the hyperplanes, fp32 `[B, bits]`."""
        return (functional.normalize(items.float(), dim=-1) - self.mean) @ self.normals.T


class SimhashPreTrainedModel(QuantizerPreTrainedModel):
    """Weight initialisation and loading rules."""

    config: SimhashConfig
    base_model_prefix = "simhash"
    # a sign is decided by small differences: codes must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("hyperplanes",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Hyperplanes):
            init.normal_(module.normals, std=self.config.item_dim**-0.5)
            init.zeros_(module.mean)


class SimhashModel(SimhashPreTrainedModel):
    """Random-hyperplane quantizer for semantic IDs (SimHash); a control without training.

    Args:
        config: sizes.

    Examples:
        >>> import torch
        >>> from cost_hf.quantizers.simhash.configuration_simhash import SimhashConfig
        >>> model = SimhashModel(SimhashConfig(item_dim=16, level_sizes=(4, 4, 8)))
        >>> model.encode(torch.randn(10, 16)).shape
        torch.Size([10, 3])
    """

    has_parallel_levels = True

    def __init__(self, config: SimhashConfig) -> None:
        super().__init__(config)
        self.hyperplanes = Hyperplanes(config)
        self.post_init()

    def level_vectors(self, level: int) -> Tensor | None:
        """Return None: a code is a cell between hyperplanes and has no vector."""
        self._check_level(level)
        return None

    @torch.no_grad()
    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return what it takes to move item vectors to the codes of a level.

        That is the sum, over the bits in which a code differs from the item's own, of the distances to their
        hyperplanes: 0 for its own code, and little for a code beyond a hyperplane that is near. Codes before the level
        do not matter.

        Args:
            item_embeddings: item vectors, `[N, E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < L`.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        self._check_prefix(prefix, len(item_embeddings))
        level = prefix.shape[1]
        margins = self.hyperplanes(self._checked(item_embeddings)).split(self.config.level_bits, dim=1)[level]
        distances = margins.new_zeros(len(margins), self.level_sizes[level])
        numbers = torch.arange(self.level_sizes[level], device=margins.device)
        # bit by bit, so that the own code has exactly 0 and no sum of rounded terms
        for place, margin in enumerate(margins.flip(1).unbind(1)):
            is_above = (numbers >> place) % 2 == 1
            distances += torch.where(is_above, functional.relu(-margin)[:, None], functional.relu(margin)[:, None])
        return distances

    @torch.no_grad()
    def replace_hyperplanes(self, normals: Tensor) -> None:
        """Set the normals of the hyperplanes to the directions of `[bits, E]`, in place."""
        expected = tuple(self.hyperplanes.normals.shape)
        if tuple(normals.shape) != expected:
            raise ValueError(f"expected a normal per bit, {expected!r}, got shape {tuple(normals.shape)!r}")
        self.hyperplanes.normals.copy_(functional.normalize(normals, dim=-1))

    @torch.no_grad()
    def fit_statistics(self, item_embeddings: Tensor) -> None:
        """Set the mean to that of the unit vectors of items `[N, E]`, in place."""
        items = functional.normalize(self._checked(item_embeddings).double(), dim=-1)
        self.hyperplanes.mean.copy_(items.mean(0))

    def _codes(self, items: Tensor) -> Tensor:
        """Return the bits of each level as a number, int64 `[B, L]`."""
        bits = (self.hyperplanes(items) > 0).long().split(self.config.level_bits, dim=1)
        return torch.stack([(part << _places(part)).sum(1) for part in bits], 1)


def _places(bits: Tensor) -> Tensor:
    """Return the places of the bits `[B, b]` of a level, highest first, `[b]`."""
    return torch.arange(bits.shape[1] - 1, -1, -1, device=bits.device)
