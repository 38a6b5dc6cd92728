"""How a run was evaluated: all that a reader needs to compare its numbers with others."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from cost_hf.data.events import target_text, weights_text
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import PreparedData
from cost_hf.data.splits import Targets
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import Workspace
from cost_hf.version import __version__

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")
LEAKAGE = {
    "leave_one_out": "Leave-one-out: each user's last {target} is the test target. There is no common cutoff, so "
    "training may hold clicks of other users later than a test click, and popularity and co-clicks may know the "
    "future.",
    "source": "The parts are as the data's publisher marked them: each marked row is one target with all earlier rows "
    "of its user as history (without test rows for a validation target), and rows after a target of the same user "
    "never train. Whether other users' training clicks are later than a test click depends on how the publisher cut.",
    "time": "Split by time: no training click is at or after the first validation target, and no choice made on "
    "validation sees a click after the test cutoff. Histories grow: a later target sees the user's earlier ones.",
}


def leakage(options: DataOptions) -> str:
    """Return how targets were split off, and what training may know of the future."""
    return LEAKAGE[options.split].replace("{target}", " or ".join(options.target_events) or "click")


def protocol(recipe: Recipe, workspace: Workspace, own: Mapping[str, Any], targets: Targets) -> dict[str, Any]:
    """Return section `protocol` of results.json.

    Args:
        own: how the method makes its lists; its shares are added to those of the split.
    """
    data = workspace.data
    parts = "the source's part, then " if recipe.data.split == "source" else ""
    lists = {name: value for name, value in own.items() if name != "shares"}
    return {
        "split": recipe.data.split,
        "targets": target_text(recipe.data),
        "event_weights": weights_text(recipe.data),
        "exclude_seen": "both settings; see the row names",
        "num_beams": recipe.evaluation.num_beams,
        **lists,
        "unit_of_a_hit": "item; the sid rows count any item with the target's model-level codes",
        "ties": f"in time: {parts}blake2b(user_id, item_id, {recipe.data.seed}); "
        "in scores: training popularity, then item_id",
        "cases": len(targets),
        "users": len(set(targets.user_ids)),
        "note": leakage(recipe.data),
        "counts": data.tables.counts | data.split.counts,
        "shares": data.split.shares() | own.get("shares", {}),
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
    own = {"python": platform.python_version(), "cost_hf": __version__}
    return own | {name: version(name) for name in PACKAGES}


def device_name() -> str:
    """Return the accelerator's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
