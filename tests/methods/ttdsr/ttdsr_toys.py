"""A tiny language model and a workspace of toy data for the tests of TTDSR."""

from pathlib import Path
from typing import Any

from cost_hf.data.prepare import prepare_data
from cost_hf.experiments.pipeline import make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import Workspace
from cost_hf.methods.ttdsr.method import NO_ALIGNMENT, NO_USERS, STATIC
from cost_hf.stages import Stages
from tests.runs import tiny_fields

OFF = STATIC | NO_ALIGNMENT | NO_USERS
SMALL = {
    "data.synthetic_users": 24,
    "data.synthetic_items": 48,
    "generator.max_history": 5,
    "codes.level_sizes": [8, 8],
    "adapter.target_modules": ["q_proj", "v_proj"],
    "users.level_sizes": [8, 4],
    "index.refresh_steps": 2,
    "index.tower_epochs": 2,
    "index.max_text_tokens": 12,
    "alignment.entities": 3,
    "tasks.max_text_tokens": 12,
    "training.epochs": 2,
    "training.learning_rate": 1e-2,
    "training.precision": "fp32",
    "codes.epochs": 4,
    "codes.latent_dim": 8,
    "codes.hidden_sizes": [16],
}


def toy_fields(backbone: Path, **fields: Any) -> dict[str, Any]:
    """Fields of a tiny recipe; `index__refresh_steps=None` stands for `index.refresh_steps`."""
    own = {name.replace("__", "."): value for name, value in fields.items()}
    return tiny_fields(method="ttdsr") | SMALL | {"generator.backbone": str(backbone)} | own


def toy_recipe(backbone: Path, **fields: Any) -> Recipe:
    """That recipe."""
    return Recipe.load("cost_quickstart", toy_fields(backbone, **fields))


def toy_workspace(directory: Path, recipe: Recipe) -> Workspace:
    """A workspace in a directory, whose item text vectors are made when they are asked for."""
    return make_workspace(Stages(directory), recipe, prepare_data(recipe.data))
