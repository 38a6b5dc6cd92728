"""ACERec, its ablations and the systems that it should be ahead of, on equal text vectors.

    python benchmarks/acerec.py --data DIR --model ID_OR_DIR [--sets amazon_industrial,amazon_scientific,amazon_beauty]
      [--seeds 0,1,2] [--rows acerec,sasrec_text] [--max_users 5000] [--results ablations]

Run it in the root of the repository. DIR holds the data sets as folders with items.parquet and interactions.parquet;
--model is the text encoder, which gives all rows the same vectors. Every set is a `cost-hf compare`: ACERec with the
sizes and the optimisation of recipe acerec_industrial; each of its parts left out, with all else equal; random codes in
place of learned ones; SASRec on the text vectors and on ids, as tuned; and a causal generator that writes CoST codes
(recipe cost_industrial). Nothing is chosen on test. Reports go to results/acerec/; --results names a folder there for
those of a part of the rows.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from cost_hf.methods.acerec.method import ABLATIONS
from cost_hf.methods.sasrec.method import OBJECTIVES
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "acerec"
SETS = ("amazon_industrial", "amazon_scientific", "amazon_beauty")
BASE = "acerec_industrial"
BEAUTY = "amazon_beauty"
UNTRAINED = ["popularity", "item_knn", "markov", "text_last", "markov_text"]


def main() -> None:
    """Compare the rows of every set and publish what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with a folder for each data set")
    parser.add_argument("--model", required=True, help="text encoder, a Hub id or directory")
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--rows", default=None, help="rows, separated by commas; all by default")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--results", default="", help="folder of the reports in results/acerec/")
    parser.add_argument("--output_dir", default="runs/acerec")
    known = parser.parse_args()
    for name in known.sets.split(","):
        directory = Path(known.output_dir) / name
        overrides: dict[str, Any] = {
            "data.path": str(Path(known.data) / name),
            "vectors.model": known.model,
            "evaluation.baselines": UNTRAINED,
        }
        if known.max_users is not None:
            overrides["evaluation.max_users"] = known.max_users
        cost_hf.compare(
            write_recipes(directory / "recipes", rows_of(name), known.rows),
            ["markov_text"],
            overrides=overrides,
            hybrids=False,  # rows differ in one part of the model; what they add to each other is another question
            seeds=[int(seed) for seed in known.seeds.split(",")],
            output_dir=directory / "compare",
        )
        publish.main(str(directory / "compare"), str(RESULTS / known.results / name))


def rows_of(data: str) -> dict[str, dict[str, Any]]:
    """Return the recipes of a data set by row; the first one is compared with all others."""
    base = recipe_content(BASE)
    sasrec = recipe_content("sasrec_beauty")
    generator = recipe_content("cost_industrial")
    rows = {"acerec": base}
    rows |= {name: with_fields(base, changes) for name, (changes, _) in ABLATIONS.items()}
    rows["acerec_random"] = with_fields(base, {"codes.kind": "random"})
    for name in ("sasrec_text", "sasrec_ce"):
        rows[name] = with_fields(sasrec, OBJECTIVES[name])
    rows["cost_causal"] = generator
    texts = sasrec["vectors"] if data == BEAUTY else base["vectors"]
    return {name: content | {"vectors": texts} for name, content in rows.items()}


if __name__ == "__main__":
    main()
