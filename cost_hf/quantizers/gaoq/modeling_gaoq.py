"""`GaoqModel`: two levels of centroids and one of anchors, as a Transformers model without gradient steps.

Clusters of the first level have centroids mu_p; the child of p with code c has the centroid mu_pc, and the last code is
that of the anchor a_k that the rest x - mu_pc of an item points at (arXiv 2602.02338, Algorithm 1). Children are stored
in the order of their codes, so that no further table is needed. `forward` is pure; state changes are named methods
(`fit_statistics`, `replace_centroids`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_gaoq import GaoqConfig

ITEMS_PER_BATCH = 8192  # of encode: bounds memory, and is fixed so that sums do not depend on the caller


@dataclass
class GaoqOutput(ModelOutput):
    """Output of `GaoqModel`.

    Attributes:
        codes: nearest codes, `[B, 3]` int64.
    """

    codes: Tensor | None = None


class CentroidTree(nn.Module):
    """Centroids and anchors in the space of the normalised item vectors, fp32.

    Weights, which `GaoqModel.replace_centroids` writes and no gradient step does:
        centroids: of the first level, `[b1, E]`.
        child_centroids: of the second level, `[b1, b2, E]`, in the order of their codes.
        anchors: orthonormal, of the last level, `[b3, E]`; with `index_alignment="anchor"` only.
        mean, std: statistics per dimension, `[E]`; with `input_norm="standardize"` only.
    """

    def __init__(self, config: GaoqConfig) -> None:
        super().__init__()
        first, second, last = config.level_sizes
        self.norm = config.input_norm
        self.centroids = _constant(first, config.item_dim)
        self.child_centroids = _constant(first, second, config.item_dim)
        if config.index_alignment == "anchor":
            self.anchors = _constant(last, config.item_dim)
        if config.input_norm == "standardize":
            self.mean = _constant(config.item_dim)
            self.std = _constant(config.item_dim)

    def normalised(self, items: Tensor) -> Tensor:
        """Return the normalised vectors, fp32 `[B, E]`."""
        items = items.float()
        if self.norm == "l2":
            return functional.normalize(items, dim=-1)
        return (items - self.mean) / self.std if self.norm == "standardize" else items


class GaoqPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading rules."""

    config: GaoqConfig
    base_model_prefix = "gaoq"
    main_input_name = "item_embeddings"
    # argmin over distances is decided by small differences: codes must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("tree",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CentroidTree):
            for weight in (module.centroids, module.child_centroids):
                init.normal_(weight)
            if self.config.index_alignment == "anchor":
                init.orthogonal_(module.anchors)
            if self.config.input_norm == "standardize":
                init.zeros_(module.mean)
                init.ones_(module.std)


class GaoqModel(GaoqPreTrainedModel):
    """Tree quantizer for semantic IDs (GAOQ of ReSID): balanced clusters, codes aligned across parents.

    `encode` gives the nearest codes, which items may share. The items that a model was fitted to have unique codes,
    which it does not hold; a new item gets the nearest last code that is free (collision policy `reassign`).

    Args:
        config: sizes.

    Examples:
        >>> import torch
        >>> from cost_hf.quantizers.gaoq.configuration_gaoq import GaoqConfig
        >>> model = GaoqModel(GaoqConfig(item_dim=16, level_sizes=(4, 5, 6)))
        >>> model.encode(torch.randn(10, 16)).shape
        torch.Size([10, 3])
    """

    more_room = "a larger codes.growth (or, where codes.level_sizes are given, a larger last one)"
    computes_level_vectors = True  # means over parents, which say too little of the centroids: digests take the weights

    def __init__(self, config: GaoqConfig) -> None:
        super().__init__(config)
        self.tree = CentroidTree(config)
        self.post_init()

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes per level, three numbers."""
        return tuple(self.config.level_sizes)

    @property
    def free_levels(self) -> int:
        """Number of last levels whose code depends on what is free, not on the item vector alone: one."""
        return 1

    def forward(self, item_embeddings: Tensor) -> GaoqOutput:
        """Return the nearest codes of item vectors `[B, E]`."""
        return GaoqOutput(codes=self.encode(item_embeddings))

    @torch.no_grad()
    def encode(self, item_embeddings: Tensor) -> Tensor:
        """Return the nearest codes of item vectors `[N, E]`, int64 `[N, 3]`, on their device; items may share them.

        Raises:
            ValueError: for vectors of another width.
        """
        parts = [self._nearest(part) for part in self._batches(self._checked(item_embeddings))]
        codes = torch.cat(parts) if parts else torch.empty(0, len(self.level_sizes), dtype=torch.int64)
        return codes.to(item_embeddings.device)

    def level_vectors(self, level: int) -> Tensor | None:
        """Return what the codes of a level stand for, `[K, E]`; None where a code has no meaning of its own.

        These are centroids on the first level, mean offsets of children from their parents on the second, anchors (unit
        length) on the third. Numbers that are local to a parent mean nothing.
        """
        if not 0 <= level < len(self.level_sizes):
            raise ValueError(f"level must be in 0 … {len(self.level_sizes) - 1}, got {level!r}")
        if level == 0:
            return self.tree.centroids
        if self.config.index_alignment == "local":
            return None
        return self.tree.anchors if level > 1 else (self.tree.child_centroids - self.tree.centroids[:, None]).mean(0)

    @torch.no_grad()
    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return the distances of item vectors to the codes that may follow a prefix.

        Squared distances to centroids on the first two levels. On the last one 1 - cosine of the rest and the anchors,
        or zeros where numbers are local: one is as good as another then.

        Args:
            item_embeddings: item vectors, `[N, E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < 3`.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        self._check_prefix(prefix, len(item_embeddings))
        items = self.tree.normalised(self._checked(item_embeddings))
        level = prefix.shape[1]
        if level == 0:
            return _squared_distances(items, self.tree.centroids)
        if level == 1:
            return self._child_distances(items, prefix[:, 0])
        if self.config.index_alignment == "local":
            return items.new_zeros(len(items), self.level_sizes[level])
        rest = items - self.tree.child_centroids[prefix[:, 0], prefix[:, 1]]
        return 1 - functional.normalize(rest, dim=-1) @ self.tree.anchors.T

    @torch.no_grad()
    def fit_statistics(self, item_embeddings: Tensor) -> None:
        """Set mean and standard deviation of `input_norm="standardize"` from item vectors `[N, E]`; else do nothing.

        A dimension that never varies is centred but not scaled.
        """
        if self.config.input_norm != "standardize":
            return
        items = self._checked(item_embeddings).to(self.device, torch.float64)
        std = items.std(0, correction=0)
        self.tree.mean.copy_(items.mean(0))
        self.tree.std.copy_(torch.where(std > 1e-8, std, torch.ones_like(std)))

    @torch.no_grad()
    def replace_centroids(self, centroids: Tensor, child_centroids: Tensor, anchors: Tensor | None) -> None:
        """Overwrite centroids and anchors, in place; shapes are those of `CentroidTree`, None for no anchors."""
        given = {"centroids": centroids, "child_centroids": child_centroids}
        if anchors is not None:
            given["anchors"] = anchors
        own = {name: weight for name, weight in self.tree.named_parameters() if name in given}
        wanted = _shapes(own)
        found = _shapes(given)
        if found != wanted:
            raise ValueError(f"expected weights of the shapes {wanted}, got {found}; pass those of the configuration")
        for name, weight in own.items():
            weight.copy_(given[name])

    def _nearest(self, items: Tensor) -> Tensor:
        codes = torch.empty(len(items), 0, dtype=torch.int64, device=items.device)
        for _ in self.level_sizes:
            nearest = self.level_distances(items, codes).argmin(1, keepdim=True)
            codes = torch.cat([codes, nearest], 1)
        return codes

    def _child_distances(self, items: Tensor, parents: Tensor) -> Tensor:
        """Return squared distances `[N, b2]` to the children of each row's parent, parent by parent."""
        distances = items.new_empty(len(items), self.level_sizes[1])
        order = parents.argsort(stable=True)
        found, counts = parents[order].unique_consecutive(return_counts=True)
        for parent, rows in zip(found.tolist(), order.split(counts.tolist()), strict=True):
            distances[rows] = _squared_distances(items[rows], self.tree.child_centroids[parent])
        return distances

    def _checked(self, item_embeddings: Tensor) -> Tensor:
        if item_embeddings.ndim != 2 or item_embeddings.shape[1] != self.config.item_dim:
            raise ValueError(
                f"item_embeddings must be [items, {self.config.item_dim}], got shape {tuple(item_embeddings.shape)!r}; "
                "use the text encoder that the quantizer was fitted with"
            )
        return item_embeddings

    def _check_prefix(self, prefix: Tensor, num_items: int) -> None:
        most = len(self.level_sizes) - 1
        if prefix.ndim != 2 or prefix.shape[1] > most or len(prefix) != num_items:
            raise ValueError(
                f"a prefix must be [{num_items} items, 0 … {most} levels], got shape {tuple(prefix.shape)!r}"
            )
        for level, column in enumerate(prefix.unbind(1)):
            beyond = column[(column < 0) | (column >= self.level_sizes[level])]
            if len(beyond):
                raise ValueError(
                    f"level {level} has codes 0 … {self.level_sizes[level] - 1}, got {int(beyond[0])!r}; leave out an "
                    "appended level"
                )

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(rows), ITEMS_PER_BATCH):
            yield rows[start : start + ITEMS_PER_BATCH].to(self.device)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def _constant(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape), requires_grad=False)


def _squared_distances(items: Tensor, centroids: Tensor) -> Tensor:
    """Return squared Euclidean distances `[N, K]` between `[N, E]` and `[K, E]`, never negative."""
    distances = items.square().sum(-1, keepdim=True) - 2 * (items @ centroids.T) + centroids.square().sum(-1)
    return distances.clamp_min(0)
