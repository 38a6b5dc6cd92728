"""Training LightGCN with `Trainer`, selected on the ranking of validation users, resumed bit for bit after a kill.

The loss is BPR over clicks, each with one sampled item that its user did not click, and half the squared lengths of the
embeddings that a triple reads (arXiv 2002.02126, equation 15). All embeddings are propagated over the whole graph at
every step, by sparse matrix products.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from cost_hf.checkpoints import forget_generation_settings
from cost_hf.generators.collation import pad_rows
from cost_hf.generators.ranking_trainer import RankingTrainer, Validate, checkpoints_of
from cost_hf.methods.lightgcn.configuration_lightgcn import LightGcnConfig
from cost_hf.methods.lightgcn.modeling_lightgcn import LightGcnModel
from cost_hf.methods.lightgcn.options import LightGcnOptions
from cost_hf.methods.negatives import draw_negatives


@dataclass(frozen=True)
class TrainedLightGcn:
    """The chosen weights, in eval mode, and the log of the run (one dict a logging event)."""

    model: LightGcnModel
    history: list[dict[str, float]]


@dataclass(frozen=True, eq=False)
class ClickGraph:
    """The bipartite graph of users and items, one edge for repeated clicks, in compressed rows of both directions.

    Attributes:
        user_offsets: where the edges of each user begin, int64 `[U + 1]`.
        user_items: items of the edges, ordered by user, int64 `[edges]`.
        item_offsets, item_users: the same for items, `[N + 1]` and `[edges]`.
    """

    user_offsets: Tensor
    user_items: Tensor
    item_offsets: Tensor
    item_users: Tensor

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray], num_items: int) -> "ClickGraph":
        """Return the graph of users' sequences of catalog rows."""
        users = np.repeat(np.arange(len(sequences)), [len(rows) for rows in sequences])
        items = np.concatenate(sequences).astype(np.int64)
        pairs = np.unique(users * num_items + items)
        users, items = np.divmod(pairs, num_items)
        by_item = np.argsort(items, kind="stable")
        return cls(
            _offsets(users, len(sequences)),
            torch.from_numpy(items),
            _offsets(items, num_items),
            torch.from_numpy(users[by_item]),
        )

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return len(self.user_offsets) - 1

    @property
    def num_items(self) -> int:
        """Number of items N."""
        return len(self.item_offsets) - 1

    def items_of(self, user: int) -> np.ndarray:
        """Return the items of a user, ascending."""
        first = self.user_offsets[user]
        last = self.user_offsets[user + 1]
        return self.user_items[first:last].numpy()


class Propagation(nn.Module):
    """One layer: the sum of the neighbors' vectors, each over the root of the product of both degrees."""

    def __init__(self, graph: ClickGraph) -> None:
        super().__init__()
        self.user_offsets = nn.Buffer(graph.user_offsets, persistent=False)
        self.user_items = nn.Buffer(graph.user_items, persistent=False)
        self.item_offsets = nn.Buffer(graph.item_offsets, persistent=False)
        self.item_users = nn.Buffer(graph.item_users, persistent=False)
        user_scales = graph.user_offsets.diff().clamp_min(1).rsqrt()
        item_scales = graph.item_offsets.diff().clamp_min(1).rsqrt()
        self.item_scales = nn.Buffer(item_scales, persistent=False)
        user_of_edge = torch.repeat_interleave(graph.user_offsets.diff())
        item_of_edge = torch.repeat_interleave(graph.item_offsets.diff())
        self.by_user = nn.Buffer(user_scales[user_of_edge] * item_scales[graph.user_items], persistent=False)
        self.by_item = nn.Buffer(item_scales[item_of_edge] * user_scales[graph.item_users], persistent=False)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Map users `[U, D]` and items `[N, D]` to those of the next layer."""
        to_users = (self.user_items, self.user_offsets, self.by_user)
        to_items = (self.item_users, self.item_offsets, self.by_item)
        return _SparseProduct.apply(items, *to_users, *to_items), _SparseProduct.apply(users, *to_items, *to_users)


class LightGcnTraining(PreTrainedModel):
    """LightGCN in training: embeddings of users and items, and the graph.

    Args:
        config: sizes; its `num_items` is that of the graph.
        graph: of the training clicks.
        regularization: weight of half the squared lengths of embeddings.
    """

    config: LightGcnConfig
    main_input_name = "users"

    def __init__(self, config: LightGcnConfig, graph: ClickGraph, *, regularization: float) -> None:
        super().__init__(config)
        self.regularization = regularization
        self.users = nn.Embedding(graph.num_users, config.hidden_size)
        self.items = nn.Embedding(graph.num_items, config.hidden_size)
        self.propagation = Propagation(graph)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)

    def forward(
        self, users: Tensor, positives: Tensor, negatives: Tensor, label_weights: Tensor | None = None
    ) -> ModelOutput:
        """Return the loss of triples: rows of users, of their items and of items that they did not click, each `[B]`.

        Args:
            label_weights: factor of the loss of every triple, `[B]`; 1 by default.
        """
        layers = self.layers()
        user_vectors = torch.stack([layer[0] for layer in layers]).mean(0)
        item_vectors = torch.stack([layer[1] for layer in layers]).mean(0)
        # not user_vectors[...]: with several threads its backward adds the gradients of a row in any order
        chosen = functional.embedding(users, user_vectors)
        better = (chosen * functional.embedding(positives, item_vectors)).sum(1)
        worse = (chosen * functional.embedding(negatives, item_vectors)).sum(1)
        losses = functional.softplus(worse - better)
        lengths = self.users(users).square().sum(1)
        lengths = lengths + self.items(positives).square().sum(1) + self.items(negatives).square().sum(1)
        losses = losses + self.regularization / 2 * lengths
        return ModelOutput(loss=(losses if label_weights is None else losses * label_weights).mean())

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Return users `[U, D]` and items `[N, D]` of the layers 0 … K."""
        layers = [(self.users.weight, self.items.weight)]
        for _ in range(self.config.num_layers):
            layers.append(self.propagation(*layers[-1]))
        return layers

    @torch.no_grad()
    def item_side(self) -> LightGcnModel:
        """Return the items as a model that ranks for histories, in eval mode.

        An item without an edge adds nothing to a user: its embedding was learned as that of a negative alone.
        """
        items = [layer[1] for layer in self.layers()]
        model = LightGcnModel(self.config).to(self.device).eval()
        model.items.weight.copy_(torch.stack(items).mean(0))
        neighbors = torch.stack(items[:-1]).sum(0) / len(items)
        has_edge = self.propagation.item_offsets.diff() > 0
        model.neighbors.weight.copy_(neighbors * (self.propagation.item_scales * has_edge)[:, None])
        return model


class _SparseProduct(torch.autograd.Function):
    """Product of a sparse matrix and a dense one; the gradient is that with the transposed matrix.

    `embedding_bag` with weights is a sparse matrix product in compressed rows, faster than `torch.sparse` on a CPU
    and with sums in one order whatever the number of threads.
    """

    @staticmethod
    def forward(
        ctx: Any,
        dense: Tensor,
        columns: Tensor,
        offsets: Tensor,
        values: Tensor,
        transposed_columns: Tensor,
        transposed_offsets: Tensor,
        transposed_values: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(transposed_columns, transposed_offsets, transposed_values)
        return _bag(dense, columns, offsets, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _bag(gradients[0].contiguous(), *ctx.saved_tensors), None, None, None, None, None, None


def _bag(dense: Tensor, columns: Tensor, offsets: Tensor, values: Tensor) -> Tensor:
    with torch.no_grad():
        return functional.embedding_bag(
            columns, dense, offsets, mode="sum", per_sample_weights=values.to(dense.dtype), include_last_offset=True
        )


class ClickDataset(Dataset):
    """Numbers of the clicks that are learned; the collator looks them up."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index % self.count  # the sampler numbers examples over all epochs


class ClickCollator:
    """Users, items and, for the negatives, all items of the users of a batch.

    Args:
        users, items: of the clicks that are learned, int64 `[P]`.
        weights: of their losses, float32 `[P]`; None where all are 1.
        graph: of all training clicks.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, weights: np.ndarray | None, graph: ClickGraph):
        self.users = users
        self.items = items
        self.weights = weights
        self.graph = graph

    def __call__(self, examples: Sequence[int]) -> dict[str, Tensor]:
        """Return `users` and `positives` `[B]`, `known` `[B, S]`, padded with -1, and `label_weights` `[B]` if any."""
        users = self.users[examples]
        batch = {"users": torch.from_numpy(users), "positives": torch.from_numpy(self.items[examples])}
        batch["known"] = pad_rows([self.graph.items_of(user) for user in users])
        if self.weights is not None:
            batch["label_weights"] = torch.from_numpy(self.weights[examples])
        return batch


class LightGcnTrainer(RankingTrainer):
    """Ranking trainer that draws the negatives, from the random state that checkpoints restore."""

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""
        known = inputs.pop("known")
        num_items = self.accelerator.unwrap_model(model).config.num_items
        negatives = draw_negatives(known, 1, num_items=num_items).squeeze(1)
        return super().compute_loss(model, inputs | {"negatives": negatives}, *args, **kwargs)


def train_lightgcn(
    sequences: Sequence[np.ndarray],
    *,
    num_items: int,
    options: LightGcnOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    weights: Sequence[np.ndarray] | None = None,
) -> TrainedLightGcn:
    """Train on users' clicks, keep the checkpoint with the best validation NDCG@10, resume a killed run.

    Args:
        sequences: catalog rows of every training user.
        num_items: N, size of the catalog.
        options: sizes and training.
        validate: ranks the validation sample with a model in training and returns metrics, `ndcg@10` among them; None
            trains the given epochs and keeps the last weights.
        output_dir: holds `checkpoints/` while the run is going on.
        seed: of weights, order of clicks and negatives.
        weights: of the loss of every click, float32 arrays like `sequences`, of mean 1; 0 is not learned, and is an
            edge of the graph all the same. None where all are 1.

    Raises:
        ValueError: where no click is learned.
    """
    options.validate()
    users = np.repeat(np.arange(len(sequences)), [len(rows) for rows in sequences])
    items = np.concatenate([np.empty(0, np.int64), *sequences])
    losses = None if weights is None else np.concatenate(weights)
    if losses is not None:
        is_learned = losses > 0
        users = users[is_learned]
        items = items[is_learned]
        losses = losses[is_learned]
    if not len(items):
        raise ValueError(
            f"the training part holds no click that is learned ({len(sequences)} users); lower "
            "data.min_user_interactions, or raise data.event_weights"
        )
    graph = ClickGraph.of(sequences, num_items)
    trainer = LightGcnTrainer(
        build_training_model(options, graph, seed=seed),
        options.training,
        dataset=ClickDataset(len(items)),
        collator=ClickCollator(users, items, losses, graph),
        groups_by_length=False,
        directory=checkpoints_of(output_dir),
        seed=seed,
        validate=validate,
    )
    trained: Any = trainer.fit()
    forget_generation_settings(trained)
    return TrainedLightGcn(trained.item_side(), trainer.state.log_history)


def build_training_model(options: LightGcnOptions, graph: ClickGraph, *, seed: int) -> LightGcnTraining:
    """Return an untrained model whose weights depend on `seed` alone."""
    config = LightGcnConfig(
        num_items=graph.num_items, hidden_size=options.model.hidden_size, num_layers=options.model.num_layers
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LightGcnTraining(config, graph, regularization=options.training.regularization)


def _offsets(rows: np.ndarray, count: int) -> Tensor:
    """Return where each of `count` rows begins in sorted or unsorted `rows`, `[count + 1]`."""
    return torch.from_numpy(np.concatenate([[0], np.bincount(rows, minlength=count).cumsum()]).astype(np.int64))
