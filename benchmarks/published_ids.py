"""Published identifiers of Amazon Scientific under one generator: does the published order of tokenizers hold?

    python benchmarks/published_ids.py --data DIR/amazon_scientific --model ID_OR_DIR [--epochs 17] [--seeds 0,1,2]
      [--max_users 3000]

Run it in the root of the repository. Every variant in DIR/sids is a row of one `cost-hf compare`: the generator of
recipe cost_industrial; only the identifiers differ. Items that share an identifier keep it, and stand in its leaf in
the order of training popularity. The identifiers saw item texts, and some saw clicks of unknown parts: they calibrate
the generator and never compete.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import write_recipes
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "published_ids"
BASE = "cost_industrial"


def main() -> None:
    """Compare the identifiers, and publish the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items, interactions and sids/")
    parser.add_argument("--model", required=True, help="text encoder of the text baselines: id or directory")
    parser.add_argument("--epochs", type=int, default=None, help="of the generator; the recipe's by default")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--seeds", default="0,1,2", help="of the generator, separated by commas")
    parser.add_argument("--output_dir", default="runs/published_ids")
    known = parser.parse_args()
    output = Path(known.output_dir)
    references = sorted(Path(known.data, "sids").glob("*.parquet"))
    base = recipe_content(BASE)
    rows = {
        reference.stem: base | {"catalog": {"reference": str(reference), "collisions": "none"}}
        for reference in references
    }
    overrides: dict[str, Any] = {
        "data.path": known.data,
        "vectors.model": known.model,
        "search.invalid_users": 16,  # a search without the trie is slow, and says nothing of identifiers here
    }
    if known.epochs is not None:
        overrides["training.epochs"] = known.epochs
    if known.max_users is not None:
        overrides["evaluation.max_users"] = known.max_users
    seeds = [int(seed) for seed in known.seeds.split(",")]
    directory = output / "compare"
    cost_hf.compare(
        write_recipes(output / "recipes", rows),
        ["markov_text"],
        overrides=overrides,
        hybrids=False,  # the rows differ in identifiers; what they add to each other is another question
        seeds=seeds,
        output_dir=directory,
    )
    publish.main(str(directory), str(RESULTS))


if __name__ == "__main__":
    main()
