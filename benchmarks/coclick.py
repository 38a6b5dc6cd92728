"""CoST with co-clicked items as positives beside CoST, on two data sets.

    python benchmarks/coclick.py --data DIR --model ID_OR_DIR [--sets amazon_industrial]

Run it in the root of the repository. DIR holds the data sets as folders with items.parquet and interactions.parquet.
Every set is a `cost-hf compare` with three seeds, whose report goes to results/coclick/. Both rows have the same
vectors, steps, generator and search; they differ in `codes.positives` alone. Nothing was tuned on either.
"""

import argparse
from pathlib import Path

import cost_hf
from benchmarks import publish

RESULTS = Path(__file__).parent / "results" / "coclick"
SEEDS = (0, 1, 2)
SETS = ("amazon_industrial", "amazon_scientific")
RECIPES = ["cost_industrial", "benchmarks/coclick.yaml"]


def main() -> None:
    """Compare both rows on every set, and publish the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with a folder for each data set")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, separated by commas")
    parser.add_argument("--output_dir", default="runs/coclick")
    known = parser.parse_args()
    for name in known.sets.split(","):
        overrides = {"data.path": str(Path(known.data) / name), "vectors.model": known.model}
        directory = Path(known.output_dir) / name
        cost_hf.compare(RECIPES, ["cost"], overrides=overrides, seeds=SEEDS, output_dir=directory)
        publish.main(str(directory), str(RESULTS / name))


if __name__ == "__main__":
    main()
