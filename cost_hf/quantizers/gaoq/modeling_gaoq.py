"""`GaoqModel`: two levels of centroids and one of anchors, as a Transformers model without gradient steps.

Clusters of the first level have centroids mu_p; the child of p with code c has the centroid mu_pc, and the last code is
that of the anchor a_k that the rest x - mu_pc of an item points at (arXiv 2602.02338, Algorithm 1). Children are stored
in the order of their codes, so that no further table is needed. `forward` is pure; state changes are named methods
(`fit_statistics`, `replace_centroids`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from cost_hf.quantizers.cost.layers_cost import InputNorm, constant_weight
from cost_hf.quantizers.cost.modeling_base_cost import QuantizerPreTrainedModel
from cost_hf.quantizers.cost.residual_cost import squared_distances

from .configuration_gaoq import GaoqConfig


class CentroidTree(nn.Module):
    """Centroids and anchors in the space of the normalised item vectors, fp32.

    Weights, which `GaoqModel.replace_centroids` writes and no gradient step does:
        centroids: of the first level, `[b1, E]`.
        child_centroids: of the second level, `[b1, b2, E]`, in the order of their codes.
        anchors: orthonormal, of the last level, `[b3, E]`; with `index_alignment="anchor"` only.
    """

    def __init__(self, config: GaoqConfig) -> None:
        super().__init__()
        first, second, last = config.level_sizes
        self.centroids = constant_weight(first, config.item_dim)
        self.child_centroids = constant_weight(first, second, config.item_dim)
        if config.index_alignment == "anchor":
            self.anchors = constant_weight(last, config.item_dim)


class GaoqPreTrainedModel(QuantizerPreTrainedModel):
    """Weight initialisation and loading rules."""

    config: GaoqConfig
    base_model_prefix = "gaoq"
    # argmin over distances is decided by small differences: codes must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("tree", "input_norm")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CentroidTree):
            for weight in (module.centroids, module.child_centroids):
                init.normal_(weight)
            if self.config.index_alignment == "anchor":
                init.orthogonal_(module.anchors)


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
        self.input_norm = InputNorm(config.input_norm, config.item_dim)
        self.tree = CentroidTree(config)
        self.post_init()

    @property
    def free_levels(self) -> int:
        """Number of last levels whose code depends on what is free, not on the item vector alone: one."""
        return 1

    def level_vectors(self, level: int) -> Tensor | None:
        """Return what the codes of a level stand for, `[K, E]`; None where a code has no meaning of its own.

        These are centroids on the first level, mean offsets of children from their parents on the second, anchors (unit
        length) on the third. Numbers that are local to a parent mean nothing.
        """
        self._check_level(level)
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
        items = self._normalised(item_embeddings)
        level = prefix.shape[1]
        if level == 0:
            return squared_distances(items, self.tree.centroids)
        if level == 1:
            return self._child_distances(items, prefix[:, 0])
        if self.config.index_alignment == "local":
            return items.new_zeros(len(items), self.level_sizes[level])
        rest = items - self.tree.child_centroids[prefix[:, 0], prefix[:, 1]]
        return 1 - functional.normalize(rest, dim=-1) @ self.tree.anchors.T

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

    def _codes(self, items: Tensor) -> Tensor:
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
            distances[rows] = squared_distances(items[rows], self.tree.child_centroids[parent])
        return distances


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}
