"""What filters by columns, diverse lists and hourly changes of stock cost on a catalog of a shop.

    OMP_NUM_THREADS=1 python benchmarks/where.py [--items 1e5]

A made-up catalog with columns (price, brand, category, stock, description) under an untrained generator, whose
semantic IDs are Zipf draws, and under an untrained SASRec: what is measured does not depend on what a model has
learned. The filter keeps one item in a hundred. `compile`: the first request with a filter pays this, from conditions
to the mask over rows and, for a generator, over the nodes of the trie. A request asks for ten items for a history of
ten, seen items excluded; `filtered` and `diverse` (at most two items of a brand) take turns with `plain`, request by
request, and ratios are the medians of the ratios. `change`: `update_items` of the stock of 10,000 items, or of all
where there are fewer, in memory; `save`: `save_catalog` after it, which writes all columns.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import clock, new_parser, save, zipf_codes

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.recommender import SasRecRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_list import ItemList

TOP_K = 10
HISTORY = 10
BATCH = 64
WIDTH = 128
CHANGED = 10_000
WORDS = np.array([f"word{number}" for number in range(5_000)])
DESCRIPTION = 25  # words
WHERE = {"category": ["category 3"], "in_stock": True, "price": (None, 1e6)}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {"where": WHERE},
    "diverse": {"diversify": {"brand": 2}},
}


def columns_of(num_items: int) -> dict[str, Any]:
    """Return columns of which `WHERE` keeps about one item in a hundred: one category of 50, half of it in stock."""
    draw = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, 501)
    return {
        "price": np.round(draw.lognormal(3, 1, num_items), 2),
        "brand": np.array([f"brand {number}" for number in draw.choice(500, num_items, p=shares / shares.sum())]),
        "category": np.array([f"category {number}" for number in draw.integers(0, 50, num_items)]),
        "in_stock": draw.random(num_items) < 0.5,
        "description": [" ".join(WORDS[line]) for line in draw.integers(0, len(WORDS), (num_items, DESCRIPTION))],
    }


def systems(num_items: int) -> dict[str, Recommender]:
    """Return the recommenders by name."""
    ids = [f"item{row:07d}" for row in range(num_items)]
    columns = columns_of(num_items)
    codes = zipf_codes(num_items)
    catalog = Catalog.from_codes(ids, codes, level_sizes=(256,) * codes.shape[1], collisions="none")
    backbone = build_backbone(GeneratorOptions(), catalog, seed=0)
    clicks = np.zeros(num_items, dtype=np.int64)
    torch.manual_seed(0)
    model = SasRecModel(SasRecConfig(num_items=num_items, hidden_size=WIDTH)).eval()
    items = ItemList(tuple(ids), np.zeros(num_items, dtype=bool))
    return {
        "causal small, 20 beams": GenerativeRecommender(
            backbone, catalog.with_columns(columns), popularity=clicks, num_beams=20
        ),
        "SASRec": SasRecRecommender(model, items.with_columns(columns), popularity=clicks),
    }


def measure(name: str, system: Recommender, *, requests: int, rounds: int) -> dict[str, Any]:
    """Return a row of the table."""
    num_items = len(system.catalog)
    kept = int(CatalogMask.where(system.catalog, WHERE).dense(1).sum())
    draw = np.random.default_rng(1)
    ids = system.catalog.item_ids

    def histories(count: int) -> list[list[str]]:
        return [[ids[row] for row in line] for line in draw.integers(0, num_items, (count, HISTORY)).tolist()]

    singles = [histories(1) for _ in range(requests)]
    batches = [histories(BATCH) for _ in range(rounds)]
    row: dict[str, Any] = {
        "items": num_items,
        "system": name,
        "kept": kept / num_items,
        "compile ms": 1e3 * float(np.median([_seconds(_compiling(system)) for _ in range(9)])),
    }
    for label, inputs in (("", singles), (f", batch of {BATCH}", batches)):
        seconds = _in_turns(system, inputs)
        row[f"plain ms{label}"] = 1e3 * float(np.median(seconds["plain"])) / len(inputs[0])
        for variant in VARIANTS:
            if variant != "plain":
                row[f"{variant} / plain{label}"] = float(np.median(seconds[variant] / seconds["plain"]))
    return row | _changes(system)


def _compiling(system: Recommender) -> Callable[[], Any]:
    def run() -> None:
        mask = CatalogMask.where(system.catalog, WHERE)
        if isinstance(system, GenerativeRecommender):
            mask.on(system.trie)

    return run


def _in_turns(system: Recommender, inputs: list[list[list[str]]]) -> dict[str, np.ndarray]:
    """Return the seconds of every variant for every input."""
    for options in VARIANTS.values():
        system.recommend(inputs[0], top_k=TOP_K, **options)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for histories in inputs:
        for name, options in VARIANTS.items():
            start = clock()
            answers = system.recommend(histories, top_k=TOP_K, **options)
            seconds[name].append(clock() - start)
            if any(len(answer) != TOP_K for answer in answers):
                raise SystemExit(f"a list of {name} has fewer than {TOP_K} items; take a larger catalog")
    return {name: np.array(values) for name, values in seconds.items()}


def _changes(system: Recommender) -> dict[str, Any]:
    """Return what a change of the stock of many items costs, in memory and on disk."""
    draw = np.random.default_rng(2)
    count = min(CHANGED, len(system.catalog))
    in_memory = []
    on_disk = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "recommender"
        system.save_pretrained(directory)
        loaded = Recommender.from_pretrained(directory)
        loaded.recommend([loaded.catalog.item_ids[0]], top_k=1)  # what the first request sets up is there
        for _ in range(5):
            rows = draw.choice(len(system.catalog), count, replace=False)
            changed = [loaded.catalog.item_ids[row] for row in rows]
            stock = {"in_stock": draw.random(count) < 0.5}
            in_memory.append(_seconds(lambda ids=changed, values=stock: loaded.update_items(ids, columns=values)))
            on_disk.append(_seconds(lambda: loaded.save_catalog(directory)))
    return {"changed items": count, "change s": float(np.median(in_memory)), "save s": float(np.median(on_disk))}


def _seconds(run: Callable[[], Any]) -> float:
    start = clock()
    run()
    return clock() - start


def main() -> None:
    """Measure every system."""
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=float, nargs="+", default=[1e5], help="sizes of the catalog")
    parser.add_argument("--requests", type=int, default=30, help="single requests")
    parser.add_argument("--rounds", type=int, default=5, help="batches")
    options = parser.parse_args()
    rows = [
        measure(name, system, requests=options.requests, rounds=options.rounds)
        for items in map(int, options.items)
        for name, system in systems(items).items()
    ]
    save("where", rows, publish=options.publish, requests=options.requests, rounds=options.rounds)


if __name__ == "__main__":
    main()
