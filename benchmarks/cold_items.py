"""Items that no part of the training has seen, added to the finished catalog: how well are they found, at what cost?

    python benchmarks/cold_items.py --data DIR/amazon_industrial --model ID_OR_DIR --publish

A seeded draw holds back a share of the items, with all of their clicks, from everything that is fitted: vectors,
quantizer, counts, models, weights of a fusion, trees of a ranker. Then `add_items` brings them in. Every user's last
click is a case with all earlier clicks as its history (added items included, for they are in the catalog then); the
cases whose target was held back are judged apart from the others. Nothing is chosen by the outcome: choices are made
with `--part validation`, where every user's last click is left out first and the one before it is the case.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cost_hf
from benchmarks.timing import machine
from cost_hf.data.item_texts import render_texts
from cost_hf.evaluation.statistics import bootstrap_interval
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json, write_json
from cost_hf.generators.collation import pad_rows
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.cold_item_quota import num_cold_items, with_cold_item_quota
from cost_hf.recommenders.rankers import Ranking

RESULTS = Path(__file__).parent / "results" / "cold_items.json"
SHARES = (0.0, 0.1, 0.2)
CUTOFFS = (10, 50)
BATCH = 256
PARTS = ["item_knn", "markov", "text_last", "text_mean", "sasrec_text"]  # all of them take new items
GENERATOR = "generative"
COBRA = "cobra_industrial"  # recipe
NEW_ITEM_SHARE = 0.3  # the better one of .1 and .3 by NDCG@10 on validation, with the untrained parts and lsa vectors
UNTRAINED = ("text_last", "popularity")  # rows without cold_share
# evaluation of the runs themselves, which is not read
SETTINGS = {"evaluation.baselines": ["popularity"], "evaluation.max_users": 100}


@dataclass(frozen=True)
class Draw:
    """What is fitted to, what is added, and the cases.

    Attributes:
        items, clicks: without the held-back items.
        added: rows of the held-back items.
        histories, targets: of all M cases, item ids.
    """

    items: pd.DataFrame
    clicks: pd.DataFrame
    added: pd.DataFrame
    histories: list[list[str]]
    targets: list[str]


def main() -> None:
    """Measure every system of every seed, then pool the cases of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items.parquet and interactions.parquet")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--recipe", default="cost_industrial", help="of the generator")
    parser.add_argument("--share", type=float, default=0.05, help="of the items that are held back")
    parser.add_argument("--seeds", default="0,1,2", help="of the draw and of the training")
    parser.add_argument("--part", default="test", choices=("test", "validation"), help="which clicks are the cases")
    parser.add_argument("--systems", default=None, help="rows that are measured, separated by commas; default all")
    parser.add_argument("--output_dir", default="runs/cold_items")
    parser.add_argument("--publish", action="store_true", help=f"also write {RESULTS}")
    known = parser.parse_args()
    if known.publish and (known.systems is not None or known.part != "test"):
        parser.error("--publish needs all systems and the test part")
    items = pd.read_parquet(Path(known.data) / "items.parquet")
    clicks = pd.read_parquet(Path(known.data) / "interactions.parquet").sort_values(["user_id", "position"])
    if known.part == "validation":
        clicks = clicks[clicks.duplicated("user_id", keep="last")]
    systems = all_systems(known.recipe)
    chosen = list(systems) if known.systems is None else known.systems.split(",")
    runs = []
    for seed in map(int, known.seeds.split(",")):
        draw = draw_items(items, clicks, share=known.share, seed=seed)
        texts = render_texts(draw.added, Recipe.load(known.recipe).vectors.template)
        folder = Path(known.output_dir) / f"seed-{seed}"
        found = {}
        for name in chosen:
            path = folder / f"{name}.json"
            if not path.is_file():
                recipe, fields = systems[name]
                overrides = {**SETTINGS, "vectors.model": known.model, **fields}
                print(f"seed {seed}, {name}", flush=True)
                run = cost_hf.train(
                    items=draw.items,
                    interactions=draw.clicks,
                    recipe=recipe,
                    overrides=overrides,
                    seed=seed,
                    output_dir=folder / name,
                    shared_dir=folder / "shared",
                )
                write_json(path, measure(run.recommender, draw, texts, (0.0,) if name in UNTRAINED else SHARES))
            found[name] = read_json(path)
        runs.append(of_seed(found, draw, seed))
    record = pooled(runs) | {"recipe": known.recipe, "share": known.share, "data": Path(known.data).name}
    write_json(RESULTS if known.publish else Path(known.output_dir) / "cold_items.json", record)
    for system, cells in record["rows"].items():
        print(system, {group: {k: round(cell["value"], 4) for k, cell in row.items()} for group, row in cells.items()})


def all_systems(recipe: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return recipe and fields of every system; those that others are parts of stand before them."""
    systems: dict[str, tuple[str, dict[str, Any]]] = {
        GENERATOR: (recipe, {}),
        "sasrec_text": (recipe, {"method": "sasrec", "model.inputs": "text"}),
        "cobra": (COBRA, {}),
    }
    for name in ("fusion", "ranker"):
        systems[name] = (recipe, {"method": name, f"{name}.parts": PARTS})
        systems[f"{name}_generative"] = (recipe, {"method": name, f"{name}.parts": [*PARTS, recipe]})
    copies = {"ranker.new_item_share": NEW_ITEM_SHARE}
    systems["ranker_new_items"] = (recipe, {**systems["ranker"][1], **copies})
    return systems | {name: (recipe, {"method": name}) for name in UNTRAINED}


def draw_items(items: pd.DataFrame, clicks: pd.DataFrame, *, share: float, seed: int) -> Draw:
    """Hold back a share of the items with all of their clicks."""
    draw = np.random.default_rng(seed)
    held = draw.choice(sorted(items["item_id"]), round(share * len(items)), replace=False).tolist()
    sequences = clicks.groupby("user_id", sort=True)["item_id"].agg(list)
    sequences = sequences[sequences.map(len) > 1]
    return Draw(
        items=items[~items["item_id"].isin(held)].reset_index(drop=True),
        clicks=clicks[~clicks["item_id"].isin(held)].reset_index(drop=True),
        added=items[items["item_id"].isin(held)].reset_index(drop=True),
        histories=[sequence[:-1] for sequence in sequences],
        targets=[sequence[-1] for sequence in sequences],
    )


def measure(system: Recommender, draw: Draw, texts: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    """Add the held-back items, and return the rank of every target for every share of positions reserved for them."""
    before = system.catalog
    codes = getattr(before, "codes", None)
    start = time.perf_counter()
    system.add_items(draw.added["item_id"].tolist(), texts)
    seconds = time.perf_counter() - start
    if codes is not None and not np.array_equal(system.catalog.codes[: len(before)], codes):
        raise AssertionError("adding items has changed semantic IDs")
    return {"add_seconds": seconds, "ranks": ranks_of(system, draw, shares), "machine": machine()}


def ranks_of(system: Recommender, draw: Draw, shares: Sequence[float]) -> dict[str, list[int]]:
    """Return the 1-based rank of every target in lists of the longest cutoff, 0 where it is not in, by share.

    Lists are those of `recommend(..., exclude_seen=False, cold_share=share)`, made once for all shares.
    """
    longest = max(CUTOFFS)
    found: dict[str, list[int]] = {f"{share:g}": [] for share in shares}
    for start in range(0, len(draw.targets), BATCH):
        histories = draw.histories[start : start + BATCH]
        rows = pad_rows([np.asarray(system.catalog.rows_of(history)) for history in histories])
        targets = np.asarray(system.catalog.rows_of(draw.targets[start : start + BATCH]))
        best = system.ranker_for(longest).rank(rows, top_k=longest)
        if most := num_cold_items(max(shares), longest):
            cold = system.ranker_for(most).rank(rows, top_k=most, mask=system.snapshot.cold_mask(None))
        for share in shares:
            listed = best
            if places := num_cold_items(share, longest):
                some = Ranking(cold.items[:, :places], cold.scores[:, :places])
                listed = with_cold_item_quota(best, some, share)
            hits = listed.items.cpu().numpy() == targets[:, None]
            found[f"{share:g}"] += np.where(hits.any(1), hits.argmax(1) + 1, 0).tolist()
    return found


def of_seed(found: dict[str, dict[str, Any]], draw: Draw, seed: int) -> dict[str, Any]:
    """Return the results of a seed as rows."""
    held = set(draw.added["item_id"])
    rows = {
        (f"{name}, cold_share {share}" if len(own["ranks"]) > 1 else name): ranks
        for name, own in found.items()
        for share, ranks in own["ranks"].items()
    }
    first = next(iter(found.values()))
    return {
        "seed": seed,
        "held_back": len(held),
        "items": len(draw.items) + len(held),
        "add_seconds": first["add_seconds"],
        "is_held": [target in held for target in draw.targets],
        "ranks": rows,
        "machine": first["machine"],
    }


def pooled(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return recall of all seeds together; the bootstrap draws users, who have one case per seed."""
    users = np.concatenate([np.arange(len(run["is_held"])) for run in runs])
    is_held = np.concatenate([run["is_held"] for run in runs])
    rows: dict[str, Any] = {}
    for system in runs[0]["ranks"]:
        ranks = np.concatenate([run["ranks"][system] for run in runs])
        rows[system] = {}
        for group, cases in (("held_back", is_held), ("others", ~is_held), ("all", np.ones_like(is_held))):
            rows[system][group] = {}
            for cutoff in CUTOFFS:
                hits = ((ranks[cases] > 0) & (ranks[cases] <= cutoff)).astype(float)
                interval = bootstrap_interval(hits, clusters=users[cases], draws=2000, seed=0)
                cell = {"value": interval.value, "low": interval.low, "high": interval.high}
                rows[system][group][f"recall@{cutoff}"] = cell
    return {
        "rows": rows,
        "seeds": [run["seed"] for run in runs],
        "held_back_items": [run["held_back"] for run in runs],
        "items": runs[0]["items"],
        "cases": {"held_back": int(is_held.sum()), "others": int((~is_held).sum())},
        "add_seconds": [round(run["add_seconds"], 2) for run in runs],
        "machine": runs[0]["machine"],
    }


if __name__ == "__main__":
    main()
