"""Items that no part of the training has seen, added to the finished catalog: how well are they found, at what cost?

    python benchmarks/cold_items.py --data DIR/amazon_industrial --model ID_OR_DIR --publish

A seeded draw holds back a share of the items, with all of their clicks, from everything that is fitted: vectors,
quantizer, popularity, generator, SASRec on texts. Then `add_items` brings them in. Every user's last click is a case
with all earlier clicks as its history (added items included, for they are in the catalog then); the cases whose target
was held back are judged apart from the others. Nothing is chosen by the outcome.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cost_hf
from benchmarks.timing import machine
from cost_hf.evaluation.statistics import bootstrap_interval
from cost_hf.files import read_json, write_json
from cost_hf.generators.collation import pad_rows
from cost_hf.methods.counting.counting import Popularity, TextLast
from cost_hf.recommenders.rankers import ScoringRanker

RESULTS = Path(__file__).parent / "results" / "cold_items.json"
SHARES = (0.0, 0.1, 0.2)
CUTOFFS = (10, 50)
BATCH = 256


def main() -> None:
    """Measure every seed, then pool their cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items.parquet and interactions.parquet")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--recipe", default="cost_industrial")
    parser.add_argument("--share", type=float, default=0.05, help="of the items that are held back")
    parser.add_argument("--seeds", default="0,1,2", help="of the draw and of the training")
    parser.add_argument("--output_dir", default="runs/cold_items")
    parser.add_argument("--publish", action="store_true", help=f"also write {RESULTS}")
    known = parser.parse_args()
    items = pd.read_parquet(Path(known.data) / "items.parquet")
    clicks = pd.read_parquet(Path(known.data) / "interactions.parquet").sort_values(["user_id", "position"])
    runs = []
    for seed in map(int, known.seeds.split(",")):
        path = Path(known.output_dir) / f"seed-{seed}.json"
        if not path.is_file():
            write_json(path, measure(items, clicks, known, seed=seed))
        runs.append(read_json(path))
    record = pooled(runs) | {"recipe": known.recipe, "share": known.share, "data": Path(known.data).name}
    write_json(RESULTS if known.publish else Path(known.output_dir) / "cold_items.json", record)
    for system, cells in record["rows"].items():
        print(system, {group: {k: round(cell["value"], 4) for k, cell in row.items()} for group, row in cells.items()})


def measure(items: pd.DataFrame, clicks: pd.DataFrame, known: argparse.Namespace, *, seed: int) -> dict[str, Any]:
    """Train without the held-back items, add them, and return the rank of every user's last click."""
    draw = np.random.default_rng(seed)
    held = set(draw.choice(sorted(items["item_id"]), round(known.share * len(items)), replace=False).tolist())
    kept_items = items[~items["item_id"].isin(held)].reset_index(drop=True)
    kept_clicks = clicks[~clicks["item_id"].isin(held)].reset_index(drop=True)
    added = items[items["item_id"].isin(held)].reset_index(drop=True)
    tables = {"items": kept_items, "interactions": kept_clicks, "recipe": known.recipe, "seed": seed}
    settings = {"vectors.model": known.model, "evaluation.baselines": ["popularity"]}
    folder = Path(known.output_dir) / f"run-{seed}"
    ours = cost_hf.train(**tables, overrides=settings, output_dir=folder / "generative").recommender
    dense = settings | {"method": "sasrec", "model.inputs": "text"}
    sasrec = cost_hf.train(**tables, overrides=dense, output_dir=folder / "sasrec_text").recommender
    texts = ours.encoder.render(added)
    before = ours.catalog
    start = time.perf_counter()
    ours.add_items(added["item_id"].tolist(), texts)
    seconds = time.perf_counter() - start
    if not np.array_equal(ours.catalog.codes[: len(before)], before.codes):
        raise AssertionError("adding items has changed semantic IDs")
    sasrec.add_items(added["item_id"].tolist(), texts)
    sequences = clicks.groupby("user_id", sort=True)["item_id"].agg(list)
    sequences = sequences[sequences.map(len) > 1]
    histories, targets = [sequence[:-1] for sequence in sequences], [sequence[-1] for sequence in sequences]
    ranks = {
        f"{name}, cold_share {share:g}": recommended(system, histories, targets, share)
        for name, system in (("generative", ours), ("sasrec_text", sasrec))
        for share in SHARES
    }
    vectors = sasrec.catalog.vectors
    train = [ours.catalog.rows_of(list(sequence)) for sequence in kept_clicks.groupby("user_id")["item_id"].agg(list)]
    for name, scorer in (("text_last", TextLast(vectors)), ("popularity", Popularity.fit(train, len(ours.catalog)))):
        ranker = ScoringRanker(scorer, popularity=ours.popularity, item_ids=ours.catalog.item_ids)
        ranks[name] = ranked(ranker, ours.catalog, histories, targets)
    return {
        "seed": seed,
        "held_back": len(held),
        "items": len(items),
        "add_seconds": seconds,
        "is_held": [target in held for target in targets],
        "ranks": ranks,
        "machine": machine(),
    }


def recommended(system: Any, histories: list[list[str]], targets: list[str], share: float) -> list[int]:
    """Return the 1-based rank of every target in lists of the longest cutoff, 0 where it is not in."""
    found: list[int] = []
    for start in range(0, len(histories), BATCH):
        lists = system.recommend(histories[start : start + BATCH], max(CUTOFFS), False, cold_share=share)
        for answers, target in zip(lists, targets[start : start + BATCH], strict=True):
            ids = [answer.item_id for answer in answers]
            found.append(ids.index(target) + 1 if target in ids else 0)
    return found


def ranked(ranker: ScoringRanker, catalog: Any, histories: list[list[str]], targets: list[str]) -> list[int]:
    """Return the same for a baseline."""
    found: list[int] = []
    for start in range(0, len(histories), BATCH):
        rows = pad_rows([np.asarray(catalog.rows_of(history)) for history in histories[start : start + BATCH]])
        items = ranker.rank(rows, top_k=max(CUTOFFS)).items.numpy()
        hits = items == np.asarray(catalog.rows_of(targets[start : start + BATCH]))[:, None]
        found += np.where(hits.any(1), hits.argmax(1) + 1, 0).tolist()
    return found


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
