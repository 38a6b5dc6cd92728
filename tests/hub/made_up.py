"""Made-up results of runs of any method, and the cards of them."""

import copy
from typing import Any

import numpy as np

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub.cards import Contents, render_card

RELATED = {"quantizer": "org/x", "recommender": "org/x-recommender", "dataset": "org/x-items", "space": "org/x-demo"}
CODES = {
    "levels": [
        {"num_codes": 32, "use": 1.0, "perplexity": 29.97},
        {"num_codes": 32, "use": 0.875, "perplexity": 21.4},
        {"num_codes": 16, "use": 0.75, "perplexity": 9.31},
    ],
    "collided_share": 0.053,
    "largest_group": 7,
}
# sections of the recipe, section semantic_ids, and what the copy holds: a generator, a dense model and counts
RUNS: dict[str, dict[str, Any]] = {
    "generative": {
        "method": {"method": "sid_generator", "family": "generative", "summary": "semantic IDs by beam search"},
        "recipe": {
            "codes": {"kind": "cost", "level_sizes": [32, 32, 16]},
            "catalog": {"collisions": "append", "reference": None},
            "generator": {"backbone": None, "kind": "causal", "size": "tiny"},
            "adapter": {"r": None},
            "training": {"epochs": 33},
        },
        "semantic_ids": CODES,
        "protocol": {"constraint": "trie", "num_beams": 50, "max_history": 20},
        "contents": {
            "kind": "generator",
            "model_type": "llama",
            "has_quantizer": True,
            "has_pipeline": True,
            "has_encoder": True,
            "new_item_inputs": ("texts", "vectors", "codes"),
            "auto_class": "AutoModelForCausalLM",
            "generates_items": True,
        },
    },
    "dense": {
        "method": {"method": "walker", "family": "dense", "summary": "random walks, arXiv 9999.00001"},
        "recipe": {"walks": {"length": 12}, "training": {"epochs": 40}},
        "protocol": {"max_history": 50},
        "contents": {"kind": "walker", "model_type": "walker", "auto_class": "AutoModel", "packages": ("walk-lib",)},
    },
    "counting": {
        "method": {"method": "sums", "family": "counting", "summary": "sums of clicks"},
        "recipe": {},
        "protocol": {},
        "contents": {"kind": "counting", "num_parameters": 0},
    },
}
RUNS["hybrid"] = {
    "method": {"method": "mixture", "family": "hybrid", "summary": "trees over lists"},
    "recipe": {"mixture": {"parts": ["counts", "dense"]}},
    "protocol": {"score": "sum of trees", "parts": ["counts", "dense"], "parts_selected_on_validation": ["dense"]},
    "contents": {
        "kind": "mixture",
        "parts": ("counts", "dense"),
        "fixed_parts": ("dense",),
        "new_item_inputs": ("texts", "vectors"),
        "has_encoder": True,
        "packages": ("trees>=2",),
    },
}
BASELINES = {"popularity": ("counting", 0.012), "markov_text": ("counting", 0.079), "oracle": ("oracle", 0.31)}


def made_up_results(run: str = "generative", *, is_toy: bool = False, licence: str | None = "Apache-2.0") -> dict:
    """The content of results.json."""
    rng = np.random.default_rng(len(run))
    made = RUNS[run]

    def cell(value: float, half: float = 0.011) -> dict[str, float]:
        return {"value": value, "low": value - half, "high": value + half}

    def row(level: float) -> dict[str, Any]:
        metrics = {
            f"{metric}@{cutoff}": cell(level * scale * rng.uniform(0.97, 1.03))
            for metric, scale in (("recall", 1.7), ("ndcg", 1.0))
            for cutoff in (5, 10)
        }
        return {"item": {seen: dict(metrics) for seen in ("seen_allowed", "seen_excluded")}}

    rows = {MAIN_ROW: row(0.0701), **{name: row(level) for name, (_, level) in BASELINES.items()}}
    families = {name: {"method": name, "family": family, "summary": name} for name, (family, _) in BASELINES.items()}
    results = {
        "recipe": {
            "name": "made_up",
            "description": "",
            "method": made["method"]["method"],
            "data": {"reader": "synthetic" if is_toy else "tables", "licence": licence, "path": None},
            "vectors": {"model": "lsa", "dim": 128},
            "evaluation": {"num_beams": 50},
            **made["recipe"],
        },
        "methods": {MAIN_ROW: made["method"], **families},
        "rows": rows,
        "differences": {f"{MAIN_ROW}-{name}": row(-0.02) for name in BASELINES},
        "protocol": {
            "split": "leave_one_out",
            "cases": 2213,
            "counts": {"users": 22_363, "items": 12_101, "interactions": 198_502},
            "note": "Each user's last click is the test target.",
            "ties": "by popularity, then item_id",
            "unit_of_a_hit": "item",
            "shares": {"repeated_target": 0.067, "unseen_target": 0.0123},
            **made["protocol"],
        },
        "parameters": {MAIN_ROW: 120_448},
        "stages": {"vectors": {"seconds": 1.24, "peak_mb": 668.7}, "training": {"seconds": 871.4, "peak_mb": 1852.0}},
        "seed": 3,
        "data_digest": "d1" * 32,
        "split_digest": "5b" * 32,
        "device": "cpu",
        "versions": {"torch": "2.11.0", "transformers": "5.23.1"},
    }
    if "semantic_ids" in made:
        results["semantic_ids"] = made["semantic_ids"]
    return copy.deepcopy(results)


def made_up_card(part: str, results: dict | None, *, run: str = "generative", **contents: Any) -> str:
    """The card of a part of a made-up run."""
    licence = None if results is None else results["recipe"]["data"]["licence"]
    held = {"num_items": 12_101, "num_parameters": 120_448, "licence": licence} | RUNS[run]["contents"] | contents
    repo_id = RELATED[part]
    return render_card(part, results=results, contents=Contents(**held), repo_id=repo_id, related=RELATED)
