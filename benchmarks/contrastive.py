"""Contrastive learning on sequences: CoSeRec and CaDiRec beside SASRec as published and as tuned, and HSTU.

    python benchmarks/contrastive.py --data DIR [--sets amazon_beauty,amazon_industrial] [--seeds 0,1,2]
      [--rows sasrec,coserec] [--max_users 5000] [--sample_users 5000] [--published_epochs 100]
      [--results ddim] [--epoch_seconds]

Run it in the root of the repository. DIR holds the data sets as folders with items.parquet and interactions.parquet.
Every set is a `cost-hf compare` whose rows read item ids alone. Rows named `published` have the SASRec and the
optimisation of the papers; on Beauty that of CoSeRec has the settings of its released script. All others have the body
and the optimisation of recipe sasrec_beauty, which were tuned for SASRec alone, but HSTU: `hstu_long` is recipe
hstu_beauty, `hstu` has a third of its epochs. --sample_users keeps that many users of a set, drawn at random, in
training and test; --published_epochs cuts the training of the published rows, and CoSeRec's warm-up with it. Claims are
made with seen items excluded; nothing is chosen on test. Reports go to results/contrastive/, or a folder in it that
--results names; --epoch_seconds times an epoch of every row in place of a comparison.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from cost_hf.data.prepare import prepare_data
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import write_json
from cost_hf.methods.base import Workspace
from cost_hf.methods.sasrec.method import PUBLISHED
from cost_hf.recipe_files import recipe_content
from cost_hf.stages import Stages

RESULTS = Path(__file__).parent / "results" / "contrastive"
SETS = ("amazon_beauty", "amazon_industrial", "amazon_scientific", "yelp")
BASE = "sasrec_beauty"
BEAUTY = "amazon_beauty"
COUNTED = ["popularity", "item_knn", "markov"]  # untrained baselines that read no text
EPOCHS = (1, 3)  # of two trainings, whose difference is an epoch without what comes before and after


def main() -> None:
    """Compare the rows of every set, or time their epochs, and publish what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with a folder for each data set")
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--rows", default=None, help="rows, separated by commas; all by default")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--sample_users", type=int, default=None, help="users of a set, at random; all by default")
    parser.add_argument(
        "--published_epochs", type=int, default=None, help="of the published rows; their own by default"
    )
    parser.add_argument("--epoch_seconds", action="store_true", help="time an epoch of every row instead")
    parser.add_argument("--results", default="", help="folder of the reports in results/contrastive/")
    parser.add_argument("--output_dir", default="runs/contrastive")
    known = parser.parse_args()
    for name in known.sets.split(","):
        directory = Path(known.output_dir) / name
        rows = rows_of(name, known.published_epochs)
        paths = write_recipes(directory / "recipes", rows, known.rows)
        data = Path(known.data) / name
        overrides: dict[str, Any] = {
            "data.path": str(data if known.sample_users is None else sampled(data, directory, known.sample_users)),
            "evaluation.baselines": COUNTED,
        }
        if known.max_users is not None:
            overrides["evaluation.max_users"] = known.max_users
        if known.epoch_seconds:
            seconds = {Path(path).stem: epoch_seconds(Recipe.load(path, overrides)) for path in paths}
            write_json(RESULTS / known.results / name / "epoch_seconds.json", seconds)
            continue
        cost_hf.compare(
            paths,
            ["markov"],
            overrides=overrides,
            seen="seen_excluded",  # as the papers measure
            hybrids=False,  # rows differ in their training; what they add to each other is another question
            seeds=[int(seed) for seed in known.seeds.split(",")],
            output_dir=directory / "compare",
        )
        publish.main(str(directory / "compare"), str(RESULTS / known.results / name))


def sampled(data: Path, directory: Path, count: int) -> Path:
    """Write a data set with some of its users, their whole histories and the items in them; return its directory."""
    clicks = pd.read_parquet(data / "interactions.parquet")
    users = clicks["user_id"].drop_duplicates().sample(count, random_state=0)
    clicks = clicks[clicks["user_id"].isin(users)]
    items = pd.read_parquet(data / "items.parquet")
    folder = directory / f"sample_{count}"
    folder.mkdir(parents=True, exist_ok=True)
    clicks.to_parquet(folder / "interactions.parquet", index=False)
    items[items["item_id"].isin(clicks["item_id"])].to_parquet(folder / "items.parquet", index=False)
    return folder


def rows_of(data: str, published_epochs: int | None) -> dict[str, dict[str, Any]]:
    """Return the recipes of a data set by row; the first one is compared with all others.

    Args:
        data: name of the data set.
        published_epochs: training of the published rows, in place of their own number of epochs.
    """
    tuned = recipe_content(BASE)
    del tuned["vectors"]  # no row reads texts
    published = with_fields(tuned, PUBLISHED)
    rows = {
        "sasrec": tuned,
        "coserec": tuned | {"method": "coserec"},
        "cadirec": tuned | {"method": "cadirec"},
        "cadirec_ddim": tuned | {"method": "cadirec", "diffusion": {"sampling": "ddim"}},
        "hstu": with_fields(recipe_content("hstu_beauty"), {"training.epochs": 30}),
        "hstu_long": recipe_content("hstu_beauty"),
        "sasrec_published": published,
        "coserec_published": published | {"method": "coserec", "augmentation": {"warm_up_epochs": 160}},
        "cadirec_published": with_fields(published, {"model.intermediate_size": 128}) | {"method": "cadirec"},
    }
    if data == BEAUTY:
        rows["coserec_published"] = recipe_content("coserec_beauty")
        rows["cadirec_published"] = recipe_content("cadirec_beauty")
    if published_epochs is not None:
        for name in (name for name in rows if name.endswith("_published")):
            rows[name] = shortened(rows[name], published_epochs)
    return rows


def shortened(content: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return a recipe with fewer epochs, of which its warm-up keeps its share."""
    changes: dict[str, Any] = {"training.epochs": epochs}
    warm_up = content.get("augmentation", {}).get("warm_up_epochs")
    if warm_up is not None:
        changes["augmentation.warm_up_epochs"] = round(warm_up * epochs / content["training"]["epochs"])
    return with_fields(content, changes)


def epoch_seconds(recipe: Recipe) -> float:
    """Return the CPU seconds of an epoch of a recipe's training, without validation."""
    method: Any = recipe.system
    data = prepare_data(recipe.data)
    taken = []
    for epochs in EPOCHS:
        section = dataclasses.replace(method.options.training, epochs=epochs, validate_every=epochs, patience=None)
        own = type(method)(dataclasses.replace(method.options, training=section))
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace(Stages(folder), data, no_vectors, recipe.vectors, recipe.evaluation, data_seed=0)
            training = own.training(workspace, seed=0)
            start = time.process_time()
            training.fit(Path(folder), lambda model: {"ndcg@10": 0.0})
            taken.append(time.process_time() - start)
    return (taken[1] - taken[0]) / (EPOCHS[1] - EPOCHS[0])


def no_vectors() -> Any:
    """Stand for item text vectors, which no row reads."""
    raise ValueError("rows of this benchmark read item ids alone")


if __name__ == "__main__":
    main()
