"""Fusion and learned ranking beside the rows that they combine, on six data sets.

    python benchmarks/hybrids.py --data DIR --model ID_OR_DIR --movielens DIR/ml-100k [--sets amazon_industrial,yelp]

Run it in the root of the repository. DIR holds the data sets as folders with items.parquet and interactions.parquet.
Every set is a `cost-hf compare` with three seeds, whose report goes to results/hybrids/. Some sets have untrained rows
alone, and large ones a sample of the test users: training was cut there, no row was dropped by its outcome. Nothing is
chosen on test.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish

RESULTS = Path(__file__).parent / "results" / "hybrids"
SEEDS = (0, 1, 2)
SASREC_TEXT = "benchmarks/sasrec_text_beauty.yaml"
SCORE_SUM = "benchmarks/score_sum_beauty.yaml"  # of SASRec on ids and on texts
COUNTED = ["markov_text"]  # untrained rows stand in every comparison; naming one keeps the trained ones out
LARGE = {"evaluation.max_users": 5000}
# recipes, the first of which gives data and vectors, rows, fields
SETS: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {
    "amazon_industrial": (["cost_industrial"], ["sasrec_ce", "sasrec_text", "cost"], {}),
    "amazon_scientific": (["cost_industrial"], ["sasrec_ce", "sasrec_text", "cost"], {}),
    "amazon_beauty": (["sasrec_beauty", SASREC_TEXT, SCORE_SUM], ["sasrec_ce"], {}),
    "yelp": (["cost_yelp"], COUNTED, LARGE),
    "amazon_games": (["cost_games"], COUNTED, LARGE),
    "ml-100k": (["cost_default"], COUNTED, {"data.reader": "movielens", "data.split": "time"}),
}


def main() -> None:
    """Compare the rows of every set, and publish both reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with a folder for each data set")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--movielens", default=None, help="directory with the files of MovieLens-100K")
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, separated by commas")
    parser.add_argument("--output_dir", default="runs/hybrids")
    known = parser.parse_args()
    for name in known.sets.split(","):
        recipes, systems, fields = SETS[name]
        path = known.movielens if name == "ml-100k" else str(Path(known.data) / name)
        overrides = {"data.path": path, "vectors.model": known.model, **fields}
        directory = Path(known.output_dir) / name
        cost_hf.compare(recipes, systems, overrides=overrides, seeds=SEEDS, output_dir=directory)
        publish.main(str(directory), str(RESULTS / name))


if __name__ == "__main__":
    main()
