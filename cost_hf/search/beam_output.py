"""What a search returns, and the expansion of finished codes to items."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cost_hf.search.certificate import Certificate
from cost_hf.semantic_ids.catalog_mask import TrieMask
from cost_hf.semantic_ids.trie import SidTrie


@dataclass(frozen=True, eq=False)
class BeamOutput:
    """Ranked items of every request, best first.

    Attributes:
        items: catalog rows, `[B, R]`, -1 where a request has fewer legal items than beams.
        scores: sums of natural-log probabilities, `[B, R]`, -inf where there is no item.
        codes: the items' codes, `[B, R, L]`, -1 where there is no item.
        prompt_states: last hidden states at all positions of the prompts, `[B, S, d]`, where they were asked for; of
            the encoder, or of a decoder-only model, whose last position predicts the first code.
        certificate: how much of the lists is proved to be the best of the catalog; None where that is not known: for
            models that search by `generate()`, and for beams that the model reranked.
    """

    items: Tensor
    scores: Tensor
    codes: Tensor
    prompt_states: Tensor | None = None
    certificate: Certificate | None = None

    def __repr__(self) -> str:
        """Summarise the shapes in one line."""
        requests, beams = self.items.shape
        return f"BeamOutput({requests} requests, {beams} items each, on {self.items.device})"


def expand_leaves(
    trie: SidTrie, nodes: Tensor, scores: Tensor, codes: Tensor, *, num_beams: int, mask: TrieMask | None
) -> BeamOutput:
    """Expand leaves `[B, R]` to items in beam order; items of one leaf share its score and follow the trie's order.

    Beams with score -inf are dead and give no item, whatever their node.
    """
    batch, beams = nodes.shape
    # without a mask, no more than `num_beams` items of one leaf can be listed
    rows, present = trie.leaf_rows(nodes.flatten(), limit=num_beams if mask is None else None)  # [B·R, m]
    rows = rows.view(batch, beams, -1)
    present = present.view(batch, beams, -1) & scores.isfinite()[..., None]
    if mask is not None:
        present = present & mask.keeps_items(rows)
    members = rows.shape[-1]
    order = present.flatten(1).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :num_beams]
    found = present.flatten(1).gather(1, order)
    beam = order // members
    items = rows.flatten(1).gather(1, order).masked_fill(~found, -1)
    item_scores = scores.gather(1, beam).masked_fill(~found, -torch.inf)
    item_codes = codes.gather(1, beam[..., None].expand(-1, -1, codes.shape[-1])).masked_fill(~found[..., None], -1)
    return BeamOutput(
        _pad(items, num_beams, -1), _pad(item_scores, num_beams, -torch.inf), _pad(item_codes, num_beams, -1)
    )


def _pad(values: Tensor, width: int, fill: float) -> Tensor:
    """Pad `[B, r, …]` to `[B, width, …]`."""
    missing = width - values.shape[1]
    if missing <= 0:
        return values
    return torch.cat([values, values.new_full((len(values), missing, *values.shape[2:]), fill)], dim=1)
