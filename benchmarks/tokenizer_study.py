"""Every kind of codes under one generator and under the collision policies that fit it.

    python benchmarks/tokenizer_study.py --data DIR --model ID_OR_DIR [--sets amazon_industrial] [--seeds 0,1,2]
      [--epochs 17] [--max_users 2000] [--rows cost,gaoq] [--policies] [--results coclick]

Run it in the root of the repository. DIR holds the data sets as folders. Every set is a `cost-hf compare` whose rows
differ in item vectors, codes and collision policy alone; that of PRISM's recommender also in the generator. Row `cost`
is compared with every other one, as was fixed before the runs. Nothing was tuned on any row, and nothing is chosen on
test. Reports and the seconds of every tokenizer go to results/tokenizers/, those of the collision policies to
results/collision_policies/, and others where --results says.
"""

import argparse
from pathlib import Path
from typing import Any

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import write_recipes
from cost_hf.files import read_json, write_json
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results"
COUNTED = ["markov_text"]  # untrained rows stand in every comparison; naming one keeps the trained ones out
BASES = {
    "amazon_industrial": "cost_industrial",
    "amazon_scientific": "cost_industrial",
    "amazon_beauty": "cost_beauty",
}
FIELDS = {
    "amazon_industrial": ["brand"],
    "amazon_scientific": ["brand", "categories:2", "categories:3"],  # the first level has one value
    "amazon_beauty": ["categories:1", "categories:2", "categories:3"],  # no item has a brand
}
TAGGED = ("amazon_scientific", "amazon_beauty")  # sets with a column of categories
FAMAE = {"kind": "famae", "max_items": 20, "epochs": 100, "batch_size": 256}
LATENTS = "gaoq_latents"
SIZED = ("cost", "rqvae", "cost_rqvae", "rkmeans", "letter", "prism", "opq", "simhash", "random")
TRAINED = ("cost", "rqvae", "cost_rqvae", "letter", "prism")
POLICIES = ("append", "reassign", "sinkhorn", "min_cost")
WITH_POLICIES = ("cost", "rqvae", "cost_rqvae", "rkmeans", "letter", "prism")  # all have a model


def main() -> None:
    """Compare the rows of every set, and publish the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with a folder for each data set")
    parser.add_argument("--model", required=True, help="text encoder: id or directory")
    parser.add_argument("--sets", default=",".join(BASES), help="data sets, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=None, help="of the generator; the recipe's by default")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--rows", default=None, help="rows, separated by commas; all by default")
    parser.add_argument("--policies", action="store_true", help="compare the collision policies of learned codes")
    parser.add_argument("--results", default=None, help="folder of results/ for the reports; by default as above")
    parser.add_argument("--output_dir", default="runs/tokenizers")
    known = parser.parse_args()
    for name in known.sets.split(","):
        overrides: dict[str, Any] = {
            "data.path": str(Path(known.data) / name),
            "vectors.model": known.model,
            "search.invalid_users": 16,  # a search without the trie is slow, and says nothing of codes here
        }
        if known.epochs is not None:
            overrides["training.epochs"] = known.epochs
        if known.max_users is not None:
            overrides["evaluation.max_users"] = known.max_users
        group = known.results or ("collision_policies" if known.policies else "tokenizers")
        directory = Path(known.output_dir) / group / name
        rows = (
            policy_rows(name)
            if known.policies
            else tokenizer_rows(name, model=known.model, quantizer=directory / "latents")
        )
        chosen = list(rows) if known.rows is None else known.rows.split(",")
        if LATENTS in chosen:  # one quantizer gives the latents of all seeds
            changes = {"training.epochs": 1, "evaluation.baselines": ["popularity"]}
            own = overrides | changes
            cost_hf.train(recipe=BASES[name], overrides=own, seed=0, output_dir=directory / "latents")
        recipes = write_recipes(directory / "recipes", rows, known.rows)
        cost_hf.compare(
            recipes,
            COUNTED,
            overrides=overrides,
            hybrids=False,  # rows differ in codes; what they add to each other is another question
            seeds=[int(seed) for seed in known.seeds.split(",")],
            output_dir=directory / "compare",
        )
        published = RESULTS / group / name
        publish.main(str(directory / "compare"), str(published))
        if not known.policies:
            write_json(published / "times.json", {row: tokenizer_seconds(directory / "compare", row) for row in chosen})


def tokenizer_rows(data: str, *, model: str, quantizer: Path) -> dict[str, dict[str, Any]]:
    """Return the recipe of every kind of codes on a data set, each under its default collision policy.

    Args:
        data: name of the set.
        model: text encoder of row `gaoq_latents`; overrides of the comparison reach rows of text vectors alone.
        quantizer: run whose quantizer gives the vectors of row `gaoq_latents`.
    """
    rows = {kind: with_codes(data, {"kind": kind}) for kind in SIZED}
    rows["cost_coclick"] = with_codes(data, {"kind": "cost", "positives": "coclick"})
    rows["gaoq"] = gaoq(data)
    rows["gaoq_famae"] = gaoq(data) | {"vectors": FAMAE | {"fields": FIELDS[data]}}
    rows[LATENTS] = gaoq(data)
    rows[LATENTS]["vectors"] = rows[LATENTS]["vectors"] | {
        "kind": "latents",
        "model": model,
        "quantizer": str(quantizer),
    }
    rows["cost_famae"] = rows["cost"] | {"vectors": FAMAE | {"fields": FIELDS[data]}}
    rows["prism_isr"] = with_isr(data)
    return rows


def tokenizer_seconds(compare: Path, row: str) -> dict[str, float]:
    """Return the mean seconds of every stage between item texts and identifiers, without the text encoder's.

    Args:
        compare: directory of the comparison.
        row: name of the row, whose runs are one a seed.
    """
    seconds: dict[str, list[float]] = {}
    for path in sorted(compare.glob(f"runs/{row}-*/evaluation/results.json")):
        results = read_json(path)
        trained = ["vectors"] if results["recipe"]["vectors"]["kind"] == "famae" else []
        for stage in (*trained, "collaborative", "quantizer"):
            if stage in results["stages"]:
                seconds.setdefault(stage, []).append(results["stages"][stage]["seconds"])
    return {stage: sum(values) / len(values) for stage, values in seconds.items()}


def policy_rows(data: str) -> dict[str, dict[str, Any]]:
    """Return the recipe of learned codes and of residual k-means under every policy that resolves collisions."""
    rows = {}
    for kind in WITH_POLICIES:
        for policy in POLICIES:
            rows[f"{kind}_{policy}"] = with_codes(data, {"kind": kind}) | {"catalog": {"collisions": policy}}
    return rows


def with_codes(data: str, codes: dict[str, Any]) -> dict[str, Any]:
    """Return the base recipe of a data set with codes of another kind, of the same sizes."""
    content = recipe_content(BASES[data])
    known = content["codes"]
    sizes = {"level_sizes": known["level_sizes"]}
    if codes["kind"] in TRAINED:
        sizes["epochs"] = known["epochs"]
    if codes["kind"] == "prism" and data in TAGGED:
        sizes["tag_column"] = "categories"
    return content | {"codes": codes | sizes}


def gaoq(data: str) -> dict[str, Any]:
    """Return the base recipe with codes of kind gaoq, which chooses its sizes and needs no level for collisions."""
    return recipe_content(BASES[data]) | {"codes": {"kind": "gaoq"}, "catalog": {"collisions": "reassign"}}


def with_isr(data: str) -> dict[str, Any]:
    """Return PRISM's codes with its recommender on the causal generator, as the recipe for CPUs has it."""
    content = with_codes(data, {"kind": "prism"})
    own = recipe_content("prism_industrial")
    return content | {name: own[name] for name in own if name not in ("description", "data", "vectors", "codes")}


if __name__ == "__main__":
    main()
