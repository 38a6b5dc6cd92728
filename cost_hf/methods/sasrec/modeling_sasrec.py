"""`SasRecModel`: histories of items → causal self-attention → scores of the whole catalog, as a Transformers model.

arXiv 1808.09781; with the full softmax of arXiv 2309.07602. Beyond the papers: normalisation before the sub-layers,
cosine scores by default, and items that may be frozen text vectors. Those are data, not weights: they are an argument,
so a text model scores whatever catalog it is given. `forward` is pure.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_sasrec import SasRecConfig, SequenceConfig
from .layers_sasrec import ItemEncoder, SasRecLayer, distinct_rows, last_positions, recent_items
from .objectives_sasrec import catalog_cross_entropy, sampled_binary_loss, sampled_softmax_loss

SHORT = 16  # items of a history that a CPU reads apart from longer ones


@dataclass
class SequenceOutput(ModelOutput):
    """Output of a `SequenceModel`.

    Attributes:
        loss: mean over the labelled positions, a scalar; None without labels.
        hidden_states: what the model knows behind every item, fp32 `[B, T, D]`.
    """

    loss: Tensor | None = None
    hidden_states: Tensor | None = None


class SequenceModel(PreTrainedModel):
    """What models share that read a history item by item and score the whole catalog behind every item.

    Args:
        config: sizes and objective.

    Attributes:
        layer_class: made from a configuration; maps `[B, T, D]` to `[B, T, D]`, and no position sees a later one.
    """

    config: SequenceConfig
    main_input_name = "histories"
    layer_class: ClassVar[type[nn.Module]]

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.items = ItemEncoder(config)
        self.positions = nn.Embedding(config.max_history, config.hidden_size)
        self.input_norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.layers = nn.ModuleList(self.layer_class(config) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=1e-6) if config.norms_output else nn.Identity()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear) and self.config.linear_init == "xavier":
            init.xavier_normal_(module.weight)

    def forward(
        self,
        histories: Tensor,
        labels: Tensor | None = None,
        item_vectors: Tensor | None = None,
        negatives: Tensor | None = None,
        label_weights: Tensor | None = None,
        log_expected: Tensor | None = None,
    ) -> SequenceOutput:
        """Read histories and predict the item behind every position.

        Texts are encoded of the items that the batch names, or of all items where the full softmax reads them.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, -1 pads on the right; T at most `max_history`. A -1 within
                a history is a hidden item, a vector of zeros.
            labels: the next rows, `[L, T]`, -100 where nothing is to be learned; those of the first L histories.
            item_vectors: frozen item vectors of the catalog `[N, E]`, for models with text inputs.
            negatives: sampled catalog rows, `[L, T, K]` for the binary loss, `[K]` for the sampled softmax.
            label_weights: factor of the loss of every label, `[L, T]`; 1 by default.
            log_expected: natural logarithm of the draws expected of each negative, `[K]`, for the sampled softmax.
        """
        rows = None  # all, whose table ids alone are
        if self.config.has_text:
            if labels is None:
                rows, (histories,) = distinct_rows(histories)
            elif negatives is not None and self.config.loss != "cross_entropy":
                named = histories.numel() + labels.numel() + negatives.numel()
                if named < self.config.num_items:  # else finding the few that are not costs more than it saves
                    rows, (histories, labels, negatives) = distinct_rows(histories, labels, negatives)
        table = self.items(item_vectors, rows)
        hidden = self.read(histories, table)
        loss = None
        if labels is not None:
            loss = self.next_item_loss(hidden, table, labels, negatives, label_weights, log_expected)
        return SequenceOutput(loss=loss, hidden_states=hidden)

    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the vectors of all items, `[N, D]`; compute them once to score many users.

        Without gradients, the memory for it beyond item vectors and table does not grow with N.
        """
        return self.items(item_vectors) if torch.is_grad_enabled() else self.items.in_parts(item_vectors)

    def with_items(self, num_items: int) -> Self:
        """Return a model for a larger catalog, whose first rows are those of this one; later rows have fresh weights.

        Args:
            num_items: of the catalog, at least as many as now.
        """
        config = copy.deepcopy(self.config)
        config.num_items = num_items
        larger = type(self)(config)
        weights = self.state_dict()
        if config.has_ids:
            table = larger.items.ids.weight.detach().clone()
            table[: self.config.num_items] = weights["items.ids.weight"]
            weights["items.ids.weight"] = table
        larger.load_state_dict(weights)
        return larger.to(self.device)

    def scores(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return the scores of all items for histories `[B, T]`, fp32 `[B, N]`; all 0 for an empty history.

        Args:
            histories: catalog rows, oldest first, -1 pads on the right; older than `max_history` ones are not read.
            table: of `item_table`.
        """
        return self.users(histories, table) @ self.targets(table).T

    def users(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return what histories `[B, T]` are multiplied with `targets` by, fp32 `[B, D]`; zeros for an empty history.

        Arguments are those of `scores`.
        """
        recent = recent_items(histories, self.config.max_history)
        return self.scaled(last_positions(recent, self.read(recent, table)))

    def targets(self, table: Tensor) -> Tensor:
        """Return items `[N, D]` as users are multiplied with them, fp32; keep them to score many users."""
        return table.float() if self.config.similarity == "dot" else functional.normalize(table.float(), dim=-1)

    def read(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return the states behind every item of histories `[B, T]`, fp32 `[B, T, D]`; arguments as in `forward`.

        What stands at pads means nothing. Most histories are short and one of a batch is long, so a CPU reads short
        and long ones apart, each padded to their own width.
        """
        length = histories.shape[1]
        if length > self.config.max_history:
            raise ValueError(
                f"expected histories of at most max_history={self.config.max_history!r} items, got {length!r}; cut "
                "them at their old end"
            )
        items = functional.embedding(histories.clamp_min(0), table).masked_fill((histories < 0)[..., None], 0.0)
        places = torch.arange(length, device=histories.device)
        lengths = ((histories >= 0) * (places + 1)).amax(1) if length else places.new_zeros(len(histories))
        if self.config.positions == "newest":
            places = (self.config.max_history - lengths[:, None] + places).clamp_max(self.config.max_history - 1)
        inputs = items + functional.embedding(places, self.positions.weight)
        if length <= SHORT or histories.device.type != "cpu":
            return self._states(inputs)
        is_short = lengths <= SHORT
        states = items.new_zeros(items.shape, dtype=torch.float32)
        for members, width in ((is_short, SHORT), (~is_short, length)):
            rows = members.nonzero()[:, 0]
            if len(rows):
                states[rows, :width] = self._states(inputs[rows, :width])
        return states

    def _states(self, inputs: Tensor) -> Tensor:
        """Return the states behind items with their positions `[B, T, D]`, fp32 in the same shape."""
        hidden = functional.dropout(self.input_norm(inputs), self.config.dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.output_norm(hidden).float()

    def next_item_loss(
        self,
        hidden: Tensor,
        table: Tensor,
        labels: Tensor,
        negatives: Tensor | None = None,
        label_weights: Tensor | None = None,
        log_expected: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss of the labelled positions, a scalar.

        Args:
            hidden: of `read`, `[B, T, D]`.
            table: whose rows the labels and negatives name, `[N, D]`.
            labels, negatives, label_weights, log_expected: as for `forward`.
        """
        table = table.float()
        is_label = labels >= 0
        weights = None if label_weights is None else label_weights[is_label]
        chosen = labels[is_label]  # [P]
        users = self.scaled(hidden[: len(labels)][is_label])
        if self.config.loss == "cross_entropy":
            return catalog_cross_entropy(users, self.targets(table), chosen, weights)
        if negatives is None:
            raise ValueError(f"loss={self.config.loss!r} needs negatives beside labels, got None; sample them")
        # not table[...]: with several threads its backward adds the gradients of an item in any order
        positives = self.targets(functional.embedding(chosen, table))
        if self.config.loss == "binary":
            others = self.targets(functional.embedding(negatives[is_label], table))
            return sampled_binary_loss(users, positives, others, weights)
        if log_expected is None:
            raise ValueError("loss='sampled_softmax' needs log_expected [K] beside negatives [K], got None; give both")
        others = self.targets(functional.embedding(negatives, table))
        return sampled_softmax_loss(users, positives, others, chosen, negatives, log_expected, weights)

    def scaled(self, users: Tensor) -> Tensor:
        """Return users whose products with `targets` are scores."""
        is_dot = self.config.similarity == "dot"
        return users if is_dot else functional.normalize(users, dim=-1) / self.config.temperature


class SasRecModel(SequenceModel):
    """Self-attentive sequential recommender (SASRec) over item ids, text vectors or both.

    Args:
        config: sizes and objective.
    """

    config: SasRecConfig
    base_model_prefix = "sasrec"
    layer_class = SasRecLayer
    _no_split_modules = ("SasRecLayer",)
