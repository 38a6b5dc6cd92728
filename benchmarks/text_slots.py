"""What the slots of codes of kind text_slots learn of texts, by the length of training.

    python benchmarks/text_slots.py --data DIR/amazon_industrial --backbone ID_OR_DIR [--items 2000] [--epochs 1,4]
      [--precision bf16] [--publish]

Run it in the root of the repository. A sample of the items of DIR has texts and codes as in recipe store_industrial.
Perplexities are of a token of a text given its slots, its codes, and another text's slots: the last one is what the
language model knows of such texts without slots. ROUGE is that of 64 texts which the model writes of their slots and
of their codes. All of it is on the texts of the training: new texts are another question.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.timing import machine, table
from cost_hf.files import write_json
from cost_hf.methods.store.reconstruction import written_scores
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import fit_codes
from cost_hf.recipe_files import recipe_content

RESULTS = Path(__file__).parent / "results" / "text_slots.json"
WRITTEN = 64  # texts


def main() -> None:
    """Train slots for every number of epochs, and print or publish what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.parquet")
    parser.add_argument("--backbone", required=True, help="language model, a Hub id or directory")
    parser.add_argument("--items", type=int, default=2_000, help="sample of items")
    parser.add_argument("--epochs", default="1,4", help="passes over the items, separated by commas")
    parser.add_argument("--precision", default="auto", help="of training")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/text_slots"))
    parser.add_argument("--publish", action="store_true", help="also write the results file")
    known = parser.parse_args()
    texts = texts_of(known.data, known.items)
    rows = []
    for epochs in map(int, known.epochs.split(",")):
        changes = {"backbone": known.backbone, "epochs": epochs, "precision": known.precision}
        options = CodesOptions.of(**(recipe_content("store_industrial")["codes"] | changes))
        rows.append({"epochs": epochs} | measured(texts, options, known.output_dir / str(epochs)))
        print(table(rows[-1:]), flush=True)
    if known.publish:
        record = {"data": known.data.name, "items": len(texts), "backbone": Path(known.backbone).name}
        write_json(RESULTS, record | {"precision": known.precision, "machine": machine(), "rows": rows})


def texts_of(folder: Path, count: int) -> list[str]:
    """Return the texts of a sample of items, as the template of the recipe makes them."""
    items = pd.read_parquet(folder / "items.parquet").sort_values("item_id").fillna("")
    items = items.iloc[np.sort(np.random.default_rng(0).permutation(len(items))[:count])]
    template = recipe_content("store_industrial")["vectors"]["template"]
    return [template.format(**row) for row in items.to_dict("records")]


def measured(texts: list[str], options: CodesOptions, folder: Path) -> dict[str, Any]:
    """Train slots, or read those of a finished training, and return what they hold of texts."""
    fitted = fit_codes(None, options, output_dir=folder, seed=0, texts=texts)
    model: Any = fitted.model
    log = fitted.history[-1]
    drawn = np.sort(np.random.default_rng(1).permutation(len(texts))[:WRITTEN])
    scores = written_scores(model, [texts[row] for row in drawn], fitted.codes[drawn])
    return {
        **{f"perplexity, {name}": log[f"text_perplexity_{name}"] for name in ("slots", "codes", "others")},
        **{f"ROUGE-1, {name}": own["rouge1"] for name, own in scores.items()},
        "unique": log["unique_share"],
        "steps": log["steps"],
        "tokens a step": log["tokens_per_step"],
        "seconds a step": log["seconds_per_step"],
    }


if __name__ == "__main__":
    main()
