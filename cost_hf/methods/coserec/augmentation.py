"""The five operators of CoSeRec (arXiv 2108.06479, section 4), each over all sequences of a batch at once.

Sequences are catalog rows `[B, T]`, oldest first, with pads of -1 on the right; every operator returns rows of the same
width and their lengths. Draws come from torch's generator of the device, whose state checkpoints restore.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cost_hf.methods.contrastive import random_positions, share_of

PAD = -1
OPERATORS = ("substitute", "insert", "crop", "mask", "reorder")


@dataclass(frozen=True)
class Views:
    """An augmented view of every sequence of a batch.

    Attributes:
        rows: catalog rows `[B, T]`, -1 at pads and at masked positions.
        lengths: of the views, masked positions included, `[B]`.
    """

    rows: Tensor
    lengths: Tensor


class Augmentation:
    """Gives every sequence a view by one operator, which its length decides on.

    Args:
        rates: share of a sequence that each operator changes (crop: keeps), by name.
        short: operators for sequences of at most `short_length` items, in which random removals destroy too much.
        short_length: longest short sequence (the paper's K).
    """

    def __init__(self, rates: Mapping[str, float], *, short: Sequence[str], short_length: int):
        self.rates = dict(rates)
        self.short = tuple(short)
        self.short_length = short_length

    def views(self, rows: Tensor, similar: Tensor) -> Views:
        """Return a view of every sequence.

        Args:
            rows: `[B, T]`, no sequence is empty.
            similar: most similar item of every item, `[N]`.
        """
        lengths = (rows != PAD).sum(1)
        is_short = lengths <= self.short_length
        chosen = torch.where(is_short, self._drawn(self.short, rows), self._drawn(OPERATORS, rows))
        view = rows.clone()
        new_lengths = lengths.clone()
        for number, name in enumerate(OPERATORS):
            members = (chosen == number).nonzero()[:, 0]
            if len(members):
                made = _OPERATORS[name](rows[members], lengths[members], self.rates[name], similar)
                view[members] = made.rows
                new_lengths[members] = made.lengths
        return Views(view, new_lengths)

    def _drawn(self, names: Sequence[str], rows: Tensor) -> Tensor:
        """Return the number of a random operator among these for every sequence, `[B]`."""
        numbers = torch.tensor([OPERATORS.index(name) for name in names], device=rows.device)
        return numbers[torch.randint(len(names), (len(rows),), device=rows.device)]


def substitute(rows: Tensor, lengths: Tensor, rate: float, similar: Tensor) -> Views:
    """Replace a share of the items, at least one, by the most similar item of each."""
    is_chosen = random_positions(lengths, share_of(lengths, rate, least=1), width=rows.shape[1])
    return Views(torch.where(is_chosen, similar[rows.clamp_min(0)], rows), lengths)


def insert(rows: Tensor, lengths: Tensor, rate: float, similar: Tensor) -> Views:
    """Put the most similar item before a share of the items, at least one; the oldest ones of a full row fall out."""
    width = rows.shape[1]
    is_chosen = random_positions(lengths, share_of(lengths, rate, least=1), width=rows.shape[1])
    places = torch.arange(width, device=rows.device) + is_chosen.cumsum(1)  # of old items in the longer row
    longer = rows.new_full((len(rows), 2 * width), PAD)
    longer.scatter_(1, places, rows)
    before = torch.where(is_chosen, places - 1, places)
    longer.scatter_(1, before, torch.where(is_chosen, similar[rows.clamp_min(0)], rows))
    new_lengths = lengths + is_chosen.sum(1)
    first = (new_lengths - width).clamp_min(0)
    kept = longer.gather(1, first[:, None] + torch.arange(width, device=rows.device))
    return Views(kept, new_lengths.clamp_max(width))


def crop(rows: Tensor, lengths: Tensor, rate: float, similar: Tensor) -> Views:
    """Keep a share of the items, at least one, that stand side by side."""
    kept = share_of(lengths, rate, least=1)
    first = _below(lengths - kept + 1)
    index = first[:, None] + torch.arange(rows.shape[1], device=rows.device)
    part = rows.gather(1, index.clamp_max(rows.shape[1] - 1))
    is_kept = torch.arange(rows.shape[1], device=rows.device) < kept[:, None]
    return Views(part.masked_fill(~is_kept, PAD), kept)


def mask(rows: Tensor, lengths: Tensor, rate: float, similar: Tensor) -> Views:
    """Hide a share of the items; the model reads a vector of zeros there."""
    is_hidden = random_positions(lengths, share_of(lengths, rate), width=rows.shape[1])
    return Views(rows.masked_fill(is_hidden, PAD), lengths)


def reorder(rows: Tensor, lengths: Tensor, rate: float, similar: Tensor) -> Views:
    """Shuffle a share of the items that stand side by side."""
    count = share_of(lengths, rate)
    first = _below(lengths - count + 1)
    positions = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    is_inside = (positions >= first[:, None]) & (positions < (first + count)[:, None])
    # inside, random keys between those of the neighbours outside; elsewhere the position itself
    inside = first[:, None] + count[:, None] * torch.rand(rows.shape, device=rows.device)
    keys = torch.where(is_inside, inside, positions.to(inside.dtype))
    return Views(rows.gather(1, keys.argsort(dim=1, stable=True)), lengths)


_OPERATORS: dict[str, Callable[[Tensor, Tensor, float, Tensor], Views]] = {
    "substitute": substitute,
    "insert": insert,
    "crop": crop,
    "mask": mask,
    "reorder": reorder,
}


def _below(bounds: Tensor) -> Tensor:
    """Return a random whole number from 0 to below each bound, `[B]`."""
    drawn = torch.rand(len(bounds), dtype=torch.float64, device=bounds.device)
    return torch.minimum((drawn * bounds).long(), bounds - 1)
