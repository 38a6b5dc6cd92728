"""The day after: yesterday's model, the same with today's items, trained on by `cost-hf update`, and from scratch.

    python benchmarks/warm_start.py --data DIR/amazon_industrial --movielens DIR/ml-100k --model ID_OR_DIR --publish

MovieLens-100K is cut by real time: the first 80 % of the ratings, a day of the next 10 %, and the last 10 %, which is
ranked. Amazon Industrial is cut by the source's order: what it calls history, validation and test. Items that nobody
clicked before a day are new on it. All rows rank the same clicks of the last slice, each with all earlier clicks of
its user as history; an item that a model does not have is a miss, and is left out of the histories that it reads. In
every training the last clicks of a few users are held out for its choices. Minutes are CPU time of one thread, with
what a run needs besides: texts encoded, codes fitted, the guard. Settings are the defaults of an update.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cost_hf
from benchmarks.timing import machine
from cost_hf.data.movielens import read_movielens
from cost_hf.data.options import DataOptions
from cost_hf.data.splits import Targets
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.evaluation.statistics import bootstrap_interval
from cost_hf.experiments.recipe import Recipe
from cost_hf.experiments.updates.items import add_new_items
from cost_hf.files import read_json, write_json
from cost_hf.recommenders.base import Recommender

RESULTS = Path(__file__).parent / "results" / "warm_start.json"
RECIPE = "cost_industrial"
EPOCHS = ("training.epochs", "codes.epochs")
CUTOFF = 10
METRICS = (f"recall@{CUTOFF}", f"ndcg@{CUTOFF}")
HELD_OUT = {"valid": 0.2, "test": 0.05}  # shares of the users whose last click is of a part of a training
YESTERDAY = "yesterday"
WITH_ITEMS = "yesterday, with today's items"
WARM = "warm start"
SCRATCH = "from scratch"
TEMPLATES = {"amazon_industrial": "{title}. {brand}. {description}", "ml-100k": "{title}. {categories}"}
DIFFERENCES = {
    "warm start - yesterday": (WARM, YESTERDAY),
    "warm start - yesterday, with today's items": (WARM, WITH_ITEMS),
    "from scratch - warm start": (SCRATCH, WARM),
}


@dataclass(frozen=True)
class Days:
    """Clicks of three slices, and all items.

    Attributes:
        items: catalog of all slices.
        clicks: columns `user_id`, `item_id`, `day` (0, 1, 2) and `timestamp` or `position`; a user's in their order.
        template: of the item text.
    """

    items: pd.DataFrame
    clicks: pd.DataFrame
    template: str

    def until(self, day: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the items that were clicked until a day, and the clicks, the last ones of some users held out."""
        clicks = self.clicks.loc[self.clicks["day"] <= day]
        items = self.items.loc[self.items["item_id"].isin(clicks["item_id"])].reset_index(drop=True)
        is_last = ~clicks["user_id"].duplicated(keep="last")
        draws = clicks["user_id"].map(_draw)
        edges = np.cumsum(list(HELD_OUT.values()))
        parts = np.select([is_last & (draws < edges[0]), is_last & (draws < edges[1])], list(HELD_OUT), "train")
        return items, clicks.drop(columns="day").assign(part=parts)

    def new_items(self) -> pd.DataFrame:
        """Return the items that were clicked on day 1 for the first time."""
        known = self.clicks.loc[self.clicks["day"] == 0, "item_id"]
        return self.items.loc[self.items["item_id"].isin(self.clicks.loc[self.clicks["day"] == 1, "item_id"])].loc[
            lambda items: ~items["item_id"].isin(known)
        ]

    def cases(self, most: int, *, seed: int) -> list[tuple[str, list[str], str]]:
        """Return user, history and target of a seeded sample of clicks of day 2 on items that were clicked before."""
        known = set(self.clicks.loc[self.clicks["day"] < 2, "item_id"])
        found = []
        for user, own in self.clicks.groupby("user_id", sort=True):
            ids = own["item_id"].tolist()
            days = own["day"].tolist()
            found += [
                (str(user), ids[:place], ids[place])
                for place in range(1, len(ids))
                if days[place] == 2 and ids[place] in known and known & set(ids[:place])
            ]
        chosen = np.sort(np.random.default_rng(seed).permutation(len(found))[:most])
        return [found[case] for case in chosen]


def main() -> None:
    """Measure every system on both data sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory of amazon_industrial")
    parser.add_argument("--movielens", required=True, help="directory of MovieLens-100K")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    for name in ("amazon", "movielens"):
        text = f"share of the epochs of the recipes on {name} [1.0]"
        parser.add_argument(f"--{name}-budget", type=float, default=1.0, help=text)
    parser.add_argument("--sets", default=",".join(TEMPLATES), help="data sets, separated by commas")
    parser.add_argument("--cases", type=int, default=3000, help="most clicks that are ranked [3000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/warm_start.json")
    parser.add_argument("--publish", action="store_true", help=f"write {RESULTS.name}")
    known = parser.parse_args()
    systems: dict[str, dict[str, Any]] = {
        "cost": {"vectors.model": known.model},
        "sasrec_ce": {"method": "sasrec"},
        "markov": {"method": "markov"},
    }
    output = RESULTS if known.publish else Path(known.output)
    found: dict[str, Any] = {
        "recipe": RECIPE,
        "seed": known.seed,
        "machine": machine(),
        "data": read_json(output)["data"] if output.is_file() else {},  # of other sets
    }
    sets = {
        "amazon_industrial": (amazon(known.data), known.amazon_budget),
        "ml-100k": (movielens(known.movielens), known.movielens_budget),
    }
    for name in known.sets.split(","):
        days, budget = sets[name]
        cases = days.cases(known.cases, seed=known.seed)
        facts = {f"clicks_{day}": int((days.clicks["day"] == day).sum()) for day in range(3)}
        found["data"][name] = {
            **facts,
            "items": len(days.until(0)[0]),
            "new_items": len(days.new_items()),
            "cases": len(cases),
            "budget": budget,
            "systems": {},
        }
        for system, fields in systems.items():
            with tempfile.TemporaryDirectory() as scratch:
                own = fields | shorter(fields, budget)
                measured = measure(days, cases, own, Path(scratch), seed=known.seed)
            found["data"][name]["systems"][system] = measured
            write_json(output, found)
            print(
                name, system, {row: cells["recall@10"]["value"] for row, cells in measured["rows"].items()}, flush=True
            )


def shorter(fields: Mapping[str, Any], budget: float) -> dict[str, int]:
    """Return the fields of a recipe that give it a share of its epochs."""
    recipe = Recipe.load(RECIPE, fields)
    epochs = {entry.dotted: entry.value for entry in recipe.fields() if entry.dotted in EPOCHS}
    return {name: max(1, round(budget * value)) for name, value in epochs.items()}


def measure(
    days: Days, cases: list[tuple[str, list[str], str]], fields: Mapping[str, Any], scratch: Path, *, seed: int
) -> dict[str, Any]:
    """Return recall, NDCG and minutes of the four models of a system, and paired differences."""
    hits: dict[str, dict[str, np.ndarray]] = {}
    minutes = {}
    start = time.process_time()
    run = train(days, 0, fields, scratch / "run", seed=seed)
    minutes[YESTERDAY] = (time.process_time() - start) / 60
    hits[YESTERDAY] = metrics(run, cases)
    recommender = Recommender.from_pretrained(scratch / "run")
    if "texts" in recommender.new_item_inputs:  # a model that knows items by rows takes them by training alone
        add_new_items(recommender, days.new_items())
    hits[WITH_ITEMS] = metrics(recommender, cases)
    start = time.process_time()
    log = days.clicks.loc[days.clicks["day"] == 1].drop(columns="day")
    update = cost_hf.update_run(scratch / "run", clicks=log, items=days.new_items(), seed=seed)
    minutes[WARM] = (time.process_time() - start) / 60
    record = dict(update.record or {})
    kept = scratch / "run" / "updates" / f"{record['number']:04d}-refused"
    hits[WARM] = metrics(update.recommender if update.is_accepted else Recommender.from_pretrained(kept), cases)
    start = time.process_time()
    again = train(days, 1, fields, scratch / "again", seed=seed)
    minutes[SCRATCH] = (time.process_time() - start) / 60
    hits[SCRATCH] = metrics(again, cases)
    users = np.array([user for user, _, _ in cases], dtype=object)
    rows = {
        row: {name: interval(values, users) for name, values in own.items()} | {"minutes": minutes.get(row)}
        for row, own in hits.items()
    }
    differences = {
        name: {metric: interval(hits[one][metric] - hits[other][metric], users) for metric in METRICS}
        for name, (one, other) in DIFFERENCES.items()
    }
    update_facts = {name: record[name] for name in ("is_accepted", "reason", "options", "clicks", "items", "guard")}
    update_facts["items"] = {"new": update_facts["items"]["new"]}
    return {"rows": rows, "differences": differences, "update": update_facts}


def train(days: Days, day: int, fields: Mapping[str, Any], directory: Path, *, seed: int) -> Recommender:
    """Train on the clicks until a day."""
    items, clicks = days.until(day)
    common = {
        "data.split": "source",
        "data.split_column": "part",
        "data.on_unknown_item": "drop",
        "vectors.template": days.template,
        "evaluation.baselines": [],
        "evaluation.max_users": 50,
        "evaluation.num_beams": 20,
        "evaluation.cutoffs": [10],
    }
    overrides = {**common, **fields}
    run = cost_hf.train(
        items=items,
        interactions=clicks,
        recipe=RECIPE,
        overrides=overrides,
        seed=seed,
        output_dir=directory,
    )
    return run.recommender


def metrics(recommender: Recommender, cases: list[tuple[str, list[str], str]]) -> dict[str, np.ndarray]:
    """Return recall and NDCG of every case, float64 `[M]`; a history of unknown items alone is a miss."""
    catalog = recommender.catalog
    histories = [[item for item in history if item in catalog] for _, history, _ in cases]
    asked = [place for place, case in enumerate(cases) if histories[place] and case[2] in catalog]
    targets = Targets(
        np.array([cases[place][0] for place in asked], dtype=object),
        [np.asarray(catalog.rows_of(histories[place]), dtype=np.int64) for place in asked],
        np.asarray(catalog.rows_of([cases[place][2] for place in asked]), dtype=np.int64),
    )
    ranked = evaluate_ranker(
        recommender.ranker_for(20),
        targets,
        sid_keys=None,
        num_items=len(catalog),
        exclude_seen=False,
        top_k=CUTOFF,
        batch_size=64,
        progress=False,
    )
    ranks = np.full(len(cases), np.nan)
    ranks[asked] = ranked.item_rank
    found = per_user_metrics(ranks, cutoffs=[CUTOFF])
    return {name: found[name] for name in METRICS}


def interval(values: np.ndarray, users: np.ndarray) -> dict[str, float]:
    """Return a mean with its 95 % interval over users."""
    found = bootstrap_interval(values, clusters=users, draws=2000, seed=0)
    return {"value": found.value, "low": found.low, "high": found.high}


def movielens(directory: str) -> Days:
    """Return the ratings of MovieLens-100K in three slices of time."""
    raw = read_movielens(DataOptions(reader="movielens", path=directory))
    clicks = raw.interactions[["user_id", "item_id", "timestamp"]].astype({"user_id": str, "item_id": str})
    ordered = clicks.sort_values("timestamp", kind="stable").reset_index(drop=True)
    day = np.searchsorted(np.array([0.8, 0.9]) * len(ordered), np.arange(len(ordered)), side="right")
    items = raw.items.astype({"item_id": str})
    return Days(items, ordered.assign(day=day), TEMPLATES["ml-100k"])


def amazon(directory: str) -> Days:
    """Return Amazon Industrial in the three parts of its source."""
    items = pd.read_parquet(Path(directory) / "items.parquet")
    clicks = pd.read_parquet(Path(directory) / "interactions.parquet").sort_values(["user_id", "position"])
    day = clicks["split"].map({"history": 0, "valid": 1, "test": 2})
    # a later part never comes before an earlier one of its user
    day = day.groupby(clicks["user_id"]).cummax()
    kept = clicks[["user_id", "item_id", "position"]].assign(day=day).reset_index(drop=True)
    return Days(items, kept, TEMPLATES["amazon_industrial"])


def _draw(user: str) -> float:
    """Return a number from 0 to below 1 that depends on a user alone."""
    digest = hashlib.blake2b(f"held out\0{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


if __name__ == "__main__":
    main()
