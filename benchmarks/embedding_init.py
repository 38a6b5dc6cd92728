"""Where a pretrained causal model starts: the loss on semantic IDs that it never saw, by how their rows start.

    python benchmarks/embedding_init.py --backbone ID_OR_DIR [--publish]

Codes are random (four levels of 256), so nothing can be known of a target and ln(1024) = 6.93 is what a uniform choice
among codes costs. `transformers` rows are those of `resize_token_embeddings` itself.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.timing import machine
from cost_hf.files import write_json
from cost_hf.generators.collation import CausalCollator
from cost_hf.generators.pretrained import load_tokenizer
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.generators.templates import PromptEncoder, load_templates
from cost_hf.hub.redaction import public_name
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.options import EMBEDDING_INITS
from cost_hf.semantic_ids.vocabulary import SidVocabulary

RESULTS = Path(__file__).parent / "results" / "embedding_init.json"
LEVELS = 4
CODES = 256
ITEMS = 500
WIDTH = 96
USERS = 16
HISTORY = 5
LIBRARY = {"transformers, mean_resizing": True, "transformers, no mean_resizing": False}
PROMPTS = ("continuation", "instruction", "bare")


def main() -> None:
    """Measure every initialisation under every prompt and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", required=True, help="causal model: id or directory")
    parser.add_argument("--seed", type=int, default=0, help="of codes, histories and rows")
    parser.add_argument("--publish", action="store_true", help=f"also write {RESULTS}")
    known = parser.parse_args()
    rows = {name: start_losses(known.backbone, name, seed=known.seed) for name in (*EMBEDDING_INITS, *LIBRARY)}
    record: dict[str, Any] = {"backbone": public_name(known.backbone), "sid_tokens": LEVELS * CODES, "seed": known.seed}
    record |= {"uniform": math.log(LEVELS * CODES), "targets": USERS, "rows": rows, "machine": machine()}
    if known.publish:
        write_json(RESULTS, record)
    print(table(record))


def table(record: dict[str, Any]) -> str:
    """Return the losses as a Markdown table, the bound of DESIGN beside them."""
    lines = [["rows of SID tokens", *PROMPTS], ["---"] * (1 + len(PROMPTS))]
    lines += [[name, *(f"{losses[prompt]:.2f}" for prompt in PROMPTS)] for name, losses in record["rows"].items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def start_losses(backbone: str, embedding_init: str, *, seed: int) -> dict[str, float]:
    """Return the mean loss a token of target items, by prompt; the target follows on a history of random items."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, CODES, (ITEMS, LEVELS))
    catalog = Catalog.from_codes(
        [str(row) for row in range(ITEMS)], codes, level_sizes=(CODES,) * LEVELS, collisions="none"
    )
    tokenizer = load_tokenizer(backbone)
    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32)
    vocabulary = SidVocabulary.for_catalog(catalog)
    if embedding_init in LIBRARY:
        vocabulary = vocabulary.extend(tokenizer, None)
        torch.manual_seed(seed)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=LIBRARY[embedding_init])
    else:
        vectors = torch.from_numpy(draw.standard_normal((LEVELS * CODES, WIDTH)))
        vocabulary = vocabulary.extend(tokenizer, model, embedding_init=embedding_init, code_vectors=vectors, seed=seed)
    prompt_encoder = PromptEncoder(tokenizer, vocabulary, is_causal=True)
    histories = draw.integers(0, ITEMS, (USERS, HISTORY + 1))
    losses = {}
    for name in PROMPTS:
        layout = prompt_encoder.bare_layout() if name == "bare" else prompt_encoder.layout(load_templates(name)[0])
        prompts = PromptBuilder.for_catalog(catalog, vocabulary, is_causal=True, max_history=HISTORY, layout=layout)
        examples = [prompts.pair("", rows[:-1], int(rows[-1])) for rows in histories]
        with torch.inference_mode():
            losses[name] = model.eval()(**CausalCollator(vocabulary.pad_id)(examples)).loss.item()
    return losses


if __name__ == "__main__":
    main()
