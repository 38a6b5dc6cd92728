"""What long histories change inside of a GLASS: ranks of true prefixes in the beams, and how far the gates open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cost_hf.search.beam_search import beam_search
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets
    from cost_hf.methods.glass.ranker import GlassRanker

GROUPS = (0, 1, 2, 4, 8, 16)  # numbers of retrieved items at which a group begins


def describe_long_history(
    ranker: GlassRanker, catalog: Catalog, targets: Targets, *, batch_size: int
) -> dict[str, Any]:
    """Return section `long_history` of results.json.

    Args:
        ranker: of the recommender.
        catalog: its items.
        targets: M cases.
        batch_size: cases at a time.

    Returns:
        `prefixes`: for every depth, of the cases whose true prefix was in the beam one level before, their number
        (`cases`), the share whose prefix is in the beam still (`kept`), the mean rank of these (`rank`, 1 is the first)
        and how much higher it is than one level before (`change`), as the paper's CRP. `gates`, where items are
        retrieved: by the number of items with the true first code (`retrieved`, the least of a group), `cases` and
        the mean gate over layers, later levels and dimensions (`gate`).
    """
    found: dict[str, Any] = {"prefixes": summarised(prefix_ranks(ranker, catalog, targets, batch_size=batch_size))}
    if ranker.generator.config.use_retrieval:
        found["gates"] = by_retrieved(*mean_gates(ranker, targets, batch_size=batch_size))
    return found


def prefix_ranks(ranker: GlassRanker, catalog: Catalog, targets: Targets, *, batch_size: int) -> np.ndarray:
    """Return the 1-based rank of every case's true prefix in the beam of each depth, `[M, L]`; 0 where it is in none.

    The beam of a depth is that of a search over the prefixes of this depth.
    """
    codes = np.asarray(catalog.codes)
    vocabulary = ranker.prompts.vocabulary
    ranks = np.zeros((len(targets), codes.shape[1]), dtype=np.int64)
    for depth in range(1, codes.shape[1] + 1):
        sizes = tuple(vocabulary.level_sizes[:depth])
        prefixes = np.unique(codes[~catalog.removed, :depth], axis=0)
        names = [str(number) for number in range(len(prefixes))]
        cut = Catalog.from_codes(names, prefixes, level_sizes=sizes, collisions="none")
        tokens = SidVocabulary(sizes, first_id=vocabulary.first_id)
        trie = SidTrie.from_catalog(cut)
        for batch, inputs in _batches(ranker, targets, batch_size):
            found = beam_search(
                ranker.generator,
                inputs["input_ids"],
                inputs["attention_mask"],
                trie=trie,
                vocabulary=tokens,
                num_beams=ranker.num_beams,
                normalization=ranker.normalization,
                model_kwargs=inputs["history"],
            )
            true = torch.from_numpy(codes[targets.items[batch], :depth].astype(np.int64)).to(found.codes.device)
            is_true = (found.codes == true[:, None]).all(-1) & (found.items >= 0)
            rank = torch.where(is_true.any(1), is_true.int().argmax(1) + 1, 0)
            ranks[batch, depth - 1] = rank.cpu().numpy()
    return ranks


def summarised(ranks: np.ndarray) -> list[dict[str, float | int | None]]:
    """Return cases, kept share, mean rank and its mean change for every depth of `prefix_ranks`; None for no case."""
    before = np.ones(len(ranks), dtype=np.int64)
    rows: list[dict[str, float | int | None]] = []
    for own in ranks.T:
        reached = before > 0
        kept = reached & (own > 0)
        rows.append(
            {
                "cases": int(reached.sum()),
                "kept": float(kept.sum() / reached.sum()) if reached.any() else None,
                "rank": float(own[kept].mean()) if kept.any() else None,
                "change": float((own - before)[kept].mean()) if kept.any() else None,
            }
        )
        before = own
    return rows


@torch.inference_mode()
def mean_gates(ranker: GlassRanker, targets: Targets, *, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many items the true first code of every case retrieves, int64 `[M]`, and the mean gate, `[M]`."""
    model: Any = ranker.generator
    retrieved = np.zeros(len(targets), dtype=np.int64)
    gates = np.zeros(len(targets))
    layers = [block.layer[1].gate for block in model.decoder.block]
    for batch, inputs in _batches(ranker, targets, batch_size):
        history = inputs["history"]
        labels = ranker.prompts.labels(torch.from_numpy(targets.items[batch])).to(model.device)
        with _outputs_of(layers) as outputs:
            model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, **history)
        first = labels[:, :1] - model.config.first_code_id
        counts = model.retrieved_counts(first, history["bank_tokens"], history["bank_starts"])
        retrieved[batch] = (counts.sum((1, 2)) / model.config.num_levels).long().cpu().numpy()
        if outputs:  # none for semantic IDs of one level, whose only code is the first
            shares = torch.stack([logits[:, 1:].sigmoid().float().mean((1, 2)) for logits in outputs])
            gates[batch] = shares.mean(0).cpu().numpy()
    return retrieved, np.where(retrieved > 0, gates, 0.0)


def by_retrieved(retrieved: np.ndarray, gates: np.ndarray) -> list[dict[str, float | int]]:
    """Return cases and mean gate by the number of retrieved items, for groups that have cases."""
    group = np.searchsorted(GROUPS, retrieved, side="right") - 1
    return [
        {"retrieved": least, "cases": int((group == place).sum()), "gate": float(gates[group == place].mean())}
        for place, least in enumerate(GROUPS)
        if (group == place).any()
    ]


def _batches(ranker: GlassRanker, targets: Targets, size: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield indices of cases, and what the model reads of them."""
    device = ranker.generator.device
    for start in range(0, len(targets), size):
        batch = np.arange(start, min(start + size, len(targets)))
        histories = torch.from_numpy(targets.histories_matrix(batch))
        users = [str(targets.user_ids[case]) for case in batch]
        input_ids, attention_mask = ranker.prompts.inputs(histories, user_ids=users)
        prompt = {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}
        yield batch, prompt | {"history": ranker.history_inputs(histories)}


@contextmanager
def _outputs_of(layers: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of layers while the context is open."""
    outputs: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
