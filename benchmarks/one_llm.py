"""One language model: STORE-style and TTDSR beside a static index, plain LoRA, and models without a language model.

    python benchmarks/one_llm.py --data DIR/amazon_industrial --model ID_OR_DIR --backbone ID_OR_DIR
      [--rows ttdsr,ttdsr_static] [--seeds 0] [--epochs 1] [--precision bf16] [--max_users 300]

Run it in the root of the repository. --model is the text encoder, --backbone the language model (recipes name
SmolLM2-135M-Instruct). All rows have the same data: users with 6 clicks or more, items with 2 or more, which is what a
CPU can train a language model on in minutes. Rows with a language model train --epochs passes over their tasks, and
lora_cost, whose passes are short, three times as many for a similar time; the causal generator and SASRec-text
train as tuned, until validation stops them, which takes less. The report has the seconds of every row's training.
Nothing is chosen on test. Reports go to results/one_llm/.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

import cost_hf
from benchmarks import publish
from benchmarks.compared_rows import with_fields, write_recipes
from cost_hf.methods.sasrec.method import OBJECTIVES
from cost_hf.methods.store.method import ABLATIONS
from cost_hf.methods.ttdsr.method import ROWS
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "one_llm"
LORA = Path(__file__).parent / "smollm2_industrial.yaml"
DATA = {"reader": "tables", "min_user_interactions": 6, "min_item_interactions": 2}
SECTIONS = ("index", "reconstruction")
UNTRAINED = ["popularity", "item_knn", "markov", "text_last", "markov_text"]
MAIN = ("ttdsr", "ttdsr_static", "ttdsr_off", "store", "lora_cost", "cost_causal", "sasrec_text")
STEPS = {"training.batch_size": 4, "training.warmup_steps": 40}  # of all rows with a language model
# a pass of plain LoRA takes about a third of the training of ttdsr, ttdsr_static or, without its codes, store
PASSES_OF_LORA = 3
SLOT_EPOCHS = 4  # after one the slots of a text say hardly more of it than those of another text (text_slots.py)
# weights are chosen on more users than those of the recipes
VALIDATION = {"training.validation_users": 128, "evaluation.num_beams": 20, "search.invalid_users": 32}


def main() -> None:
    """Compare the rows and publish what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="directory with items.parquet and interactions.parquet")
    parser.add_argument("--model", required=True, help="text encoder, a Hub id or directory")
    parser.add_argument("--backbone", required=True, help="language model, a Hub id or directory")
    parser.add_argument(
        "--rows", default=",".join(MAIN), help="rows, separated by commas; the first is compared with all"
    )
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=1, help="of the rows with a language model")
    parser.add_argument("--precision", default="fp32", help="of the rows with a language model")
    parser.add_argument("--max_users", type=int, default=None, help="sample of test users; all by default")
    parser.add_argument("--output_dir", default="runs/one_llm")
    known = parser.parse_args()
    trained = STEPS | {"training.epochs": known.epochs, "training.precision": known.precision}
    rows = rows_of(trained | {"generator.backbone": known.backbone}, known.backbone)
    directory = Path(known.output_dir)
    overrides: dict[str, Any] = {
        "data.path": known.data,
        "vectors.model": known.model,
        "evaluation.baselines": UNTRAINED,
        "evaluation.validation_users": 50,  # a language model takes minutes to rank for more
    }
    if known.max_users is not None:
        overrides["evaluation.max_users"] = known.max_users
    cost_hf.compare(
        write_recipes(directory / "recipes", rows, known.rows),
        ["markov_text"],
        overrides=overrides,
        hybrids=False,  # rows differ in their index; what they add to each other is another question
        seeds=[int(seed) for seed in known.seeds.split(",")],
        output_dir=directory / "compare",
    )
    publish.main(str(directory / "compare"), str(RESULTS))
    publish.publish_sections(directory / "compare", RESULTS, SECTIONS)


def rows_of(language_model: dict[str, Any], backbone: str) -> dict[str, dict[str, Any]]:
    """Return the recipes by row; the first one is compared with all others.

    Args:
        language_model: fields of all rows with a language model.
        backbone: language model that makes the codes of the STORE-style rows.
    """
    moving = with_fields(recipe_content("ttdsr_industrial"), language_model | VALIDATION)
    slots = {
        "codes.backbone": backbone,
        "codes.precision": language_model["training.precision"],
        "codes.epochs": SLOT_EPOCHS,
    }
    store = with_fields(recipe_content("store_industrial"), language_model | VALIDATION | slots)
    lora = with_fields(yaml.safe_load(LORA.read_text(encoding="utf-8")), language_model | VALIDATION)
    lora = with_fields(lora, {"training.epochs": PASSES_OF_LORA * language_model["training.epochs"]})
    rows = {name: with_fields(moving, changes) for name, (changes, _) in ROWS.items()}
    rows["store"] = store
    rows |= {name: with_fields(store, changes) for name, (changes, _) in ABLATIONS.items()}
    rows["lora_cost"] = lora
    rows["cost_causal"] = recipe_content("cost_industrial")
    rows["sasrec_text"] = with_fields(recipe_content("sasrec_beauty"), OBJECTIVES["sasrec_text"])
    # the codes of a row read its own texts; baselines and SASRec have the same vectors in all of them
    return {name: content | {"data": DATA, "vectors": moving["vectors"]} for name, content in rows.items()}


if __name__ == "__main__":
    main()
