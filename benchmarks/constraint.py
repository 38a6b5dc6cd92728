"""What the constraint costs of a decoding step, and what masks add: milliseconds summed over the four levels.

    OMP_NUM_THREADS=1 python benchmarks/constraint.py [--items 1e5 1e6] [--rows 20 1000]

`stock` is transformers' `PrefixConstrainedLogitsProcessor` over a dict of token prefixes, flat or nested; its output
and that of `SidLogitsProcessor` must be identical. `carried` is what `beam_search` does instead: children of the nodes
that the beams carry, their log-probabilities gathered, the others at -inf. `masked` adds a shared mask of half the
catalog and 20 denied items for every 20 rows. Building a mask: 1e5 item ids looked up; `compile` is the first use with
a trie, `seen` compiles the denied items of all requests, which every search pays. Each figure is the median of five
interleaved rounds of ten calls.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import interleaved, new_parser, save, zipf_codes
from torch import Tensor
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from cost_hf import CatalogMask, SidLogitsProcessor, SidTrie, SidVocabulary
from cost_hf.semantic_ids.catalog_mask import TrieMask, log_legal
from cost_hf.semantic_ids.item_list import ItemList

LEVELS = 4
SIZE = 256
BEAMS = 20
IDS = 100_000
ROUNDS = 5
CALLS = 10


def main() -> None:
    """Measure every combination."""
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--rows", type=int, nargs="+", default=[BEAMS, 1000])
    arguments = parser.parse_args()
    rows = []
    for items in map(int, arguments.items):
        codes = zipf_codes(items, levels=LEVELS, size=SIZE)
        vocabulary = SidVocabulary((SIZE,) * LEVELS)
        trie = SidTrie(codes.astype(np.uint8), vocabulary.level_sizes)
        tokens = vocabulary.encode(torch.from_numpy(codes))
        tables = flat_table(tokens), nested_table(tokens)
        mask_columns = masks(trie)
        for count in arguments.rows:
            steps = measure(trie, vocabulary, tokens, tables, count)
            rows.append({"items": items, "rows": count, **steps, **mask_columns})
        del tables
    save(
        "constraint",
        rows,
        publish=arguments.publish,
        unit="ms over 4 levels; masks: ms",
        levels=LEVELS,
        codes_per_level=SIZE,
    )


def measure(trie: SidTrie, vocabulary: SidVocabulary, tokens: Tensor, tables: Any, count: int) -> dict[str, float]:
    """Return milliseconds of every variant for `count` rows at random prefixes, and ratios to the stock step."""
    picked = torch.from_numpy(np.random.default_rng(1).integers(0, len(tokens), count))
    ids = torch.cat([torch.zeros(count, 1, dtype=torch.long), tokens[picked]], dim=1)
    scores = torch.randn(count, vocabulary.size).log_softmax(-1)
    processors = {
        "stock tuple dict": PrefixConstrainedLogitsProcessor(FlatFunction(tables[0]), 1),
        "stock nested dict": PrefixConstrainedLogitsProcessor(NestedFunction(tables[1]), 1),
        "SidLogitsProcessor": SidLogitsProcessor(trie, vocabulary),
    }
    for level in range(LEVELS):
        expected = processors["stock tuple dict"](ids[:, : level + 1], scores)
        if not torch.equal(processors["SidLogitsProcessor"](ids[:, : level + 1], scores), expected):
            raise SystemExit(f"SidLogitsProcessor differs from the stock step at level {level}")
    shape = (max(count // BEAMS, 1), min(count, BEAMS))
    nodes = [trie.prefix(vocabulary.decode(tokens[picked])[:, :level]).view(shape) for level in range(LEVELS)]
    mask = request_mask(trie.num_items, shape[0]).on(trie)
    variants = {
        name: at_all_levels(lambda level, own=processor: own(ids[:, : level + 1], scores))
        for name, processor in processors.items()
    }
    variants["carried"] = at_all_levels(lambda level: carried(trie, level, nodes[level], scores, None))
    variants["masked"] = at_all_levels(lambda level: carried(trie, level, nodes[level], scores, mask))
    seconds = in_a_row(variants)
    stock = seconds["stock tuple dict"]
    ratios = {f"stock / {name}": stock / seconds[name] for name in ("SidLogitsProcessor", "carried", "masked")}
    return {**{name: 1e3 * value for name, value in seconds.items()}, **ratios}


def carried(trie: SidTrie, level: int, nodes: Tensor, scores: Tensor, mask: TrieMask | None) -> Tensor:
    """Return the log-probabilities of the children of nodes `[B, R]`, `[B, R, m]`."""
    codes, children, legal = trie.children(level, nodes.flatten())
    if mask is not None:
        legal = legal & mask.keeps_nodes(level, children.unflatten(0, nodes.shape)).flatten(0, 1)
    first = 3 + level * SIZE
    return scores[:, first : first + SIZE].gather(1, codes).add_(log_legal(legal, scores.dtype))


def masks(trie: SidTrie) -> dict[str, float]:
    """Return milliseconds of building masks of `trie`'s items."""
    names = tuple(f"item{row:08d}" for row in range(trie.num_items))
    catalog = ItemList(names, np.zeros(trie.num_items, dtype=bool))
    order = np.random.default_rng(2).permutation(trie.num_items)
    wanted = [names[row] for row in order[:IDS]]
    built = CatalogMask.from_item_ids(catalog, allowed=wanted)
    table = built.dense(1)[0]
    batches = {f"seen {requests} x {BEAMS} ms": seen(trie.num_items, requests) for requests in (1, 50)}
    variants: dict[str, Callable[[], Any]] = {
        "mask from 1e5 ids ms": lambda: CatalogMask.from_item_ids(catalog, allowed=wanted),
        "compile ms": lambda: CatalogMask(trie.num_items, table).on(trie),
        "compile again ms": lambda: built.on(trie),
    }
    variants |= {
        name: lambda own=rows: CatalogMask(trie.num_items, denied=own).on(trie) for name, rows in batches.items()
    }
    return {name: 1e3 * value for name, value in in_a_row(variants).items()}


def in_a_row(variants: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return seconds a call; a round is `CALLS` of them, so that none pays for caches that another variant filled."""

    def repeated(run: Callable[[], Any]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(CALLS):
                run()

        return calls

    seconds = interleaved({name: repeated(run) for name, run in variants.items()}, rounds=ROUNDS)
    return {name: value / CALLS for name, value in seconds.items()}


def at_all_levels(step: Callable[[int], Tensor]) -> Callable[[], None]:
    """Return a call of `step` at every level; results are let go, as in decoding."""

    def steps() -> None:
        for level in range(LEVELS):
            step(level)

    return steps


def request_mask(items: int, requests: int) -> CatalogMask:
    """Return half the catalog for all, less 20 items of each request."""
    return CatalogMask(items, torch.arange(items) % 2 == 0).without(seen(items, requests))


def seen(items: int, requests: int) -> Tensor:
    """Return random catalog rows `[requests, 20]`."""
    return torch.from_numpy(np.random.default_rng(3).integers(0, items, (requests, BEAMS)))


class FlatFunction:
    """Prefix function over a dict from token prefixes to lists of tokens; the answer follows one start token."""

    def __init__(self, table: dict[tuple[int, ...], list[int]]):
        self.table = table

    def __call__(self, _batch: int, ids: Tensor) -> list[int]:
        """Return the tokens that may follow."""
        return self.table[tuple(ids.tolist()[1:])]


class NestedFunction(FlatFunction):
    """The same over dicts in dicts."""

    def __call__(self, _batch: int, ids: Tensor) -> list[int]:
        """Return the tokens that may follow."""
        place: Any = self.table
        for token in ids.tolist()[1:]:
            place = place[token]
        return list(place)


def flat_table(tokens: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens that follow each prefix of `tokens` `[N, L]`."""
    table: dict[tuple[int, ...], dict[int, None]] = defaultdict(dict)
    for sid in map(tuple, tokens.tolist()):
        for level, token in enumerate(sid):
            table[sid[:level]][token] = None
    return {prefix: list(following) for prefix, following in table.items()}


def nested_table(tokens: Tensor) -> dict[int, Any]:
    """Return `tokens` `[N, L]` as dicts in dicts."""
    root: dict[int, Any] = {}
    for sid in tokens.tolist():
        place = root
        for token in sid:
            place = place.setdefault(token, {})
    return root


if __name__ == "__main__":
    main()
