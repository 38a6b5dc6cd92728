"""`OpqModel`: a rotation, then the nearest centroid of every part of the vector, as a Transformers model.

The rotated vector (x - mean) R is cut into as many parts as there are levels, and the code of a level is the nearest
centroid of its part (Ge et al., "Optimized product quantization for approximate nearest neighbor search", CVPR 2013,
section 2). `forward` is pure; `replace_weights` is the one change of state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_opq import OpqConfig

ITEMS_PER_BATCH = 8192  # of encode and decode: bounds memory, and is fixed so that sums do not depend on the caller


@dataclass
class OpqOutput(ModelOutput):
    """Output of `OpqModel`.

    Attributes:
        codes: `[B, L]` int64.
    """

    codes: Tensor | None = None


class RotatedParts(nn.Module):
    """Rotation and centroids, fp32; no gradient step changes them.

    Weights:
        mean: of the normalised item vectors, `[E]`.
        rotation: orthogonal, `[E, E]`; applied from the right.
        centroids: of each level, `[K, D]` with the width D of its part.
    """

    def __init__(self, config: OpqConfig) -> None:
        super().__init__()
        self.norm = config.input_norm
        self.widths = config.part_widths
        self.mean = _constant(config.item_dim)
        self.rotation = _constant(config.item_dim, config.item_dim)
        sizes = zip(config.level_sizes, config.part_widths, strict=True)
        self.centroids = nn.ParameterList(_constant(size, width) for size, width in sizes)

    def centered(self, items: Tensor) -> Tensor:
        """Return normalised vectors without their mean, fp32 `[B, E]`."""
        items = items.float()
        return (functional.normalize(items, dim=-1) if self.norm == "l2" else items) - self.mean

    def forward(self, items: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of the rotated vectors, `[B, D]` for each level."""
        return (self.centered(items) @ self.rotation).split(self.widths, dim=1)


class OpqPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading rules."""

    config: OpqConfig
    base_model_prefix = "opq"
    main_input_name = "item_embeddings"
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

    computes_level_vectors = True  # by a product whose last bits depend on the machine: digests take the weights

    def __init__(self, config: OpqConfig) -> None:
        super().__init__(config)
        self.parts = RotatedParts(config)
        self.post_init()

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes per level, L numbers."""
        return tuple(self.config.level_sizes)

    def forward(self, item_embeddings: Tensor) -> OpqOutput:
        """Return the codes of item vectors `[B, E]`."""
        return OpqOutput(codes=self.encode(item_embeddings))

    @torch.no_grad()
    def encode(self, item_embeddings: Tensor) -> Tensor:
        """Return the codes of item vectors `[N, E]`, int64 `[N, L]`, on their device.

        Raises:
            ValueError: for vectors of another width.
        """
        found = [self._codes(part) for part in self._batches(self._checked(item_embeddings))]
        codes = torch.cat(found) if found else torch.empty(0, len(self.level_sizes), dtype=torch.int64)
        return codes.to(item_embeddings.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return what whole codes `[N, L]` stand for in the space of the normalised item vectors, `[N, E]`."""
        self._check_codes(codes, num_items=len(codes), levels=(len(self.level_sizes),) * 2)
        found = [self._decoded(part) for part in self._batches(codes)]
        return torch.cat(found).to(codes.device) if found else torch.empty(0, self.config.item_dim)

    @torch.no_grad()
    def level_vectors(self, level: int) -> Tensor:
        """Return the centroids of a level, rotated back into the space of the item vectors, `[K, E]`.

        There all levels have one width, and the vectors of an item's codes add up to the item without the mean.
        """
        if not 0 <= level < len(self.level_sizes):
            raise ValueError(f"level must be in 0 … {len(self.level_sizes) - 1}, got {level!r}")
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
        self._check_codes(prefix, num_items=len(item_embeddings), levels=(0, len(self.level_sizes) - 1))
        level = prefix.shape[1]
        return squared_distances(self.parts(self._checked(item_embeddings))[level], self.parts.centroids[level])

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
        pairs = zip(self.parts(items), self.parts.centroids, strict=True)
        return torch.stack([squared_distances(part, centroids).argmin(1) for part, centroids in pairs], 1)

    def _decoded(self, codes: Tensor) -> Tensor:
        pairs = zip(self.parts.centroids, codes.unbind(1), strict=True)
        rotated = torch.cat([centroids[column] for centroids, column in pairs], 1)
        return rotated @ self.parts.rotation.T + self.parts.mean

    def _checked(self, item_embeddings: Tensor) -> Tensor:
        if item_embeddings.ndim != 2 or item_embeddings.shape[1] != self.config.item_dim:
            raise ValueError(
                f"item_embeddings must be [items, {self.config.item_dim}], got shape {tuple(item_embeddings.shape)!r}; "
                "use the text encoder that the quantizer was fitted with"
            )
        return item_embeddings

    def _check_codes(self, codes: Tensor, *, num_items: int, levels: tuple[int, int]) -> None:
        least, most = levels
        if codes.ndim != 2 or not least <= codes.shape[1] <= most or len(codes) != num_items:
            raise ValueError(
                f"codes must be [{num_items} items, {least} … {most} levels], got shape {tuple(codes.shape)!r}; leave "
                "out an appended level"
            )
        for level, column in enumerate(codes.unbind(1)):
            beyond = column[(column < 0) | (column >= self.level_sizes[level])]
            if len(beyond):
                raise ValueError(f"level {level} has codes 0 … {self.level_sizes[level] - 1}, got {int(beyond[0])!r}")

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(rows), ITEMS_PER_BATCH):
            yield rows[start : start + ITEMS_PER_BATCH].to(self.device)


def squared_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """Return squared Euclidean distances `[N, K]` between `[N, D]` and `[K, D]`, never negative."""
    distances = rows.square().sum(-1, keepdim=True) - 2 * (rows @ centroids.T) + centroids.square().sum(-1)
    return distances.clamp_min(0)


def _constant(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape), requires_grad=False)
