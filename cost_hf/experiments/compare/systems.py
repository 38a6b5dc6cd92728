"""What is compared: named systems, each a recipe on the same data, vectors and evaluation, for several seeds.

A hybrid row combines the other rows: it takes what they have trained, seed by seed. It stands in the table twice, with
the generative rows among its parts and without them, so that a comparison shows what a generator adds to counts and
dense models.
"""

import copy
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cost_hf.experiments.evaluation_stage import ORACLE
from cost_hf.experiments.pipeline import row_name
from cost_hf.experiments.recipe import Recipe, on_common_ground, row_recipe, variant_recipe
from cost_hf.methods.base import FAMILIES, methods, variants
from cost_hf.recipe_fields import RecipeError

logger = logging.getLogger(__name__)
COUNTING, DENSE, GENERATIVE, HYBRID = FAMILIES
CALIBRATION = "calibration"  # family of published identifiers: shown apart, never ranked
PUBLISHED = "published_ids"
WITH_GENERATIVE = "_generative"  # end of the name of a hybrid row that has generative parts


@dataclass(frozen=True)
class System:
    """One row that is trained.

    Attributes:
        name: of the row.
        family: of its method, or `calibration`.
        recipe: resolved, with the data and evaluation sections of the comparison.
        description: what sets it apart.
        parts: recipes of the rows that it combines, by name; of no other systems.
        without_generative: name of the row that differs by the generative parts alone.
    """

    name: str
    family: str
    recipe: Recipe
    description: str
    parts: Mapping[str, Recipe] = field(default_factory=dict)
    without_generative: str | None = None


@dataclass(frozen=True)
class Plan:
    """The rows of a comparison.

    Attributes:
        untrained: recipes of the rows that count and train nothing, by name; they are ranked once for all.
        systems: rows that are trained, in the order of their runs: hybrids follow what they combine.
    """

    untrained: Mapping[str, Recipe]
    systems: Sequence[System]


def default_systems() -> list[str]:
    """Return the rows of a comparison that names none: those that the methods propose, cheapest family first."""
    known = methods()
    proposed = [variant for variant in variants().values() if variant.is_compared]
    return [
        variant.name for variant in sorted(proposed, key=lambda variant: FAMILIES.index(known[variant.method].family))
    ]


def _fitting_systems(base: Recipe) -> list[str]:
    """Return `default_systems` without those that require texts where the base has other vectors."""
    proposed = default_systems()
    if base.vectors.is_text:
        return proposed
    left_out = [
        name
        for name in proposed
        if not (system := variant_recipe(variants()[name], base).system).combines_methods and system.requires_texts
    ]
    if left_out:
        logger.warning("%s are left out: vectors.kind is %s", ", ".join(left_out), base.vectors.kind)
    return [name for name in proposed if name not in left_out]


def combining_systems() -> list[str]:
    """Return the rows that a comparison adds: proposed methods that combine the others."""
    known = methods()
    return [name for name in default_systems() if known[variants()[name].method].combines_methods]


def plan_systems(
    base: Recipe,
    names: Sequence[str] | None,
    *,
    others: Sequence[Recipe] = (),
    reference: str | None = None,
    hybrids: bool = True,
) -> Plan:
    """Return the rows of a comparison.

    Args:
        base: gives data, vectors and evaluation to all, and everything else to the variants of its method. Its
            baselines are rows, too.
        names: methods, variants or recipes; None takes `default_systems`.
        others: recipes that are rows by their own names with sections of their own; data and evaluation are the base's.
            One that a named system is the same as makes no second row.
        reference: parquet file of published identifiers for a calibration row.
        hybrids: add `combining_systems`, where they are not named.

    Raises:
        RecipeError: for an unknown name, one name twice, or a hybrid with nothing to combine.
    """
    if names is not None and not names:
        raise RecipeError("a comparison needs one or more systems, got none; name them, or leave `systems` out")
    chosen = _fitting_systems(base) if names is None else list(names)
    asked = [*chosen, *(name for name in base.baselines if name not in chosen)]
    rows = [(row_name(name), row_recipe(name, base)) for name in asked]
    # a recipe says what it combines, also where that is the default of its method
    with_own_parts = {row_name(name) for name in asked if name not in variants()}
    for recipe in others:
        own = on_common_ground(recipe, base)
        same = next((name for name, known in rows if own.inputs() == known.inputs()), None)
        if same is None:
            rows.append((recipe.name, own))
            with_own_parts.add(recipe.name)
        else:
            logger.info("recipe %s stands in the table as %s", recipe.name, same)
    taken = [name for name, _ in rows]
    _check_names([*taken, *([PUBLISHED] if reference is not None else [])])
    if hybrids:
        rows += [(name, row_recipe(name, base)) for name in combining_systems() if name not in taken]
    counting = [(name, recipe) for name, recipe in rows if recipe.system.family == COUNTING]
    # a baseline that is named, too, stays where it is, so that hybrids are the same ones
    order = [row_name(name) for name in base.baselines]
    counting.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    combining = [(name, recipe) for name, recipe in rows if recipe.system.combines_methods]
    trained = [row for row in rows if row not in counting and row not in combining]
    for _, recipe in [*counting, *trained]:
        recipe.validate()
    systems = [_system(name, recipe) for name, recipe in trained]
    # a hybrid reads one kind of vectors, its own
    parts = dict(counting) | {
        name: recipe for name, recipe in trained if not recipe.system.is_control and recipe.has_vectors_of(base)
    }
    for name, recipe in combining:
        if name in with_own_parts or _names_parts(recipe):
            recipe.validate()
            systems.append(_system(name, recipe))
        else:
            systems += _combinations(name, recipe, parts, is_named=name in taken)
    if reference is not None:
        recipe = on_common_ground(base, base)
        recipe.set("catalog.reference", reference)
        recipe.validate()
        note = "published identifiers under the same generator; they may have seen test data"
        systems.append(System(PUBLISHED, CALIBRATION, recipe, note))
    _check_names([*dict(counting), *(system.name for system in systems)])
    return Plan(dict(counting), systems)


def _check_names(names: Sequence[str]) -> None:
    """Raise RecipeError where two rows have one name; the oracle of toy data is a row, too."""
    twice = sorted({name for name in names if names.count(name) > 1 or name == ORACLE})
    if twice:
        raise RecipeError(
            f"every row of a comparison needs a name of its own, got {twice!r} for two of them; name each system once, "
            "or rename the recipe"
        )


def combined(recipe: Recipe, parts: Mapping[str, Recipe]) -> Recipe:
    """Return the recipe of a hybrid with the rows that it combines as its parts."""
    own = copy.deepcopy(recipe)
    fields = own.system.combination_of({name: part.system for name, part in parts.items()}) or {}
    for dotted, value in fields.items():
        own.set(dotted, value)
    return own


def _combinations(name: str, recipe: Recipe, parts: Mapping[str, Recipe], *, is_named: bool) -> list[System]:
    """Return the rows of a method that combines others: without those that have a generator, and with them.

    Args:
        parts: recipes of the rows by name.
        is_named: whether a user asked for the row, so that it can't be left out.
    """
    plain = {part: own for part, own in parts.items() if own.system.family in (COUNTING, DENSE)}
    candidates: dict[str, Mapping[str, Recipe]] = {name: plain}
    if len(plain) < len(parts):
        candidates[f"{name}{WITH_GENERATIVE}"] = parts
    systems: list[System] = []
    for own_name, own_parts in candidates.items():
        system = dataclasses.replace(_system(own_name, combined(recipe, own_parts)), parts=own_parts)
        try:
            system.recipe.validate()
        except ValueError as error:  # too few rows
            logger.info("there is no row %s: %s", own_name, error)
            reason = error
            continue
        systems.append(dataclasses.replace(system, without_generative=systems[0].name if systems else None))
    if is_named and not systems:
        remedy = "; add systems, or name its parts" if len(parts) < 2 else ""
        raise RecipeError(f"row {name} can't be made of the other rows: {reason}{remedy}")
    return systems


def _names_parts(recipe: Recipe) -> bool:
    """Return whether a variant has parts of its base: what a combination would set is not the method's default."""
    own = {entry.dotted: entry.value for entry in recipe.fields()}
    default = {entry.dotted: entry.value for entry in Recipe(method=recipe.method).fields()}
    return any(own[dotted] != default[dotted] for dotted in recipe.system.combination_of({}) or {})


def _system(name: str, recipe: Recipe) -> System:
    method = recipe.system
    return System(name, method.family, recipe, recipe.description or method.summary)
