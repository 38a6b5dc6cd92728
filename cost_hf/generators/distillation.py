"""Distillation: the lists of a teacher as soft targets beside the true next items.

At a position of a training sequence the teacher lists items for the history before it. Its distribution q over the list
is a softmax of standardised scores at a temperature (Hinton, Vinyals and Dean, arXiv 1503.02531; lists of a recommender
as targets: Tang and Wang, "Ranking Distillation", KDD 2018). With weight a, the loss of the position is

    (1 - a) CE(true item) + a CE(q),    CE(q) = - sum_i q_i sum_l log p(c_l(i) | history, c_<l(i))

where c(i) is the semantic ID of item i. The second term needs the model at every prefix of every listed item. It is
estimated without bias along the path of one item j that is drawn from q anew in every epoch: at each level, the
cross-entropy of the model against q's codes after that prefix,

    CE(q) = E_{j ~ q} sum_l CE(q(c_l | c_<l(j)), p(. | history, c_<l(j))),    q(c | prefix) = sum of q_i that begin so.

The first level has an empty prefix, so nothing is drawn there. A causal generator computes the paths of all positions
in the pass that learns the true items: the tokens of a path are a branch of the sequence, which sees the history of its
position and nothing sees it. Where an example has one target (`PrefixDataset`), the target itself is drawn instead, the
true item with probability 1 - a: the expected loss is the same.

A teacher also lists items where no next item is known. Two sorts of such histories are examples too, with a next item
that is drawn from the list: every training sequence as a whole, where the next request will come, and every item of the
catalog alone, since many items are the last one of hardly any training position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from cost_hf.files import DamagedFileError, atomic_path, read_tensors

SOFT_LABELS = ("soft_rows", "soft_columns", "soft_tokens", "soft_weights", "soft_totals")  # in batches
DRAW = 1  # the draws of paraphrases have no such number


@dataclass(frozen=True, eq=False)
class ListTable:
    """Lists of a teacher for positions of U sequences: at position t, from the t items before it.

    Attributes:
        items: catalog rows, best first, int32 `[R, N]`, -1 after the last one.
        scores: of the items, float32 `[R, N]`, -inf where there is none.
        firsts: first position with a list, int64 `[U]`; all later ones have one, that after the last item included.
        starts: row of its list, int64 `[U]`.
    """

    items: np.ndarray
    scores: np.ndarray
    firsts: np.ndarray
    starts: np.ndarray

    def __repr__(self) -> str:
        """Return the sizes in one line."""
        rows, width = self.items.shape
        return f"ListTable({rows} lists of at most {width} items for {len(self.firsts)} sequences)"

    @classmethod
    def empty(cls, lengths: Sequence[int], *, width: int, most: int) -> "ListTable":
        """Return lists without items for the last positions of sequences; position 0 has no history and no list.

        Args:
            lengths: of the sequences, `[U]`.
            width: N.
            most: positions of a sequence.
        """
        sizes = np.asarray(lengths, dtype=np.int64)
        firsts = np.maximum(sizes + 1 - most, 1)
        counts = np.maximum(sizes + 1 - firsts, 0)
        shape = (int(counts.sum()), width)
        items = np.full(shape, -1, dtype=np.int32)
        return cls(items, np.full(shape, -np.inf, dtype=np.float32), firsts, np.cumsum(counts) - counts)

    def rows(self, sequence: int, positions: np.ndarray) -> np.ndarray:
        """Return the rows of the lists at positions `[P]` of a sequence, -1 where there is no list or an empty one."""
        after = positions - self.firsts[sequence]
        found = np.where(after >= 0, self.starts[sequence] + after, -1)
        found[found >= 0] = np.where(self.items[found[found >= 0], 0] >= 0, found[found >= 0], -1)
        return found

    def distribution(self, rows: np.ndarray, temperature: float) -> np.ndarray:
        """Return the teacher's probabilities of the items of lists `[P]`, float64 `[P, N]`, 0 where there is no item.

        Scores of a list less their mean, over their standard deviation and the temperature, through a softmax: the
        scores of different methods have different scales.
        """
        scores = self.scores[rows].astype(np.float64)
        is_item = self.items[rows] >= 0
        counts = is_item.sum(axis=1, keepdims=True)
        centered = np.where(is_item, scores, 0.0)
        centered = np.where(is_item, centered - centered.sum(axis=1, keepdims=True) / counts, 0.0)
        deviation = np.sqrt((centered**2).sum(axis=1, keepdims=True) / counts)
        logits = centered / np.where(deviation > 0, deviation, 1.0) / temperature
        weights = np.where(is_item, np.exp(logits - logits.max(axis=1, keepdims=True)), 0.0)
        return weights / weights.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {name: getattr(self, name) for name in ("items", "scores", "firsts", "starts")}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: Path) -> "ListTable":
        """Read what `save` wrote."""
        try:
            return cls(**read_tensors(path))
        except TypeError as error:
            raise DamagedFileError(f"{path} holds no lists of a teacher ({error}); copy it again") from error


@dataclass(frozen=True)
class TeacherLists:
    """What a teacher lists.

    Attributes:
        positions: for the training sequences.
        catalog: for every catalog row as a sequence of its own.
    """

    positions: ListTable
    catalog: ListTable

    def save(self, directory: Path) -> None:
        """Write a file of each table."""
        for entry in fields(self):
            getattr(self, entry.name).save(directory / f"{entry.name}.safetensors")

    @classmethod
    def load(cls, directory: Path) -> "TeacherLists":
        """Read what `save` wrote."""
        return cls(**{entry.name: ListTable.load(directory / f"{entry.name}.safetensors") for entry in fields(cls)})


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """A teacher's targets for P positions of an example.

    Attributes:
        places: index, among the example's own tokens, of the first token of the true item, int64 `[P]`.
        paths: tokens of the item that is drawn at each position, int64 `[P, L]`.
        listed: tokens of the listed items, int64 `[P, N, L]`.
        weights: their probabilities, float64 `[P, N]`.
        scales: weight of the loss at every position, `[P]`; None where all are 1.
    """

    places: np.ndarray
    paths: np.ndarray
    listed: np.ndarray
    weights: np.ndarray
    scales: np.ndarray | None = None

    @property
    def branches(self) -> np.ndarray:
        """The tokens that the model reads beside the example, int64 `[P * (L - 1)]`: nothing follows a last token."""
        return self.paths[:, :-1].ravel()

    @property
    def branch_positions(self) -> np.ndarray:
        """Position of every branch token in the sequence that it continues, int64 `[P * (L - 1)]`."""
        return (self.places[:, None] + np.arange(self.paths.shape[1] - 1)).ravel()

    @property
    def branch_forks(self) -> np.ndarray:
        """Number of tokens of the sequence that every branch token follows, int64 `[P * (L - 1)]`."""
        return np.repeat(self.places, self.paths.shape[1] - 1)

    def labels(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what weight 1 adds to the loss: tokens and weights at places of the example, each `[K]`.

        Along the drawn path, the teacher's codes; at the true tokens, -1 for each, which takes their loss away.

        Args:
            tokens: the example's own tokens, without the branches, `[S]`.

        Returns:
            The index of the token, branches included, after which a token is predicted; the token; its weight.
        """
        count, levels = self.paths.shape
        forks = self.places - 1
        true = self.places[:, None] + np.arange(levels)
        scales = np.ones(count) if self.scales is None else self.scales.astype(np.float64)
        after = [(true - 1).ravel()]
        predicted = [tokens[true].ravel()]
        weights = [np.repeat(-scales, levels)]
        on_path = self.weights.copy()
        for level in range(levels):
            node = forks if level == 0 else len(tokens) + np.arange(count) * (levels - 1) + level - 1
            conditional = on_path / on_path.sum(axis=1, keepdims=True)
            rows, columns = conditional.nonzero()
            after.append(node[rows])
            predicted.append(self.listed[rows, columns, level])
            weights.append(conditional[rows, columns] * scales[rows])
            on_path *= self.listed[:, :, level] == self.paths[:, level, None]
        return np.concatenate(after), np.concatenate(predicted), np.concatenate(weights)


@dataclass(frozen=True)
class Teacher:
    """Targets of a teacher for the examples of a data set.

    Attributes:
        lists: of the sequences of the data set.
        weight: a of the loss, above 0.
        temperature: of the distribution.
        seed: of the draws.
    """

    lists: ListTable
    weight: float
    temperature: float
    seed: int

    def soft_targets(
        self,
        sequence: int,
        positions: np.ndarray,
        places: np.ndarray,
        item_tokens: np.ndarray,
        *,
        number: int,
        scales: np.ndarray | None = None,
    ) -> SoftTargets:
        """Return the targets of positions of a sequence.

        Args:
            sequence: its number.
            positions: in the sequence, `[P]`; those without a list are left out.
            places: of the first token of the item at each position, `[P]`.
            item_tokens: token ids of every catalog row, `[N, L]`.
            number: of the example, which the draws depend on.
            scales: weight of the loss at every position, `[P]`; 1 by default.
        """
        rows = self.lists.rows(sequence, positions)
        has_list = rows >= 0
        rows = rows[has_list]
        weights = self.lists.distribution(rows, self.temperature)
        items = self.lists.items[rows]
        drawn = items[np.arange(len(rows)), self._draws(weights, number)]
        own = None if scales is None else scales[has_list]
        return SoftTargets(places[has_list], item_tokens[drawn], item_tokens[np.maximum(items, 0)], weights, own)

    def target(self, sequence: int, position: int, item: int, *, number: int) -> int:
        """Return the target of an example with one: `item`, or with probability `weight` one from the list."""
        rows = self.lists.rows(sequence, np.array([position]))
        if rows[0] < 0 or np.random.default_rng([self.seed, number, DRAW, 0]).random() >= self.weight:
            return item
        drawn = self._draws(self.lists.distribution(rows, self.temperature), number)
        return int(self.lists.items[rows[0], drawn[0]])

    def _draws(self, weights: np.ndarray, number: int) -> np.ndarray:
        """Return a column drawn by the weights in every row `[P, N]`, int64 `[P]`."""
        chances = np.random.default_rng([self.seed, number, DRAW]).random(len(weights))
        columns = (weights.cumsum(axis=1) <= chances[:, None]).sum(axis=1)
        last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)  # the sum may end a rounding below 1
        return np.minimum(columns, last)


def soft_label_loss(logits: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Return the weighted sum of negative log-probabilities of soft labels.

    Args:
        logits: `[R, S, V]`.
        labels: `SOFT_LABELS` of `CausalCollator`: row, column, token and weight of K entries, no entry twice, and the
            sum of the weights at every position `[R, S]`.
    """
    logits = logits.float()
    rows, columns, tokens, weights, totals = (labels[name] for name in SOFT_LABELS)
    # no position is read twice by one index, so the backward pass adds nothing up in an order of its own
    return (totals * logits.logsumexp(dim=-1)).sum() - (weights * logits[rows, columns, tokens]).sum()


def soft_label_tensors(
    cells: np.ndarray, tokens: np.ndarray, weights: np.ndarray, *, shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Return `SOFT_LABELS` of a grid; weights of equal cells and tokens are added up.

    Args:
        cells: index in the flattened grid of the position that predicts, `[K]`.
        tokens, weights: predicted there, `[K]`.
        shape: of the grid, R and S.
    """
    totals = np.bincount(cells, weights, minlength=shape[0] * shape[1]).reshape(shape)
    base = int(tokens.max(initial=0)) + 1
    pairs, owners = np.unique(cells * base + tokens, return_inverse=True)
    sums = np.bincount(owners, weights, minlength=len(pairs))
    cells, tokens = np.divmod(pairs[sums != 0], base)
    rows, columns = np.divmod(cells, shape[1])
    return {
        "soft_rows": torch.from_numpy(rows),
        "soft_columns": torch.from_numpy(columns),
        "soft_tokens": torch.from_numpy(tokens),
        "soft_weights": torch.from_numpy(sums[sums != 0].astype(np.float32)),
        "soft_totals": torch.from_numpy(totals.astype(np.float32)),
    }
