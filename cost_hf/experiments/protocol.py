"""How a run was judged and what it was: all that a reader needs to set its numbers beside others."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

import cost_hf
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.experiments.recipe import Recipe
from cost_hf.products import LIMIT
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.validity import invalid_shares
from cost_hf.stages import Stages

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")
LEAKAGE = {
    "leave_one_out": "Leave-one-out: each user's last click is the test target. There is no common cutoff, so training "
    "may hold clicks of other users later than a test click, and popularity and co-clicks may know the future.",
    "source": "The parts are as the data's publisher marked them: each marked row is one target with all earlier rows "
    "of its user as history (without test rows for a validation target), and rows behind a target of the same user "
    "never train. Whether other users' training clicks are later than a test click depends on how the publisher cut.",
    "time": "Split by time: no training click is at or after the first validation target, and no choice made on "
    "validation sees a click behind the test cutoff. Histories roll on: a later target sees the user's earlier ones.",
}


def protocol(recipe: Recipe, data: PreparedData, targets: Targets, recommender: Recommender) -> dict[str, Any]:
    """Return section `protocol` of results.json."""
    shares = data.split.shares()
    is_generative = isinstance(recommender, GenerativeRecommender)
    if isinstance(recommender, GenerativeRecommender):
        order = np.random.default_rng(recipe.data.seed).permutation(len(targets))
        sample = np.sort(order[: recipe.evaluation.invalid_users])
        histories = torch.from_numpy(targets.histories_matrix(sample))
        users = [str(targets.user_ids[case]) for case in sample]
        shares |= invalid_shares(recommender, histories, user_ids=users)
    codes = {"vocabulary": "the full vocabulary", "level": "the codes of each level"}[recipe.evaluation.normalization]
    generative = {
        "constraint": "trie",
        "normalization": recipe.evaluation.normalization,
        "score": f"sum of natural-log probabilities over {codes}",
    }
    parts = "the source's part, then " if recipe.data.split == "source" else ""
    return {
        "split": recipe.data.split,
        "exclude_seen": "both settings; see the row names",
        "num_beams": recipe.evaluation.num_beams,
        **(generative if is_generative else {"score": "over the whole catalog"}),
        "max_history": getattr(recommender, "max_history", recipe.sasrec.max_history),
        "unit_of_a_hit": "item; the sid rows count any item with the target's model-level codes",
        "ties": f"in time: {parts}blake2b(user_id, item_id, {recipe.data.seed}); "
        "in scores: training popularity, then item_id",
        "cases": len(targets),
        "users": len(set(targets.user_ids)),
        "note": LEAKAGE[recipe.data.split],
        "counts": data.tables.counts | data.split.counts,
        "shares": shares,
    }


def products_record(recipe: Recipe, stages: Stages) -> dict[str, Any]:
    """Return which matrix products were asked for, and per stage which ran and the error of what was asked for."""
    return {
        "asked": recipe.products,
        "limit": LIMIT,
        "used": {name: products.used for name, products in stages.products.items()},
        "relative_error": {name: products.relative_error for name, products in stages.products.items()},
    }


def identity(recipe: Recipe, data: PreparedData, seed: int) -> dict[str, Any]:
    """Return what the numbers were made with: recipe, seed, digests, versions, device."""
    return {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "data_digest": data.tables.digest,
        "split_digest": data.split.digest,
        "versions": versions(),
        "device": device_name(),
    }


def versions() -> dict[str, str]:
    """Return the versions that decide numbers."""
    own = {"python": platform.python_version(), "cost_hf": cost_hf.__version__}
    return own | {name: version(name) for name in PACKAGES}


def device_name() -> str:
    """Return the accelerator's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
