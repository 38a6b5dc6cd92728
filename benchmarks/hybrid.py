"""What one request to a hybrid costs beside its parts: learned ranking, the fusion of the same parts, and each of them.

    python train.py --recipe ranker_counting --data.path DIR/amazon_industrial --evaluation.baselines '[]' \\
        --output_dir COUNTING
    python benchmarks/hybrids.py --data DIR --model ID_OR_DIR --sets amazon_industrial --output_dir OUT
    OMP_NUM_THREADS=1 python benchmarks/hybrid.py --data DIR/amazon_industrial \\
        --runs COUNTING OUT/amazon_industrial/runs/ranker-2.2 OUT/amazon_industrial/runs/ranker_generative-2.2

Requests are the latest clicks of users, one at a time: `recommend` of ten items without those of the history. All
systems of a run take turns request by request, so that they see the same load; `against the slowest part` is the median
over the requests of the ratio to the part with the largest median. The weights of the fusion are equal, and its time
does not depend on them. A hybrid asks its parts one after the other, so the sum of their times bounds its own.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from timing import clock, new_parser, save

from cost_hf.files import read_json
from cost_hf.methods.fusion.recommender import FusionRecommender
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.hybrid import text_vectors_of

TOP_K = 10
HISTORY = 20
WARM_UP = 3


def histories_of(clicks: pd.DataFrame, requests: int) -> list[list[str]]:
    """Return the latest clicks of as many users, drawn by a seed."""
    sequences = clicks.sort_values(["user_id", "position"]).groupby("user_id", sort=True)["item_id"].agg(list)
    drawn = np.random.default_rng(0).choice(len(sequences), requests, replace=False)
    return [sequences.iloc[user][-HISTORY:] for user in drawn]


def systems_of(run: Path) -> dict[str, Recommender]:
    """Return the hybrid of a run by its kind, the fusion of its parts, and the parts."""
    hybrid = Recommender.from_pretrained(run)
    if not hybrid.parts:
        raise SystemExit(f"{run} holds a recommender of kind {hybrid.kind}, expected a hybrid")
    fusion = FusionRecommender.combine(hybrid.parts, [1.0 / len(hybrid.parts)] * len(hybrid.parts))
    return {"fusion": fusion, hybrid.kind: hybrid, **hybrid.parts}


def seconds_of(systems: dict[str, Recommender], histories: list[list[str]]) -> dict[str, np.ndarray]:
    """Return the seconds of every system for every history."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for history in [*histories[:WARM_UP], *histories]:
        for name, system in systems.items():
            start = clock()
            system.recommend(history, top_k=TOP_K)
            seconds[name].append(clock() - start)
    return {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}


def rows_of(run: str, systems: dict[str, Recommender], histories: list[list[str]]) -> list[dict[str, Any]]:
    """Return a row for every system of a run."""
    seconds = seconds_of(systems, histories)
    parts = [name for name, system in systems.items() if not system.parts]
    slowest = max(parts, key=lambda name: np.median(seconds[name]))
    return [
        {
            "run": run,
            "system": name,
            "parts": len(systems[name].parts) or "",
            "p50 ms": 1e3 * float(np.median(values)),
            "p95 ms": 1e3 * float(np.quantile(values, 0.95)),
            "against the slowest part": float(np.median(values / seconds[slowest])),
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    """Measure every run."""
    parser = new_parser(__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="finished runs of hybrids on the data")
    parser.add_argument("--data", type=Path, required=True, help="directory with interactions.parquet")
    parser.add_argument("--requests", type=int, default=200, help="requests, each of another user")
    options = parser.parse_args()
    histories = histories_of(pd.read_parquet(options.data / "interactions.parquet"), options.requests)
    rows = []
    runs = {}
    for number, run in enumerate(options.runs, start=1):
        systems = systems_of(run)
        results = read_json(run / "evaluation" / "results.json")
        fusion = systems["fusion"]
        vectors = text_vectors_of(fusion.parts, fusion.catalog)
        runs[str(number)] = {
            "recipe": results["recipe"]["name"],
            "seed": results["seed"],
            "items": len(fusion.catalog),
            "parts": list(fusion.parts),
            "text_dim": None if vectors is None else vectors.shape[1],
        }
        rows += rows_of(str(number), systems, histories)
    about = {"data": options.data.name, "requests": options.requests, "runs": runs}
    save("hybrid", rows, publish=options.publish, **about)


if __name__ == "__main__":
    main()
