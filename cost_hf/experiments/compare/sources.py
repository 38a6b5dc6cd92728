"""What `cost-hf compare` is given: at most one data source, and recipes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_hf.data.prepare import prepare_data
from cost_hf.experiments.check.layouts import locate
from cost_hf.experiments.own_data import LEVEL_SIZES, OWN_DATA, fit_level_sizes
from cost_hf.experiments.recipe import Recipe, load_beside
from cost_hf.recipe_fields import RecipeError, nearest
from cost_hf.recipe_files import shipped_recipes


def resolve_sources(sources: Sequence[str], overrides: Mapping[str, Any]) -> tuple[Recipe, list[Recipe]]:
    """Return the base recipe, with the data that is named, and the recipes that are further rows.

    Data without a recipe takes `cost_default`, with 256 codes a level from 5,000 items on. The first of several recipes
    is a row like the others; alone it is what the named systems are made from. Overrides of `vectors` concern recipes
    with the first one's kind of vectors.

    Raises:
        RecipeError: for two data sources, or a source that is neither.
    """
    recipes = [source for source in sources if _is_recipe(source)]
    data = [source for source in sources if source not in recipes]
    if len(data) > 1:
        raise RecipeError(
            f"a comparison has one data source, got {data!r}; name one of them, the others are no recipes"
        )
    for source in data:
        if not Path(source).exists() and "/" not in source:
            raise RecipeError(
                f"{source!r} is neither a recipe nor a directory{nearest(source, shipped_recipes())}; name a shipped "
                "recipe, a .yaml file, a directory of data or a Hub data set (owner/name)"
            )
    own = dict(overrides) | ({"data.path": data[0]} if data else {})
    if recipes:
        rows = recipes if len(recipes) > 1 else []
        base = Recipe.load(recipes[0], own)
        return base, [load_beside(base, name, overrides) for name in rows]
    base = Recipe.load(OWN_DATA, own)
    base.name = Path(data[0]).absolute().name
    base.data = locate(base.data)
    if base.level_sizes is not None and LEVEL_SIZES not in own:
        fit_level_sizes(base, prepare_data(base.data, template=base.vectors.item_template).tables.num_items, own)
    return base, []


def _is_recipe(source: str) -> bool:
    return source.endswith((".yaml", ".yml")) or source in shipped_recipes()
