"""A T5 that reads merged codes beside one that reads them all: recall, and what a step of training costs.

    python benchmarks/token_merger.py --data DIR/amazon_industrial --model ID_OR_DIR [--seeds 0,1,2]
      [--rows merged_2,t5] [--epochs 12] [--precision bf16]

Run it in the root of the repository. Rows have the 8 codes, the T5 and the training of recipe
token_merger_industrial. `t5` reads 8 tokens an item, `merged_K` K latents of an attentive merger, `mean_2` two means
of codes; all write 8 codes. Nothing is chosen on test. The report goes to results/token_merger/.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "token_merger"
UNTRAINED = ["popularity", "item_knn", "markov", "text_last", "markov_text"]


def main() -> None:
    """Compare the rows and publish what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items.parquet and interactions.parquet")
    parser.add_argument("--model", required=True, help="text encoder, a Hub id or directory")
    parser.add_argument("--rows", default="merged_2,merged_4,mean_2,t5", help="the first is compared with all")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=None, help="those of the recipe by default")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--output_dir", default="runs/token_merger")
    known = parser.parse_args()
    directory = Path(known.output_dir)
    overrides: dict[str, Any] = {
        "data.path": known.data,
        "vectors.model": known.model,
        "evaluation.baselines": UNTRAINED,
        "training.precision": known.precision,
    }
    if known.epochs is not None:
        overrides["training.epochs"] = known.epochs
    if known.max_users is not None:
        overrides["evaluation.max_users"] = known.max_users
    cost_hf.compare(
        write_recipes(directory / "recipes", rows_of(), known.rows),
        ["markov_text"],
        overrides=overrides,
        hybrids=False,  # rows differ in how a history is read; what they add to each other is another question
        seeds=[int(seed) for seed in known.seeds.split(",")],
        output_dir=directory / "compare",
    )
    publish.main(str(directory / "compare"), str(RESULTS))


def rows_of() -> dict[str, dict[str, Any]]:
    """Return the recipes by row."""
    merged = recipe_content("token_merger_industrial")
    whole = {name: section for name, section in merged.items() if name not in ("method", "merger")}
    return {
        "merged_2": merged,
        "merged_4": with_fields(merged, {"merger.num_latents": 4}),
        "mean_2": with_fields(merged, {"merger.kind": "mean"}),
        "t5": whole,
    }


if __name__ == "__main__":
    main()
