"""Kinds of codes under one generator: the same vectors, split, epochs and seeds; only `codes.kind` differs.

    python benchmarks/code_kinds.py --data.path DIR --vectors.model ID_OR_DIR [--kinds cost,random] [--seeds 0,1]

Every run is an ordinary run directory, so the command can be stopped and repeated. The table averages item metrics over
seeds; intervals are paired bootstraps over users of the seed averages, so they hold for these seeds and say nothing
about others.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cost_hf import train
from cost_hf.cli import read_overrides
from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.evaluation.statistics import bootstrap_means, interval_of
from cost_hf.files import write_json

METRICS = ("recall@10", "ndcg@10")
FLOOR = "random"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cost_industrial")
    parser.add_argument("--kinds", default="cost,rqvae,both,rkmeans,random")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--output_dir", default="runs/code_kinds")
    known, rest = parser.parse_known_args()
    # a run must not stop where another goes on: epochs are fixed
    overrides = {"training.patience": None, **read_overrides(rest, program=parser.prog)}
    seeds = [int(seed) for seed in known.seeds.split(",")]
    directories = {
        (kind, seed): Path(known.output_dir) / f"{kind}-{seed}" for kind in known.kinds.split(",") for seed in seeds
    }
    results = {}
    for (kind, seed), directory in directories.items():
        run = train(recipe=known.recipe, overrides=overrides | {"codes.kind": kind}, seed=seed, output_dir=directory)
        results[kind, seed] = run.results
    report = summarize(directories, results)
    write_json(Path(known.output_dir) / "code_kinds.json", report)
    print(format_report(report))


def summarize(directories: dict, results: dict) -> dict:
    """Pool the runs: seed averages per user, intervals over users, and what each kind's codes look like."""
    kinds = list(dict.fromkeys(kind for kind, _ in directories))
    users, values = None, {}
    for (kind, _), directory in directories.items():
        ranks = pd.read_parquet(directory / "evaluation" / "ranks.parquet")
        own = ranks[ranks["row"] == "recommender"]
        for (unit, seen), block in own.groupby(["unit", "seen"], sort=True):
            users = block["user_id"].to_numpy()
            metrics = per_user_metrics(block["rank"].astype("float64").to_numpy(), [10])
            for metric in METRICS:
                values.setdefault((kind, unit, seen, metric), []).append(metrics[metric])
    keys = list(values)
    table = np.stack([np.mean(values[key], axis=0) for key in keys], axis=1)
    draws = dict(zip(keys, bootstrap_means(table, clusters=users, draws=2000, seed=0).T, strict=True))
    means = {key: float(np.mean(values[key])) for key in keys}
    rows: dict = {}
    for key in keys:
        kind, unit, seen, metric = key
        cell = vars(interval_of(means[key], draws[key])) | {"seeds": [float(np.mean(part)) for part in values[key]]}
        if (FLOOR, unit, seen, metric) in draws and kind != FLOOR:
            floor = (FLOOR, unit, seen, metric)
            cell["minus_random"] = vars(interval_of(means[key] - means[floor], draws[key] - draws[floor]))
        rows.setdefault(kind, {}).setdefault(unit, {}).setdefault(seen, {})[metric] = cell
    one = next(iter(results.values()))
    health = {kind: [results[pair]["semantic_ids"] for pair in results if pair[0] == kind] for kind in kinds}
    costs = {kind: [results[pair]["stages"] for pair in results if pair[0] == kind] for kind in kinds}
    baselines = {name: cells for name, cells in one["rows"].items() if name != "recommender"}
    identity = {name: one[name] for name in ("data_digest", "split_digest", "versions", "device", "protocol")}
    return {"rows": rows, "baselines": baselines, "semantic_ids": health, "stages": costs, **identity}


def format_report(report: dict) -> str:
    """Return the table as text."""
    lines = [
        f"{'kind':<10}{'R@10 item':<28}{'minus random':<30}{'N@10 item':<10}{'R@10 SID':<10}"
        f"{'collided':<10}{'perplexity':<14}seconds (quantizer, generator)"
    ]
    for kind, row in report["rows"].items():
        recall, ndcg = (row["item"]["seen_allowed"][metric] for metric in METRICS)
        sid = row["sid"]["seen_allowed"]["recall@10"]["value"]
        gap = recall.get("minus_random")
        health = report["semantic_ids"][kind][0]
        perplexity = "/".join(f"{level['perplexity']:.0f}" for level in health["levels"])
        cost = [report["stages"][kind][0][name]["seconds"] for name in ("quantizer", "generator")]
        lines.append(
            f"{kind:<10}{_cell(recall):<28}{_cell(gap) if gap else '':<30}{ndcg['value']:<10.4f}{sid:<10.4f}"
            f"{health['collided_share']:<10.3f}{perplexity:<14}{cost[0]:.0f}, {cost[1]:.0f}"
        )
    return "\n".join(lines)


def _cell(cell: dict) -> str:
    return f"{cell['value']:.4f} [{cell['low']:.4f}, {cell['high']:.4f}]"


if __name__ == "__main__":
    main()
