"""`OpqModel`: a rotation, then the nearest centroid of every part of the vector, as a Transformers model.

The rotated vector (x - mean) R is cut into as many parts as there are levels, and the code of a level is the nearest
centroid of its part (Ge et al., "Optimized product quantization for approximate nearest neighbor search", CVPR 2013,
section 2). `forward` is pure; `replace_weights` is the one change of state.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import initialization as init

from cost_hf.quantizers.cost.layers_cost import InputNorm, constant_weight
from cost_hf.quantizers.cost.modeling_base_cost import QuantizerPreTrainedModel
from cost_hf.quantizers.cost.residual_cost import squared_distances

from .configuration_opq import OpqConfig


class RotatedParts(nn.Module):
    """Rotation and centroids, fp32; no gradient step changes them.

    Weights:
        mean: of the normalised item vectors, `[E]`.
        rotation: orthogonal, `[E, E]`; applied from the right.
        centroids: of each level, `[K, D]` with the width D of its part.
    """

    def __init__(self, config: OpqConfig) -> None:
        super().__init__()
        self.widths = config.part_widths
        self.mean = constant_weight(config.item_dim)
        self.rotation = constant_weight(config.item_dim, config.item_dim)
        sizes = zip(config.level_sizes, config.part_widths, strict=True)
        self.centroids = nn.ParameterList(constant_weight(size, width) for size, width in sizes)

    def forward(self, items: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of rotated vectors, `[B, D]` for each level, of normalised item vectors `[B, E]`."""
        return ((items - self.mean) @ self.rotation).split(self.widths, dim=1)


class OpqPreTrainedModel(QuantizerPreTrainedModel):
    """Weight initialisation and loading rules."""

    config: OpqConfig
    base_model_prefix = "opq"
    # argmin over distances is decided by small differences: codes must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("parts",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RotatedParts):
            init.zeros_(module.mean)
            init.eye_(module.rotation)
            for centroids in module.centroids:
                init.normal_(centroids, std=self.config.item_dim**-0.5)


class OpqModel(OpqPreTrainedModel):
    """Product quantizer with a learned rotation for semantic IDs (OPQ).

    Levels do not depend on each other: any order of them, and decoding them in parallel, says the same of an item.

    Args:
        config: sizes.

    Examples:
        >>> import torch
        >>> from cost_hf.quantizers.opq.configuration_opq import OpqConfig
        >>> model = OpqModel(OpqConfig(item_dim=16, level_sizes=(4, 5, 6)))
        >>> codes = model.encode(torch.randn(10, 16))
        >>> codes.shape, model.decode(codes).shape
        (torch.Size([10, 3]), torch.Size([10, 16]))
    """

    has_parallel_levels = True
    computes_level_vectors = True  # by a product whose last bits depend on the machine: digests take the weights

    def __init__(self, config: OpqConfig) -> None:
        super().__init__(config)
        self.input_norm = InputNorm(config.input_norm, config.item_dim)
        self.parts = RotatedParts(config)
        self.post_init()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return what whole codes `[N, L]` stand for in the space of the normalised item vectors, `[N, E]`."""
        self._check_codes(codes, least=len(self.level_sizes))
        found = [self._decoded(part) for part in self._batches(codes)]
        return torch.cat(found).to(codes.device) if found else torch.empty(0, self.config.item_dim)

    @torch.no_grad()
    def level_vectors(self, level: int) -> Tensor:
        """Return the centroids of a level, rotated back into the space of the item vectors, `[K, E]`.

        There all levels have one width, and the vectors of an item's codes add up to the item without the mean.
        """
        self._check_level(level)
        columns = self.parts.rotation.split(self.parts.widths, dim=1)[level]  # [E, D]
        return self.parts.centroids[level] @ columns.T

    @torch.no_grad()
    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return squared distances of a level's part of item vectors to its centroids; earlier codes do not matter.

        Args:
            item_embeddings: item vectors, `[N, E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < L`.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        self._check_prefix(prefix, len(item_embeddings))
        level = prefix.shape[1]
        return squared_distances(self.parts(self._normalised(item_embeddings))[level], self.parts.centroids[level])

    @torch.no_grad()
    def replace_weights(self, mean: Tensor, rotation: Tensor, centroids: Sequence[Tensor]) -> None:
        """Overwrite mean `[E]`, rotation `[E, E]` and the centroids `[K, D]` of all levels, in place."""
        given = [mean, rotation, *centroids]
        expected = [tuple(weight.shape) for weight in self.parts.parameters()]
        if [tuple(weight.shape) for weight in given] != expected:
            raise ValueError(
                f"expected weights of the shapes {expected!r}, got {[tuple(weight.shape) for weight in given]!r}; pass "
                "those of the configuration"
            )
        for weight, value in zip(self.parts.parameters(), given, strict=True):
            weight.copy_(value)

    def _codes(self, items: Tensor) -> Tensor:
        pairs = zip(self.parts(self.input_norm(items)), self.parts.centroids, strict=True)
        return torch.stack([squared_distances(part, centroids).argmin(1) for part, centroids in pairs], 1)

    def _decoded(self, codes: Tensor) -> Tensor:
        pairs = zip(self.parts.centroids, codes.unbind(1), strict=True)
        rotated = torch.cat([centroids[column] for centroids, column in pairs], 1)
        return rotated @ self.parts.rotation.T + self.parts.mean
