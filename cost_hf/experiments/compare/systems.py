"""What is compared: named systems, each a recipe on the same data, vectors and evaluation, for several seeds."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cost_hf.experiments.evaluation_stage import ORACLE
from cost_hf.experiments.pipeline import row_name
from cost_hf.experiments.recipe import Recipe, on_common_ground, row_recipe
from cost_hf.methods.base import FAMILIES, methods, variants
from cost_hf.recipe_fields import RecipeError

logger = logging.getLogger(__name__)
COUNTING, DENSE, GENERATIVE, HYBRID = FAMILIES
CALIBRATION = "calibration"  # family of published identifiers: shown apart, never ranked
PUBLISHED = "published_ids"
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class System:
    """One row that is trained.

    Attributes:
        name: of the row.
        family: of its method, or `calibration`.
        recipe: resolved, with the data and evaluation sections of the comparison.
        description: what sets it apart.
    """

    name: str
    family: str
    recipe: Recipe
    description: str


def default_systems() -> list[str]:
    """Return the rows of a comparison that names none: those that the methods propose, cheapest family first."""
    known = methods()
    proposed = [variant for variant in variants().values() if variant.is_compared]
    return [
        variant.name for variant in sorted(proposed, key=lambda variant: FAMILIES.index(known[variant.method].family))
    ]


def untrained_rows(base: Recipe) -> dict[str, Recipe]:
    """Return the baselines of a recipe that count and train nothing, by row name: they are ranked once for all."""
    recipes = {row_name(name): row_recipe(name, base) for name in base.baselines}
    return {name: recipe for name, recipe in recipes.items() if recipe.system.family == COUNTING}


def plan_systems(
    base: Recipe, names: Sequence[str] | None, *, others: Sequence[Recipe] = (), reference: str | None = None
) -> list[System]:
    """Return the systems of a comparison, in the order of the rows.

    Args:
        base: gives data, vectors and evaluation to all, and everything else to the variants of its method.
        names: methods, variants or recipes; None takes `default_systems`. Baselines of the base that are trained are
            rows too.
        others: recipes that are rows by their own names with sections of their own; data and evaluation are the base's.
            One that a named system is the same as makes no second row.
        reference: parquet file of published identifiers for a calibration row.

    Raises:
        RecipeError: for an unknown name, one name twice, or that of a row that is no system.
    """
    chosen = default_systems() if names is None else list(names)
    counted = untrained_rows(base)
    chosen += [name for name in base.baselines if row_name(name) not in counted and name not in chosen]
    systems = [_system(row_name(name), row_recipe(name, base)) for name in chosen]
    for recipe in others:
        own = on_common_ground(recipe, base)
        same = next((system.name for system in systems if own.inputs() == system.recipe.inputs()), None)
        if same is None:
            systems.append(_system(recipe.name, own))
        else:
            logger.info("recipe %s stands in the table as %s", recipe.name, same)
    if reference is not None:
        recipe = on_common_ground(base, base)
        recipe.set("catalog.reference", reference)
        note = "published identifiers under the same generator; they may have seen test data"
        systems.append(System(PUBLISHED, CALIBRATION, recipe, note))
    found = [system.name for system in systems]
    if not found or len(set(found)) < len(found):
        raise RecipeError(f"a comparison needs one or more systems with names of their own, got {found!r}")
    taken = [name for name in found if name in {*counted, ENSEMBLE, ORACLE}]
    if taken:
        raise RecipeError(f"{taken!r} are names of rows that this comparison has; rename the recipe, or leave them out")
    for system in systems:
        system.recipe.validate()
    return systems


def _system(name: str, recipe: Recipe) -> System:
    method = recipe.system
    return System(Path(name).stem, method.family, recipe, recipe.description or method.summary)
