"""What sampled negatives cost SASRec in accuracy, beside the softmax over the whole catalog that they estimate.

    python benchmarks/sampled_softmax.py --data DIR/amazon_games [--seeds 0,1,2] [--epochs 40] [--shared_negatives 8192]
      [--max_users 5000] [--publish]

Both rows have the body and the optimisation of recipe sasrec_beauty, which were tuned for the full softmax. Every case
is ranked over the whole catalog; nothing is chosen on test. Differences are paired by user, and their intervals cover
seeds where there are several. A killed call continues.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import cost_hf
from benchmarks.timing import machine, put_into_readme, table
from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.evaluation.statistics import SystemValues, interval_of, nested_means
from cost_hf.files import read_json, write_json
from cost_hf.methods.sasrec.options import SasRecModelOptions
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "sampled_softmax.json"
BASE = "sasrec_beauty"
FULL = "cross_entropy"
SAMPLED = "sampled_softmax"
SEEN = ("seen_allowed", "seen_excluded")
CUTOFF = 10
METRICS = tuple(f"{metric}@{CUTOFF}" for metric in ("recall", "ndcg"))


def main() -> None:
    """Train both rows with every seed, and print or publish their metrics and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.parquet and interactions.parquet")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=None, help="of training; those of the recipe by default")
    parser.add_argument("--shared_negatives", type=int, default=None, help="of a step; the default of the option")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/sampled_softmax"))
    parser.add_argument("--publish", action="store_true", help="also write the results file and README.md")
    known = parser.parse_args()
    folder = known.output_dir / known.data.name
    overrides: dict[str, Any] = {"data.path": str(known.data), "evaluation.baselines": ["popularity"]}
    if known.epochs is not None:
        overrides["training.epochs"] = known.epochs
    if known.max_users is not None:
        overrides["evaluation.max_users"] = known.max_users
    runs: dict[str, list[Path]] = {}
    for loss in (FULL, SAMPLED):
        recipe = write_recipe(folder, loss)
        own = (
            {} if loss == FULL or known.shared_negatives is None else {"model.shared_negatives": known.shared_negatives}
        )
        runs[loss] = [folder / f"{loss}-{seed}" for seed in known.seeds.split(",")]
        for seed, directory in zip(known.seeds.split(","), runs[loss], strict=True):
            cost_hf.train(recipe=recipe, overrides=overrides | own, seed=int(seed), output_dir=directory)
    record = {
        "data": known.data.name,
        "recipe": BASE,
        "overrides": {name: value for name, value in overrides.items() if name != "data.path"},
        "seeds": [int(seed) for seed in known.seeds.split(",")],
        "shared_negatives": known.shared_negatives or SasRecModelOptions().shared_negatives,
        "machine": machine(),
        **compared(runs),
    }
    lines = [{"row": name, **printed(cells)} for name, cells in record["rows"].items()]
    print(table(lines))
    if known.publish:
        write_json(RESULTS, record)
        about = {name: record[name] for name in ("data", "seeds", "shared_negatives", "overrides")}
        put_into_readme("sampled_softmax", {"machine": about | record["machine"], "rows": lines})


def write_recipe(folder: Path, loss: str) -> str:
    """Write the recipe of a row and return its path."""
    content = recipe_content(BASE)
    del content["vectors"]  # no row reads texts
    content["model"] = content["model"] | {"loss": loss}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{loss}.yaml"
    path.write_text(yaml.safe_dump(content | {"name": loss}, sort_keys=False), encoding="utf-8")
    return str(path)


def compared(runs: Mapping[str, list[Path]]) -> dict[str, Any]:
    """Return metrics of both rows and of their difference, sampled minus full, with 95 % intervals.

    Args:
        runs: directories of the seeds of each row.
    """
    rows: dict[str, Any] = {loss: {} for loss in runs} | {f"{SAMPLED} - {FULL}": {}}
    cases = 0
    for seen in SEEN:
        ranks = {loss: [_ranks(directory, seen) for directory in own] for loss, own in runs.items()}
        users = ranks[FULL][0].index.to_numpy()
        systems = {loss: _system([part.reindex(users) for part in parts]) for loss, parts in ranks.items()}
        cases = len(users)
        drawn = nested_means(systems, clusters=users)
        values = {loss: system.per_case().mean(axis=0) for loss, system in systems.items()}
        drawn_difference = drawn[SAMPLED] - drawn[FULL]
        for place, metric in enumerate(METRICS):
            for loss in runs:
                rows[loss].setdefault(seen, {})[metric] = _cell(values[loss][place], drawn[loss][:, place])
            difference = values[SAMPLED][place] - values[FULL][place]
            rows[f"{SAMPLED} - {FULL}"].setdefault(seen, {})[metric] = _cell(difference, drawn_difference[:, place])
    for loss, directories in runs.items():
        trainings = [
            read_json(directory / "evaluation" / "results.json")["stages"]["sasrec"] for directory in directories
        ]
        rows[loss]["training_minutes"] = [round(own["seconds"] / 60, 2) for own in trainings]  # by the wall clock
        rows[loss]["peak_mb"] = [own["peak_mb"] for own in trainings]
    return {"cases": cases, "rows": rows}


def _ranks(directory: Path, seen: str) -> "pd.Series[float]":
    """Return the rank of the target of every test user, nan beyond the list."""
    frame = pd.read_parquet(directory / "evaluation" / "ranks.parquet")
    own = frame[(frame["row"] == MAIN_ROW) & (frame["unit"] == "item") & (frame["seen"] == seen)]
    return own.set_index("user_id")["rank"].astype("Float64").astype(float)


def _system(parts: list["pd.Series[float]"]) -> SystemValues:
    """Return the metrics of the runs of a row on the same users, `[S, M, C]`."""
    tables = [per_user_metrics(part.to_numpy(dtype=np.float64, na_value=np.nan), [CUTOFF]) for part in parts]
    values = np.stack([np.stack([own[metric] for metric in METRICS], axis=1) for own in tables])
    return SystemValues(values, quantizer_of=range(len(parts)))


def _cell(value: float, means: np.ndarray) -> dict[str, float]:
    interval = interval_of(float(value), means)
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def printed(cells: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of a row as text, by column."""
    return {
        f"{metric}, {seen}": "{value:.4f} [{low:.4f}, {high:.4f}]".format(**cells[seen][metric])
        for seen in SEEN
        for metric in METRICS
    }


if __name__ == "__main__":
    main()
