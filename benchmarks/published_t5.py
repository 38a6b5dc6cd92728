"""The published generator on published identifiers: a T5 on zero-collision residual k-means of Amazon Scientific.

    cost-hf train --recipe benchmarks/published_t5.yaml --data.path DIR/amazon_scientific --vectors.model ID_OR_DIR \\
      --catalog.reference DIR/amazon_scientific/sids/rkmeans_zcr.parquet --output_dir runs/published_t5
    python benchmarks/published_t5.py --data DIR/amazon_scientific --model ID_OR_DIR --run runs/published_t5

The second command, in the root of the repository, measures the last checkpoint of a training that may still be going
on, with the validation curve up to it, and writes results/published_ids/t5.json. CollisionGenRec gives Recall@10 on
items .0812 after 200 epochs (20 beams); whether it counts seen items is not said.
"""

import argparse
from pathlib import Path
from typing import Any

from safetensors.torch import load_model

from cost_hf.checkpoints import last_complete_checkpoint
from cost_hf.data.prepare import prepare_data
from cost_hf.evaluation.ranking import evaluate_ranker
from cost_hf.evaluation.results import MAIN_ROW, build_results
from cost_hf.experiments.curves import epoch_curve
from cost_hf.experiments.pipeline import make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json, write_json
from cost_hf.methods.training_stages import training_clicks
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.stages import Stages

RECIPE = "benchmarks/published_t5.yaml"
IDENTIFIERS = "rkmeans_zcr"
PUBLISHED = {"recall@10": 0.0812}
TARGET = Path(__file__).parent / "results" / "published_ids" / "t5.json"
SEEN = {"seen_allowed": False, "seen_excluded": True}


def main() -> None:
    """Measure the last checkpoint on the test part and write it beside the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items, interactions and sids/")
    parser.add_argument("--model", required=True, help="text encoder of the run: id or directory")
    parser.add_argument("--run", required=True, help="run directory of the training")
    known = parser.parse_args()
    reference = str(Path(known.data, "sids", f"{IDENTIFIERS}.parquet"))
    overrides = {"data.path": known.data, "vectors.model": known.model, "catalog.reference": reference}
    recipe = Recipe.load(RECIPE, overrides)
    write_json(TARGET, measured(recipe, Path(known.run)))


def measured(recipe: Recipe, run: Path) -> dict[str, Any]:
    """Return the metrics of the last checkpoint of a run of a recipe, and the curve of its training."""
    folder = run / "recommender" / "checkpoints"
    checkpoint = last_complete_checkpoint(folder)
    if checkpoint is None:
        raise SystemExit(f"{folder} holds no whole checkpoint; wait for the second epoch, or look at evaluation/")
    state = read_json(Path(checkpoint) / "trainer_state.json")
    data = prepare_data(recipe.data, template=recipe.vectors.template)
    workspace = make_workspace(Stages(run), recipe, data)
    method: Any = recipe.system
    catalog = method.build_catalog(workspace, None, seed=0)
    backbone = method.build_backbone(workspace, catalog, None, seed=0)
    load_model(backbone.model, Path(checkpoint) / "model.safetensors")
    popularity = training_clicks(workspace)
    trie = SidTrie.from_catalog(catalog, popularity=popularity)
    beams = recipe.evaluation.num_beams
    prompts = backbone.prompts(catalog)[0]
    ranker = method.ranker(backbone.model.eval(), prompts, trie, catalog, popularity, beams=beams)
    test = data.split.test
    lists = {
        (MAIN_ROW, seen): evaluate_ranker(
            ranker,
            test,
            sid_keys=None,
            num_items=data.tables.num_items,
            exclude_seen=excludes,
            top_k=beams,
            batch_size=recipe.evaluation.batch_size,
            description=seen,
        )
        for seen, excludes in SEEN.items()
    }
    results = build_results(
        lists,
        user_ids=test.user_ids,
        num_items=data.tables.num_items,
        cutoffs=recipe.evaluation.cutoffs,
        draws=recipe.evaluation.bootstrap_draws,
        seed=0,
    )
    return {
        "identifiers": IDENTIFIERS,
        "epochs": round(state["epoch"]),
        "planned_epochs": state["num_train_epochs"],
        "cases": len(test),
        "rows": results["rows"],
        "validation": epoch_curve(state["log_history"]),
        "published": PUBLISHED,
    }


if __name__ == "__main__":
    main()
