"""`LightGcnModel`: the item side of a trained LightGCN, as a Transformers model that ranks for any history.

With embeddings e^(0) and K layers (arXiv 2002.02126, equations 3 and 4)

    e_u^(k) = sum_i e_i^(k-1) / sqrt(|N_u| |N_i|),   e_u = sum_k e_u^(k) / (K + 1),   score(u, i) = e_u · e_i

and the same for items. A user is here the history and nothing else: e_u without the term e_u^(0), which only a user of
the training has, is `sum_i n_i / sqrt(|N_u|)` with one vector n_i for each item. So the model holds two tables, e_i and
n_i, knows no user, and ranks for users that were never trained.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_lightgcn import LightGcnConfig


@dataclass
class LightGcnOutput(ModelOutput):
    """Output of `LightGcnModel`.

    Attributes:
        users: user vectors, fp32 `[B, D]`.
        scores: of all items, fp32 `[B, N]`.
    """

    users: Tensor | None = None
    scores: Tensor | None = None


class LightGcnModel(PreTrainedModel):
    """Items of a light graph convolution network (LightGCN) over clicks, and users as one propagation of a history.

    Args:
        config: sizes.
    """

    config: LightGcnConfig
    base_model_prefix = "lightgcn"
    main_input_name = "histories"

    def __init__(self, config: LightGcnConfig) -> None:
        super().__init__(config)
        self.items = nn.Embedding(config.num_items, config.hidden_size)  # e_i
        self.neighbors = nn.Embedding(config.num_items, config.hidden_size)  # n_i
        self.post_init()

    def forward(self, histories: Tensor) -> LightGcnOutput:
        """Return users and scores of all items for histories `[B, T]` (catalog rows, -1 pads)."""
        table = self.item_table()
        users = self.users(histories, table)
        return LightGcnOutput(users=users, scores=users @ self.targets(table).T)

    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return what users are made of, n_i of all items, `[N, D]`; the model reads no `item_vectors`."""
        if item_vectors is not None:
            raise ValueError(
                f"a LightGCN takes no item_vectors, got shape {tuple(item_vectors.shape)!r}; leave them out"
            )
        return self.neighbors.weight

    def targets(self, table: Tensor) -> Tensor:
        """Return the item side of the scores, e_i of all items, fp32 `[N, D]`; it does not depend on `table`."""
        # a copy, since the last bits of products depend on where in memory a file of weights was read to
        return self.items.weight.float().clone()

    def users(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return the user side of the scores, fp32 `[B, D]`: one propagation of the distinct items of each history.

        Args:
            histories: catalog rows `[B, T]`, -1 pads. An empty history is a vector of zeros.
            table: of `item_table`.
        """
        if histories.shape[1] == 0:
            return table.new_zeros(len(histories), table.shape[1], dtype=torch.float32)
        ordered = histories.sort(dim=1).values
        is_edge = ordered >= 0
        is_edge[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]  # the graph has one edge for repeated clicks
        vectors = functional.embedding(ordered.clamp_min(0), table).float() * is_edge[:, :, None]
        return vectors.sum(1) / is_edge.sum(1, keepdim=True).clamp_min(1).sqrt()

    @torch.no_grad()
    def with_items(self, num_items: int) -> "LightGcnModel":
        """Return a model for a larger catalog; items beyond the present ones have no edge, so their vectors are zero.

        Args:
            num_items: of the catalog, at least as many as now.
        """
        config = copy.deepcopy(self.config)
        config.num_items = num_items
        larger = type(self)(config).to(self.device)
        for own, fresh in ((self.items, larger.items), (self.neighbors, larger.neighbors)):
            fresh.weight.zero_()
            fresh.weight[: self.config.num_items] = own.weight
        return larger
