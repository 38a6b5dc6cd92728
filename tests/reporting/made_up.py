"""Made-up content of compare.json and results.json: toy names, numbers from a seeded generator, some parts missing."""

import math

import numpy as np

SEEN = ("seen_allowed", "seen_excluded")
SYSTEMS = {  # family, level of NDCG@10, seeds
    "popularity": ("counting", 0.012, 0),
    "item_knn": ("counting", 0.051, 0),
    "markov": ("counting", 0.066, 0),
    "text_last": ("counting", 0.071, 0),
    "markov_text": ("counting", 0.079, 0),
    "sasrec_ce": ("dense", 0.061, 3),
    "sasrec_text": ("dense", 0.073, 3),
    "cost_causal": ("generative", 0.070, 3),
    "rqvae_causal": ("generative", 0.068, 3),
    "rkmeans_causal": ("generative", 0.0705, 3),
    "random_causal": ("generative", 0.049, 3),
    "fusion": ("hybrid", 0.084, 3),
    "published_codes": ("calibration", 0.088, 1),
}
FAMILIES = {"recommender": "generative", "sasrec_ce": "dense", "oracle": "oracle"}
SLICES = {
    "target_in_training": {"0": 41, "1-5": 702, "6+": 1290},
    "transition": {"seen": 498, "unseen": 1535},
    "target": {"repeated": 88, "new": 1945},
    "history": {"short": 1187, "long": 846},
    "popularity": {"head": 1011, "tail": 1022},
}


def cell(rng, value, *, half=0.009, seeds=0):
    low, high = (float(value + sign * half * rng.uniform(0.8, 1.2)) for sign in (-1, 1))
    made = {"value": float(value), "low": max(low, 0.0), "high": high}
    return made | {"per_seed": [float(value + step) for step in rng.normal(0, 0.002, seeds)]} if seeds > 1 else made


def metrics(rng, level, seeds, *, scale=1.0):
    return {
        seen: {
            "ndcg@10": cell(rng, level * shift * scale, seeds=seeds),
            "recall@10": cell(rng, level * shift * scale * 1.7, half=0.014, seeds=seeds),
        }
        for seen, shift in (("seen_allowed", 1.0), ("seen_excluded", 0.86))
    }


def slices(rng, level):
    return {
        kind: {
            label: {
                "cases": cases,
                "ndcg@10": cell(rng, level * rng.uniform(0.5, 1.6), half=0.4 / math.sqrt(cases)),
                "recall@10": cell(rng, level * rng.uniform(0.9, 2.6), half=0.6 / math.sqrt(cases)),
            }
            for label, cases in labels.items()
        }
        for kind, labels in SLICES.items()
    }


def codes(rng, *, num_codes=64, levels=3):
    share = float(rng.uniform(0.02, 0.2))
    return {
        "levels": [
            {"num_codes": num_codes, "use": 1.0, "perplexity": float(rng.uniform(0.5, 0.95) * num_codes)}
            for _ in range(levels)
        ],
        "unique_share": 1 - share / 2,
        "collided_share": share,
        "largest_group": int(rng.integers(4, 40)),
        "group_sizes": [70.2, 4.1, 1.2],
        "knn": 10,
        "knn_overlap_prefix": 0.4123,
        "knn_same_prefix": [0.61, 0.33, 0.11],
        "catalog": {"items": 3685, "moved": 0},
        "quality": {
            "entropy": [5.61, 5.72, 5.80],
            "conditional_entropy": [5.61, 4.02, 1.31],
            "category_purity": None,
            "history_target_overlap": {"observed": [0.55, 0.21, 0.08], "chance": [0.17, 0.02, 0.004]},
            "co_click_affinity": [6.2, 41.3, 212.0],
        },
    }


def curves(rng, level, epochs=24):
    steps = np.arange(1, epochs + 1)
    scores = level * (1 - np.exp(-steps / 6)) + rng.normal(0, 0.0012, epochs)
    losses = 4.1 * np.exp(-steps / 9) + 2.6 + rng.normal(0, 0.02, epochs)
    generator = [
        {"epoch": float(step), "loss": float(loss), "ndcg@10": float(score)}
        for step, loss, score in zip(steps, losses, scores, strict=True)
    ]
    quantizer = [
        {"epoch": float(step), "loss": float(2.2 * np.exp(-step / 20) + 0.4)}
        | {f"perplexity_{level}": float((58 - 4 * level) * (1 - np.exp(-step / 8))) for level in (1, 2, 3)}
        for step in range(1, 61)
    ]
    return {"generator": generator, "quantizer": quantizer}


def examples():
    toys = [f"{color} {thing}" for thing in ("kite", "drum", "robot") for color in ("Red", "Blue", "Tin", "Small")]
    return [
        {
            "item": toys[i],
            "sid": f"{i + 3}-{7 * i % 64}-{i}",
            "nearest_text": toys[i + 1 : i + 4],
            "same_prefix": toys[i + 4 : i + 6],
        }
        for i in range(3)
    ]


def claim(rows, a, b, *, verdict, p, seen="seen_allowed", purpose="claim"):
    left, right = (rows[name]["metrics"][seen]["ndcg@10"]["value"] for name in (a, b))
    value = left - right
    return {
        "a": a,
        "b": b,
        "metric": "ndcg@10",
        "seen": seen,
        "difference": {"value": value, "low": value - 0.0071, "high": value + 0.0068},
        "relative": value / right,
        "p": p,
        "p_holm": min(1.0, p * 6),
        "verdict": verdict,
        "purpose": purpose,
    }


def made_up_rows(rng):
    rows = {}
    for name, (family, level, seeds) in SYSTEMS.items():
        is_trained = seeds > 0
        rows[name] = {
            "family": family,
            "status": "done",
            "message": "",
            "seeds": [f"{seed}.0" for seed in range(seeds)],
            "metrics": metrics(rng, level, seeds),
            "validation": {"ndcg@10": level * 1.05},
            "cost": {
                "training_minutes": float(rng.uniform(3, 21)) if is_trained else None,
                "request_ms": float(rng.uniform(2, 60)) if is_trained else 0.8,
                "peak_mb": float(rng.uniform(600, 2400)) if is_trained else None,
                "parameters": int(rng.integers(200_000, 3_000_000)) if is_trained else None,
            },
            "slices": slices(rng, level),
            "covers": "users and seeds" if seeds > 1 else "users",
        }
        if family == "generative":
            rows[name]["sid"] = metrics(rng, level, seeds, scale=1.12)
    rows["letter_causal"] = {
        "family": "generative",
        "status": "failed",
        "message": "seed 1: the codebooks collapsed: after epoch 31 the perplexities are 1.2 of 64, 3.4 of 64",
        "seeds": [],
    }
    partial = {"seen_allowed": {"ndcg@10": cell(rng, 0.058), "recall@10": {"value": None, "low": None, "high": None}}}
    rows["cost_t5"] = {
        "family": "generative",
        "status": "unfinished",
        "message": "1 of 3 seeds, stopped in epoch 9 of 20",
        "seeds": ["0.0"],
        "metrics": partial,
        "cost": {"training_minutes": None, "request_ms": None, "peak_mb": None, "parameters": None},
    }
    rows["sasrec_bce"] = {"family": "dense", "status": "not_started", "message": "the budget of 60 min was spent"}
    return rows


def made_up_compare(seed=0):
    """Return a comparison with a failed, an unfinished, a waiting and a calibration row."""
    rng = np.random.default_rng(seed)
    rows = made_up_rows(rng)
    claims = [
        claim(rows, "cost_causal", "popularity", verdict="better", p=0.0002),
        claim(rows, "cost_causal", "sasrec_ce", verdict="better", p=0.004),
        claim(rows, "cost_causal", "sasrec_text", verdict="inconclusive", p=0.31),
        claim(rows, "cost_causal", "rkmeans_causal", verdict="equivalent", p=0.92),
        claim(rows, "cost_causal", "markov_text", verdict="worse", p=0.0041, purpose="decision"),
        claim(rows, "fusion", "cost_causal", verdict="better", p=0.0009, purpose="decision"),
        claim(rows, "cost_causal", "sasrec_text", verdict="inconclusive", p=0.44, seen="seen_excluded"),
    ]
    trained = [name for name, row in rows.items() if row["family"] == "generative" and row["status"] == "done"]
    return {
        "format": 1,
        "name": "toy shop",
        "seconds": 6912.4,
        "complete": False,
        "data": {
            "counts": {"users": 2033, "items": 3685, "interactions": 29874, "dropped_textless_items": 12},
            "digest": "5f1d0c7a9be24466a1c3",
            "split": "leave_one_out",
            "split_digest": "0b71ee92d4c8810f77aa",
            "shares": {"repeated_target": 0.043, "unseen_target": 0.0201},
            "note": "leave-one-out: training may hold clicks of other users later than a test click",
            "is_toy": True,
        },
        "protocol": {
            "primary": {"metric": "ndcg@10", "unit": "item", "seen": "seen_allowed"},
            "cases": 2033,
            "users": 2033,
            "num_beams": 50,
            "cutoffs": [5, 10, 20],
            "bootstrap_draws": 2000,
            "alpha": 0.05,
            "equivalence_margin": 0.05,
        },
        "seeds": {"quantizer": [0, 1, 2], "generators_per_quantizer": 1},
        "rows": rows,
        "claims": claims,
        "detectable_difference": {
            "absolute": 0.0094,
            "relative": 0.134,
            "power": 0.8,
            "alpha": 0.0083,
            "text": "A true difference of .0094 (13.4 %) would be found in 80 % of repetitions.",
        },
        "recommendation": {
            "choice": "counting",
            "row": "markov_text",
            "headline": "Use the sum of Markov and text neighbor; nothing trained here beats it",
            "paragraphs": [
                "On validation the fusion leads (.0882), before markov_text (.0830). On the test cases markov_text "
                "is better than cost_causal, and no trained system alone is shown to be better than it.",
                "It needs no training and answers in 0.8 ms; the generative system takes 41 ms a request.",
            ],
            "command": "cost-hf train --recipe 'runs/compare-toy shop/recommended.yaml' --seed 0",
            "directory": None,
            "latency_ms": 0.8,
            "peak_mb": None,
        },
        "codes": {name: codes(rng) for name in trained},
        "curves": {name: curves(rng, SYSTEMS[name][1]) for name in trained}
        | {"sasrec_ce": {"generator": curves(rng, 0.06)["generator"]}},
        "examples": examples(),
        "recipes": {
            "cost_causal": "codes.kind cost, causal generator",
            "rqvae_causal": "codes.kind rqvae, causal generator",
            "rkmeans_causal": "codes.kind rkmeans, causal generator",
            "random_causal": "codes.kind random: no meaning in the codes",
        },
        "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0", "cost_hf": "0.1.0"},
        "device": "cpu, 2 threads",
    }


def made_up_results(seed=0):
    """Return results.json of a run on toy data."""
    rng = np.random.default_rng(seed)
    levels = {"recommender": 0.07, "popularity": 0.01, "markov": 0.066, "sasrec_ce": 0.061, "oracle": 0.12}
    units = {
        name: {"item": metrics(rng, level, 0), "sid": metrics(rng, level, 0, scale=1.1)}
        for name, level in levels.items()
    }
    differences = {
        f"recommender-{name}": {
            "item": {
                seen: {"ndcg@10": {"value": 0.07 - level, "low": 0.06 - level, "high": 0.081 - level}} for seen in SEEN
            }
        }
        for name, level in levels.items()
        if name != "recommender"
    }
    return {
        "rows": units,
        "differences": differences,
        "slices": {name: {seen: slices(rng, level) for seen in SEEN} for name, level in levels.items()},
        "semantic_ids": codes(rng),
        "curves": curves(rng, 0.07),
        "requests": {name: {"batch_1_ms": 3.5, "batch_64_ms": 0.4} for name in levels},
        "parameters": {"recommender": 812_544, "sasrec_ce": 301_120},
        "stages": {"data": {"seconds": 0.6, "peak_mb": 410.0}, "generator": {"seconds": 512.0, "peak_mb": 1210.5}},
        "protocol": {
            "split": "leave_one_out",
            "exclude_seen": "both settings; see the row names",
            "num_beams": 50,
            "constraint": "trie",
            "max_history": 20,
            "cases": 611,
            "users": 600,
            "note": "leave-one-out: training may hold clicks of other users later than a test click",
            "counts": {"users": 600, "items": 800, "interactions": 9400},
            "shares": {"repeated_target": 0.05, "unseen_target": 0.0, "invalid": 0.0, "invalid_unconstrained": 0.31},
            "proved": {"seen_allowed": {"5": 0.981, "10": 0.937}, "seen_excluded": {"5": 0.97, "10": 0.92}},
        },
        "recipe": {"name": "toy_recipe", "data": {"reader": "synthetic"}},
        "methods": {
            name: {"method": name, "family": FAMILIES.get(name, "counting"), "summary": f"{name} in words"}
            for name in levels
        },
        "seed": 3,
        "data_digest": "aa01",
        "split_digest": "bb02",
        "versions": {"torch": "2.13.0"},
        "device": "cpu, 2 threads",
    }
