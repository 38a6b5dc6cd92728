"""Training examples and batches of both generators.

Where the answer continues the list of items, a causal generator learns every next item of a user in one pass, the first
one included. Otherwise every prefix of a sequence is an example. Data sets take any number: example i of epoch e has
the number e · count + i, and most return the same example in every epoch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from cost_hf.data.row_lists import RowLists
from cost_hf.generators.distillation import SoftTargets, soft_label_tensors
from cost_hf.generators.packing import Packing, pack
from cost_hf.generators.prompts import IGNORED_LABEL, LABEL_WEIGHTS, Example

NO_TOKENS = np.empty(0, np.int64)
NO_ITEM = -1  # catalog row of tokens that belong to no item


class SequenceDataset(Dataset):
    """Users' training sequences as rows of at most `max_items` items, with the first item that is a label.

    A longer sequence becomes overlapping windows, cut from its end: every item is a label once, and after the first
    window it has at least half a window of history before it.

    Args:
        sequences: item rows of every user, oldest first.
        user_ids: of every sequence.
        max_items: longest row.
        weights: of the loss of every item, like `sequences`; an item with 0 is no label, and a row without a label is
            no example. None where all are 1.
        num_unlabelled: first items of a row that are never labels.
    """

    def __init__(
        self,
        sequences: Sequence[np.ndarray],
        user_ids: Sequence[str],
        *,
        max_items: int,
        weights: Sequence[np.ndarray] | None = None,
        num_unlabelled: int = 0,
    ):
        self.sequences = RowLists.of(sequences)
        self.user_ids = list(user_ids)
        self.weights = None if weights is None else RowLists.of(weights)
        self.owners, windows = _all_windows(self.sequences.lengths, max_items)
        if self.weights is not None:
            first = np.maximum(windows[:, FIRST], windows[:, START] + num_unlabelled)
            has_label = _have_any(self.weights, self.owners, first, windows[:, END])
            self.owners = self.owners[has_label]
            windows = windows[has_label]
        self.windows = windows
        self.lengths = windows[:, END] - windows[:, START]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int]:
        index %= len(self)
        owner = int(self.owners[index])
        start, end, first = self.windows[index].tolist()
        return self.user_ids[owner], self.sequences[owner][start:end], first - start

    def long_rows(self, index: int, most: int) -> np.ndarray:
        """Return the last items of an example's sequence before its row, at most `most`: all labels have only these."""
        index %= len(self)
        start = int(self.windows[index, START])
        return self.sequences[int(self.owners[index])][max(start - most, 0) : start]

    def first_label(self, index: int) -> tuple[int, int]:
        """Return the number of an example's sequence and the position of its first label there."""
        index %= len(self)
        return int(self.owners[index]), int(self.windows[index, FIRST])

    def label_weights(self, index: int) -> np.ndarray | None:
        """Return the weight of every label of an example, float32; None where all are 1."""
        if self.weights is None:
            return None
        number, first = self.first_label(index)
        _, rows, unlabelled = self[index]
        return self.weights[number][first : first + len(rows) - unlabelled]


class PrefixDataset(Dataset):
    """Every prefix of every training sequence with the item that follows it (seq2seq generator).

    Args:
        sequences: item rows of every user, oldest first.
        user_ids: of every sequence.
        max_history: most recent items kept of a prefix.
        with_first_items: include the empty prefix, whose target is the user's first item.
        weights: of the loss of every item, like `sequences`; an item with 0 is no target. None where all are 1.
    """

    def __init__(
        self,
        sequences: Sequence[np.ndarray],
        user_ids: Sequence[str],
        *,
        max_history: int,
        with_first_items: bool = False,
        weights: Sequence[np.ndarray] | None = None,
    ):
        self.sequences = RowLists.of(sequences)
        self.weights = None if weights is None else RowLists.of(weights)
        self.user_ids = list(user_ids)
        self.max_history = max_history
        first = 0 if with_first_items else 1
        counts = np.maximum(self.sequences.lengths - first, 0)
        self.owners = np.repeat(np.arange(len(counts)), counts)
        self.ends = first + _within(counts)
        if self.weights is not None:
            is_target = RowLists(self.weights.rows, self.weights.starts + first, counts).concatenated() > 0
            self.owners = self.owners[is_target]
            self.ends = self.ends[is_target]
        self.lengths = np.minimum(self.ends, max_history)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int]:
        index %= len(self)
        owner = int(self.owners[index])
        end = int(self.ends[index])
        rows = self.sequences[owner]
        return self.user_ids[owner], rows[max(end - self.max_history, 0) : end], int(rows[end])

    def long_rows(self, index: int, most: int) -> np.ndarray:
        """Return the last items of an example's sequence before its label, at most `most`."""
        number, end = self.first_label(index)
        return self.sequences[number][max(end - most, 0) : end]

    def first_label(self, index: int) -> tuple[int, int]:
        """Return the number of an example's sequence and the position of its label there."""
        index %= len(self)
        return int(self.owners[index]), int(self.ends[index])

    def label_weights(self, index: int) -> np.ndarray | None:
        """Return the weight of the label of an example, float32 `[1]`; None where all are 1."""
        if self.weights is None:
            return None
        number, end = self.first_label(index)
        return self.weights[number][end : end + 1]


class CausalCollator:
    """Collates examples into rows of a decoder-only model, input and target in sequence.

    Args:
        pad_id: of padding, which masks mark.
        packs: put several examples into a row, without attention between them, and compute what they share once a row.
            False for models that take no mask of the shape `[R, 1, S, S]`, or read the `long_rows` of examples.
        names_items: add the catalog rows of tokens to batches, for models that read more of an item than its tokens.
    """

    def __init__(self, pad_id: int, *, packs: bool = True, names_items: bool = False):
        self.pad_id = pad_id
        self.packs = packs
        self.names_items = names_items

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return `input_ids`, `position_ids` and `labels`, each `[R, S]`, and `attention_mask`.

        The mask is `[R, 1, S, S]`, additive, for packed rows, and `[R, S]` for padded ones. Where items are named,
        there are also `item_rows` and `item_labels`, `[R, S]`: the catalog row of the item that a token or a label
        belongs to, -1 and -100 where there is none. Where an example has soft targets, there are `SOFT_LABELS` of
        `distillation`, and the tokens of their branches follow those of the example. Where one has weights, there are
        `LABEL_WEIGHTS` `[R, S]`, 1 where nothing is weighted. Padded rows have the `long_rows` of their examples,
        `[R, H]`, -1 on the right.
        """
        if not self.packs:
            return self._padded(examples)
        groups: dict[bytes, list[Example]] = {}
        for example in examples:
            groups.setdefault(example.shared.tobytes(), []).append(example)
        has_teacher = any(example.soft_targets is not None for example in examples)
        has_weights = any(example.weights is not None for example in examples)
        rows = [self._packed(group, has_teacher=has_teacher, has_weights=has_weights) for group in groups.values()]
        return joined_rows(rows, pad_id=self.pad_id)

    def _packed(self, examples: Sequence[Example], *, has_teacher: bool, has_weights: bool) -> dict[str, Tensor]:
        """Pack examples whose shared tokens are the same."""
        shared = examples[0].shared
        soft = [example.soft_targets for example in examples]
        own = [np.concatenate([example.source, example.target]) for example in examples]
        branches = [NO_TOKENS if targets is None else targets.branches for targets in soft]
        packing = pack(np.array([len(a) + len(b) for a, b in zip(own, branches, strict=True)]), shared=len(shared))
        tokens = np.concatenate([part for pair in zip(own, branches, strict=True) for part in pair])
        sizes = np.array([len(example.source) for example in examples])[packing.owners]
        is_own = packing.positions < np.array([len(part) for part in own])[packing.owners]
        is_label = is_own & (packing.positions >= sizes)
        positions = packing.positions
        forks: dict[str, np.ndarray] = {}
        if has_teacher:
            positions = positions.copy()
            positions[~is_own] = np.concatenate([part.branch_positions for part in soft if part is not None])
            starts = np.concatenate([part.branch_forks for part in soft if part is not None])
            forks = {name: np.zeros_like(positions) for name in ("branches", "forks")}
            forks["branches"][~is_own] = starts + 1  # another number at every fork of a sequence
            forks["forks"][~is_own] = starts
        head = torch.from_numpy(shared).expand(packing.num_rows, -1)
        ignored = torch.full_like(head, IGNORED_LABEL)
        places = torch.arange(len(shared)).expand(packing.num_rows, -1)
        labels = packing.grid(np.where(is_label, tokens, IGNORED_LABEL), fill=IGNORED_LABEL)
        batch = {
            "input_ids": torch.cat([head, packing.grid(tokens, fill=self.pad_id)], 1),
            "position_ids": torch.cat([places, packing.grid(len(shared) + positions, fill=0)], 1),
            "attention_mask": packing.attention_mask(shared=len(shared), **forks),
            "labels": torch.cat([ignored, labels], 1),
        }
        if self.names_items:
            rows = np.full(len(tokens), NO_ITEM)
            rows[is_own] = np.concatenate([_item_rows(example) for example in examples])
            item_labels = np.where(is_label & (rows >= 0), rows, IGNORED_LABEL)
            batch["item_rows"] = torch.cat([torch.full_like(head, NO_ITEM), packing.grid(rows, fill=NO_ITEM)], 1)
            batch["item_labels"] = torch.cat([ignored, packing.grid(item_labels, fill=IGNORED_LABEL)], 1)
        if has_teacher:
            batch |= _soft_labels(own, soft, packing, shared=len(shared))
        if has_weights:
            weights = np.ones(len(tokens), dtype=np.float32)
            weights[is_label] = np.concatenate([_label_weights(example) for example in examples])
            return _weighted(batch, torch.cat([torch.ones(head.shape), packing.grid(weights, fill=1)], 1))
        return batch

    def _padded(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        rows = [example.tokens for example in examples]
        width = max(map(len, rows))
        shape = (len(rows), width)
        batch = {
            "input_ids": torch.full(shape, self.pad_id),
            "position_ids": torch.zeros(shape, dtype=torch.long),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED_LABEL),
        }
        if self.names_items:
            batch["item_rows"] = torch.full(shape, NO_ITEM)
            batch["item_labels"] = torch.full(shape, IGNORED_LABEL)
        batch |= _long_rows(examples)
        for line, (row, example) in enumerate(zip(rows, examples, strict=True)):
            tokens = torch.from_numpy(row)
            batch["input_ids"][line, : len(row)] = tokens
            batch["position_ids"][line, : len(row)] = torch.arange(len(row))
            batch["attention_mask"][line, : len(row)] = 1
            learned = slice(len(row) - len(example.target), len(row))
            batch["labels"][line, learned] = tokens[learned]
            if self.names_items:
                own = torch.from_numpy(_item_rows(example))
                batch["item_rows"][line, len(example.shared) : len(row)] = own
                labels = own[len(example.source) :]
                batch["item_labels"][line, learned] = labels.masked_fill(labels < 0, IGNORED_LABEL)
        if any(example.weights is not None for example in examples):
            weights = torch.ones(shape)
            for line, (row, example) in enumerate(zip(rows, examples, strict=True)):
                learned = slice(len(row) - len(example.target), len(row))
                weights[line, learned] = torch.from_numpy(_label_weights(example))
            return _weighted(batch, weights)
        return batch


class Seq2SeqCollator:
    """Collates examples into sources, padded on the left, and labels of an encoder-decoder model.

    Args:
        pad_id: of padding, which the mask marks.
        names_items: add the catalog rows of tokens to batches.
    """

    def __init__(self, pad_id: int, *, names_items: bool = False):
        self.pad_id = pad_id
        self.names_items = names_items

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` `[B, S]` and `labels` `[B, T]`.

        Where items are named, there are also `item_rows` `[B, S]` and `item_labels` `[B, T]`, as in `CausalCollator`.
        Where examples have `long_rows`, these are there, too, `[B, H]`, -1 on the right of shorter ones.
        """
        sources = [np.concatenate([example.shared, example.source]) for example in examples]
        targets = [torch.from_numpy(example.target) for example in examples]
        batch = {**left_padded(sources, pad_id=self.pad_id), "labels": _right_padded_labels(targets)}
        if self.names_items:
            rows = [torch.from_numpy(_item_rows(example)) for example in examples]
            cuts = [len(example.source) for example in examples]
            batch["item_rows"] = torch.full_like(batch["input_ids"], NO_ITEM)
            for line, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
                batch["item_rows"][line, batch["item_rows"].shape[1] - cut :] = row[:cut]
            labels = _right_padded_labels([row[cut:] for row, cut in zip(rows, cuts, strict=True)])
            batch["item_labels"] = labels.masked_fill(labels < 0, IGNORED_LABEL)
        batch |= _long_rows(examples)
        if any(example.weights is not None for example in examples):
            weights = [torch.from_numpy(_label_weights(example)) for example in examples]
            return _weighted(batch, nn.utils.rnn.pad_sequence(weights, batch_first=True, padding_value=1.0))
        return batch


def _weighted(batch: dict[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
    """Return a batch with the weights of its labels; what has none is no label."""
    labels = [name for name in ("labels", "item_labels") if name in batch]
    masked = {name: batch[name].masked_fill(weights == 0, IGNORED_LABEL) for name in labels}
    return batch | masked | {LABEL_WEIGHTS: weights}


def _label_weights(example: Example) -> np.ndarray:
    """Return the weight of every target token of an example, float32 `[T]`."""
    return np.ones(len(example.target), dtype=np.float32) if example.weights is None else example.weights


def _long_rows(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return the long histories of a batch as `long_rows` `[B, H]`, -1 on the right; nothing where none are read."""
    rows = [example.long_rows for example in examples if example.long_rows is not None]
    return {"long_rows": pad_rows(rows)} if rows else {}


def _soft_labels(
    own: Sequence[np.ndarray], soft: Sequence[SoftTargets | None], packing: Packing, *, shared: int
) -> dict[str, Tensor]:
    """Return the soft labels of packed examples, given the own tokens of each."""
    lengths = np.bincount(packing.owners, minlength=len(own))
    firsts = np.cumsum(lengths) - lengths
    cells: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for first, example, targets in zip(firsts, own, soft, strict=True):
        if targets is not None:
            after, predicted, added = targets.labels(example)
            row, column = np.divmod(packing.cells[first + after], packing.width)
            cells.append(row * (shared + packing.width) + shared + column)
            tokens.append(predicted)
            weights.append(added)
    shape = (packing.num_rows, shared + packing.width)
    return soft_label_tensors(_joined(cells), _joined(tokens), _joined(weights), shape=shape)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([NO_TOKENS, *arrays])


def _right_padded_labels(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=IGNORED_LABEL)


def _item_rows(example: Example) -> np.ndarray:
    """Return the catalog rows of an example's own tokens `[S + T]`, all -1 for text tasks."""
    if example.item_rows is None:
        return np.full(len(example.source) + len(example.target), NO_ITEM)
    return example.item_rows


def left_padded(rows: Sequence[Sequence[int] | np.ndarray], *, pad_id: int) -> dict[str, Tensor]:
    """Return token ids of several lengths as `input_ids` and `attention_mask` `[B, S]`, padded on the left."""
    attention_mask = [np.ones(len(row), dtype=np.int64) for row in rows]
    return {
        "input_ids": pad_rows(rows, fill=pad_id, on_the_left=True),
        "attention_mask": pad_rows(attention_mask, fill=0, on_the_left=True),
    }


def joined_rows(batches: Sequence[dict[str, Tensor]], *, pad_id: int) -> dict[str, Tensor]:
    """Concatenate packed batches, narrower ones padded on the right; padding attends to itself."""
    if len(batches) == 1:
        return batches[0]
    width = max(batch["input_ids"].shape[1] for batch in batches)
    fills = {"input_ids": pad_id, "position_ids": 0, "labels": IGNORED_LABEL}
    if "item_rows" in batches[0]:
        fills |= {"item_rows": NO_ITEM, "item_labels": IGNORED_LABEL}
    if "soft_totals" in batches[0]:
        fills["soft_totals"] = 0
    if LABEL_WEIGHTS in batches[0]:
        fills[LABEL_WEIGHTS] = 1
    rows: dict[str, list[Tensor]] = {name: [] for name in batches[0]}
    first_row = 0
    for batch in batches:
        if "soft_rows" in batch:
            rows["soft_rows"].append(batch["soft_rows"] + first_row)
            for name in ("soft_columns", "soft_tokens", "soft_weights"):
                rows[name].append(batch[name])
        first_row += len(batch["input_ids"])
        missing = width - batch["input_ids"].shape[1]
        for name, fill in fills.items():
            rows[name].append(functional.pad(batch[name], (0, missing), value=fill))
        mask = functional.pad(batch["attention_mask"], (0, missing, 0, missing), value=torch.finfo(torch.float32).min)
        for column in range(width - missing, width):
            mask[..., column, column] = 0.0  # a softmax over nothing would be NaN
        rows["attention_mask"].append(mask)
    return {name: torch.cat(parts) for name, parts in rows.items()}


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray], *, fill: int = NO_ITEM, on_the_left: bool = False) -> Tensor:
    """Stack rows of several lengths, such as histories of catalog rows, into int64 `[B, T]`; -1 pads on the right.

    Args:
        rows: of whole numbers.
        fill: value of the padding.
        on_the_left: pad the beginning of rows.
    """
    width = max(map(len, rows), default=0)
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        start = width - len(row) if on_the_left else 0
        line[start : start + len(row)] = row
    return torch.from_numpy(padded)


START, END, FIRST = range(3)  # columns of windows; FIRST is the position of the first label


def _all_windows(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of sequences: the sequence of each, int64 `[W]`, and start, end and first label `[W, 3]`."""
    distinct, kinds = np.unique(lengths, return_inverse=True)
    tables = [np.array(_windows(length, size), dtype=np.int64).reshape(-1, 3) for length in distinct.tolist()]
    sizes = np.array([len(table) for table in tables], dtype=np.int64)
    counts = sizes[kinds]
    places = np.repeat((np.cumsum(sizes) - sizes)[kinds], counts) + _within(counts)
    return np.repeat(np.arange(len(lengths)), counts), np.concatenate([np.empty((0, 3), np.int64), *tables])[places]


def _within(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, … for each of these counts, one after the other, int64."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _have_any(weights: RowLists, owners: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return which slices of the weights of their owners have one that is not 0, bool `[W]`."""
    before = np.append(0, np.cumsum(weights.concatenated() != 0))
    offsets = (np.cumsum(weights.lengths) - weights.lengths)[owners]
    return before[offsets + ends] > before[offsets + np.minimum(starts, ends)]


def _windows(length: int, size: int) -> list[tuple[int, int, int]]:
    """Cut a sequence into windows (start, end, first label), oldest first; steps of half a window from the end."""
    step = max(size // 2, 1)
    windows = []
    end = length
    while end > size:
        windows.append((end - size, end, end - step))
        end -= step
    return [(0, end, 0)][: min(end, 1)] + windows[::-1]
