"""FAMAE's own metrics against the recommendations that its vectors lead to, over five settings.

    python benchmarks/famae_settings.py --data DIR/amazon_industrial --output_dir runs/famae_settings

ReSID (arXiv 2602.02338, Figure 3) reports that both metrics of the first stage rise with recall. Every setting trains
FAMAE, codes and a generator; the table has both metrics on validation targets beside the test recall, and rank
correlations (Spearman) of each metric with recall over the settings. `--new_items` compares the id embeddings of items
without a training click instead: zeros against the mean of the trained ones, by the cosine of an item's vector with the
mean vector of the history.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

import cost_hf
from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.ranking import evaluate_ranker, per_user_metrics
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import write_json
from cost_hf.item_vectors.famae.options import NEW_ITEMS
from cost_hf.methods.codes_stage import vector_stage
from cost_hf.methods.counting.counting import TextMean
from cost_hf.methods.training_stages import ENCODER
from cost_hf.recommenders.rankers import ScoringRanker
from cost_hf.stages import Stages

TARGET = Path(__file__).parent / "results" / "famae_settings.json"
METRICS = {"metric 1": "target_recall@10", "metric 2": "item_id_recall@10"}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "one epoch": {"vectors.epochs": 1},
    "four epochs": {"vectors.epochs": 4},
    "d 32": {"vectors.dim": 32},
    "id alone": {"vectors.fields": []},
}


def measure(arguments: argparse.Namespace, name: str, changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train one setting and return its metrics."""
    overrides = {"data.path": arguments.data, "evaluation.baselines": [], **arguments.overrides, **changes}
    run = cost_hf.train(
        recipe=arguments.recipe,
        overrides=overrides,
        seed=seed,
        output_dir=Path(arguments.output_dir) / f"{name.replace(' ', '-')}-{seed}",
        shared_dir=Path(arguments.output_dir) / "shared",
    )
    described = run.results["vectors"]
    row = run.results["rows"]["recommender"]["item"]["seen_allowed"]
    return {
        "setting": name,
        "seed": seed,
        "epochs": described["epochs"],
        **{label: described["validation"][metric] for label, metric in METRICS.items()},
        "cases": run.results["protocol"]["cases"],
        "recall@10": row["recall@10"]["value"],
        "ndcg@10": row["ndcg@10"]["value"],
    }


def compare_new_items(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train FAMAE once and rank the test cases by both sorts of vectors; nothing else is trained."""
    recipe = Recipe.load(arguments.recipe, {"data.path": arguments.data, **arguments.overrides})
    data = prepare_data(recipe.data)
    stages = Stages(Path(arguments.output_dir) / "new_items")
    stages.claim(data.tables.source_digest, overwrite=False)
    texts = list(vector_stage(stages, recipe.vectors, data).texts)
    encoder = ItemEncoder.load(stages.output_dir / ENCODER)
    is_clicked = data.split.popularity(len(texts))[data.split.test.items] > 0
    rows = []
    for name in NEW_ITEMS:
        encoder.options = replace(encoder.options, new_items=name)  # type: ignore[type-var]
        ranker = ScoringRanker(
            TextMean(encoder.encode(texts)),
            popularity=data.split.popularity(len(texts)),
            item_ids=data.tables.items["item_id"].tolist(),
        )
        lists = evaluate_ranker(
            ranker, data.split.test, sid_keys=None, num_items=len(texts), exclude_seen=False, top_k=100, batch_size=256
        )
        row: dict[str, Any] = {"new_items": name}
        for part, chosen in (("clicked", is_clicked), ("unclicked", ~is_clicked)):
            metrics = per_user_metrics(lists.item_rank[chosen], cutoffs=[10, 100])
            row |= {f"{part}_cases": int(chosen.sum())}
            row |= {f"{part}_{metric}": float(metrics[metric].mean()) for metric in ("recall@10", "recall@100")}
        rows.append(row)
    return rows


def main() -> None:
    """Train all settings and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory of the tables")
    parser.add_argument("--output_dir", required=True, help="of the runs, which are continued where they were stopped")
    parser.add_argument("--recipe", default="resid_industrial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--new_items", action="store_true", help="compare the id embeddings of unclicked items instead")
    parser.add_argument("--overrides", type=json.loads, default={}, help="recipe fields of all settings, as JSON")
    parser.add_argument("--publish", action="store_true", help=f"write {TARGET.name}")
    arguments = parser.parse_args()
    if arguments.new_items:
        for row in compare_new_items(arguments):
            cells = (
                f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print("  ".join(cells))
        return
    rows = [measure(arguments, name, own, seed) for name, own in SETTINGS.items() for seed in arguments.seeds]
    print(f"{'setting':12} seed epochs  metric 1  metric 2  R@10    N@10")
    for row in rows:
        print(
            f"{row['setting']:12} {row['seed']:4} {row['epochs']:6.0f}  {row['metric 1']:.4f}    {row['metric 2']:.4f}"
            f"    {row['recall@10']:.4f}  {row['ndcg@10']:.4f}"
        )
    recalls = [row["recall@10"] for row in rows]
    correlations = {label: float(spearmanr([row[label] for row in rows], recalls).statistic) for label in METRICS}
    for label, value in correlations.items():
        print(f"Spearman of {label} with R@10: {value:.2f} over {len(rows)} runs")
    if arguments.publish:
        data = Path(arguments.data).name
        content = {"data": data, "overrides": arguments.overrides, "rows": rows, "spearman": correlations}
        write_json(TARGET, content)


if __name__ == "__main__":
    main()
