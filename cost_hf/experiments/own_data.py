"""The recipe for data of one's own where none is named: chosen by the size of the catalog and the length of histories.

The choice is a rule of thumb that needs no training; `cost-hf compare` measures which system is best on the data.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_hf.data.options import DataOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import DEFAULT_METHOD, FAMILIES, methods
from cost_hf.recipe_files import COMMON, recipe_content, shipped_recipes

if TYPE_CHECKING:  # the arguments of a command need no pandas
    from cost_hf.data.prepare import PreparedData

QUICKSTART = "cost_quickstart"  # recipe without any data
OWN_DATA = "cost_default"  # recipe for tables of any kind
SHORT = 2  # clicks of the user in the middle
LARGE_CATALOG = 5_000  # items from which 64 codes a level leave many items without an ID of their own
MAX_HISTORY = 50
SOURCES = ("data.path", "data.items", "data.interactions")
LEVEL_SIZES = "codes.level_sizes"
HISTORY = "generator.max_history"


def names_own_data(overrides: Mapping[str, Any]) -> bool:
    """Return whether overrides name data, so that the toy data can't be meant."""
    return any(overrides.get(name) for name in SOURCES) or overrides.get("data.reader", "synthetic") != "synthetic"


def data_name(options: DataOptions) -> str | None:
    """Return what data on disk or on the Hub are called, None for tables in memory and for the toy data.

    Examples:
        >>> data_name(DataOptions(path="exports/shop")), data_name(DataOptions(interactions="orders-*.csv.gz"))
        ('shop', 'orders')
    """
    source = options.path or options.interactions or options.items
    if source is None or options.reader == "synthetic":
        return None
    name = Path(source).absolute().name if Path(source).is_dir() else Path(source).name.partition(".")[0]
    return name.rstrip("*?-_") or None


def fit_level_sizes(recipe: Recipe, num_items: int, overrides: Mapping[str, Any]) -> bool:
    """Set the codes per level for a catalog of `num_items`, and tell whether they were set.

    Sizes that the overrides name, or that a method or kind of codes brings instead of those of the recipe for data of
    one's own, stay.
    """
    if LEVEL_SIZES in overrides or recipe.level_sizes != Recipe.load(OWN_DATA).level_sizes:
        return False
    recipe.set(LEVEL_SIZES, [256, 256, 256] if num_items >= LARGE_CATALOG else [64, 64, 64])
    return True


def choose_recipe(base: Recipe, data: "PreparedData", overrides: Mapping[str, Any]) -> tuple[Recipe, str]:
    """Return the recipe for the data, and why it was chosen, one sentence.

    Args:
        base: recipe `cost_default` with the overrides.
        data: that it will be trained on.
        overrides: dotted fields; what they name is never chosen otherwise.
    """
    lengths = data.tables.interactions.groupby("user_id", sort=False).size().to_numpy()
    middle = float(np.median(lengths))
    ninety = float(np.quantile(lengths, 0.9))
    num_items = data.tables.num_items
    users = f"{len(lengths):,} users with {middle:.0f} clicks (median), nine of ten at most {ninety:.0f}"
    facts = f"{num_items:,} items, {users}"
    names_method = any(name.partition(".")[0] not in COMMON for name in overrides)
    if middle <= SHORT and not names_method:
        recipe = Recipe.load(_counting_recipe(), overrides)
        for section in COMMON:
            setattr(recipe, section, copy.deepcopy(getattr(base, section)))
        reason = "there is hardly a sequence to learn from, so transitions are counted and texts compared"
        return recipe, f"recipe {recipe.name}: {facts}; {reason}"
    chosen = []
    if fit_level_sizes(base, num_items, overrides):
        chosen.append(f"{LEVEL_SIZES} {base.level_sizes} for the size of the catalog")
    usual = next((entry.value for entry in base.fields() if entry.dotted == HISTORY), None)
    if usual is not None and HISTORY not in overrides and ninety > usual:
        base.set(HISTORY, min(MAX_HISTORY, int(np.ceil(ninety))))
        chosen.append(f"{HISTORY} {min(MAX_HISTORY, int(np.ceil(ninety)))} for the length of the histories")
    return base, "; ".join([f"recipe {base.name}: {facts}", *chosen])


def _counting_recipe() -> str:
    """Return the shipped recipe that counts instead of training, where there is hardly a sequence to learn from."""
    known = methods()
    families = {name: known[recipe_content(name).get("method", DEFAULT_METHOD)].family for name in shipped_recipes()}
    return next(name for name, family in families.items() if family == FAMILIES[0])
