"""GLASS beside the same T5 without long histories, its ablations, and causal generators with the same window.

    python benchmarks/glass.py [--sets toy,movielens] [--movielens DIR/ml-100k] [--model ID_OR_DIR] [--seeds 0,1,2]
      [--rows glass,glass_off,causal] [--epochs 4]

Run it in the root of the repository. `toy` is recipe glass_toy_long, toy news with 300 to 1,000 clicks a reader;
`movielens` is recipe glass_movielens, which needs the files of MovieLens-100K and a text encoder. Rows of a set have
the same semantic IDs, window and data. Rows on T5 have the same training; those on the causal generator, which learns
all positions of a window at once, have the passes and the learning rate of recipe cost_quickstart. Nothing is chosen on
test. Reports go to results/glass/.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "glass"
SETS = {"toy": "glass_toy_long", "movielens": "glass_movielens"}
CAUSAL = {
    "generator.kind": "causal",
    "long_history.retrieval": False,
    "long_history.positions": False,
    "training.epochs": 33,
    "training.batch_size": 32,
    "training.learning_rate": 4.0e-3,
    "training.embedding_learning_rate_multiplier": 1.0,
    "training.validate_every": 3,
}
ROWS: dict[str, dict[str, Any]] = {
    "glass": {},
    "glass_no_tier_token": {"long_history.tier_token": False},
    "glass_no_retrieval": {"long_history.retrieval": False},
    "glass_off": {"long_history.tier_token": False, "long_history.retrieval": False},
    "causal": CAUSAL | {"long_history.tier_token": False},
    "causal_tier_token": CAUSAL,
}
BASELINES = ["popularity", "item_knn", "markov"]


def main() -> None:
    """Compare the rows of every set and publish what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="toy", help=f"of {', '.join(SETS)}, separated by commas")
    parser.add_argument("--movielens", default=None, help="directory with the files of MovieLens-100K")
    parser.add_argument("--model", default=None, help="text encoder of MovieLens; that of its recipe by default")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--rows", default=None, help="the first is compared with all others; all rows by default")
    parser.add_argument("--epochs", type=int, default=None, help="of the rows on T5; those of the recipe by default")
    parser.add_argument("--output_dir", default="runs/glass")
    known = parser.parse_args()
    for name in known.sets.split(","):
        directory = Path(known.output_dir) / name
        base = recipe_content(SETS[name])
        if known.epochs is not None:
            base = with_fields(base, {"training.epochs": known.epochs})
        overrides: dict[str, Any] = {"evaluation.baselines": BASELINES}
        if name == "movielens":
            overrides["data.path"] = known.movielens
            if known.model is not None:
                overrides["vectors.model"] = known.model
        rows = {name: with_fields(base, changes) for name, changes in ROWS.items()}
        cost_hf.compare(
            write_recipes(directory / "recipes", rows, known.rows),
            ["markov"],
            overrides=overrides,
            hybrids=False,
            seeds=[int(seed) for seed in known.seeds.split(",")],
            output_dir=directory / "compare",
        )
        publish.main(str(directory / "compare"), str(RESULTS / name))
        publish.publish_sections(directory / "compare", RESULTS / name, ("long_history",))


if __name__ == "__main__":
    main()
