"""Augmentation by semantic IDs: does it help a semantic-ID generator, or CoSeRec, on validation?

    python benchmarks/sid_augmentation.py --data DIR/amazon_industrial --model ID_OR_DIR [--seeds 0,1]
      [--overrides '{"training.epochs": 8}']

Run it in the root of the repository. Rows `generator_*` replace a share of the items of a training example by items
with the same first codes (`training.substitute_share`, `training.substitute_prefix`); rows `coserec_prefix_*` do so in
the views of CoSeRec (`augmentation.correlation: prefix`), whose semantic IDs come from one quantizer of row
`generator`. The setting is judged by validation NDCG@10, which compare.json has for every row. The report goes to
results/sid_augmentation/.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from benchmarks.contrastive import COUNTED
from cost_hf.recipe_files import recipe_content
from cost_hf.semantic_ids.vocabulary import SidVocabulary

RESULTS = Path(__file__).parent / "results" / "sid_augmentation"
GENERATOR = "cost_industrial"
SEQUENCES = "sasrec_beauty"
# share of substitutes and first codes that they share with the item
GENERATOR_ROWS = {"generator_10_1": (0.1, 1), "generator_10_2": (0.1, 2), "generator_30_2": (0.3, 2)}


def main() -> None:
    """Compare all rows and publish the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items.parquet and interactions.parquet")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--seeds", default="0,1", help="separated by commas")
    parser.add_argument("--overrides", type=json.loads, default={}, help="fields of the generator's rows, as JSON")
    parser.add_argument("--output_dir", default="runs/sid_augmentation")
    known = parser.parse_args()
    directory = Path(known.output_dir)
    given = {"data.path": known.data, "vectors.model": known.model, "evaluation.baselines": COUNTED}
    identifiers = write_identifiers(directory, given)
    cost_hf.compare(
        write_recipes(directory / "recipes", rows_of(identifiers, known.overrides)),
        ["markov"],
        overrides=given,
        hybrids=False,  # rows differ in their training; what they add to each other is another question
        seeds=[int(seed) for seed in known.seeds.split(",")],
        output_dir=directory / "compare",
    )
    publish.main(str(directory / "compare"), str(RESULTS))


def rows_of(identifiers: Path, overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recipes by row.

    Args:
        identifiers: parquet file with the semantic IDs that CoSeRec reads.
        overrides: fields of the generator's rows.
    """
    generator = with_fields(recipe_content(GENERATOR), overrides)
    rows = {"generator": generator}
    for name, (share, prefix) in GENERATOR_ROWS.items():
        rows[name] = with_fields(generator, {"training.substitute_share": share, "training.substitute_prefix": prefix})
    sequences = recipe_content(SEQUENCES)
    rows["sasrec"] = sequences
    rows["coserec"] = sequences | {"method": "coserec"}
    for prefix in (1, 2):
        section = {"correlation": "prefix", "identifiers": str(identifiers), "shared_codes": prefix}
        rows[f"coserec_prefix_{prefix}"] = sequences | {"method": "coserec", "augmentation": section}
    return rows


def write_identifiers(directory: Path, given: dict[str, Any]) -> Path:
    """Fit a quantizer as row `generator` has it, and write the semantic IDs of its items."""
    overrides = given | {"training.epochs": 1, "evaluation.baselines": ["popularity"], "evaluation.max_users": 100}
    run = cost_hf.train(recipe=GENERATOR, overrides=overrides, seed=0, output_dir=directory / "quantizer")
    catalog = run.recommender.catalog
    vocabulary = SidVocabulary.for_catalog(catalog)
    path = directory / "identifiers.parquet"
    pd.DataFrame({"item_id": list(catalog.item_ids), "sid": vocabulary.texts(catalog.codes)}).to_parquet(path)
    return path


if __name__ == "__main__":
    main()
