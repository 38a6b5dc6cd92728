"""What is compared: named systems, each a recipe on the same data, vectors and evaluation, for several seeds."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cost_hf.evaluation.options import BASELINES
from cost_hf.experiments.recipe import Recipe, RecipeError, nearest
from cost_hf.methods.sasrec.options import VARIANTS
from cost_hf.quantizers.options import EXTRA_FIELDS, PRESETS, UNTRAINED, WEIGHT_FIELDS

logger = logging.getLogger(__name__)
DENSE, GENERATIVE, CALIBRATION = "dense", "generative", "calibration"
PUBLISHED = "published_ids"
# LETTER's T5 (arXiv 2405.07314) with every prefix as an example; the shared embedding learns faster, because T5 starts
# it with a standard deviation of 1, which AdamW hardly moves at the rate of the other weights
T5 = {
    "generator.kind": "seq2seq",
    "generator.size": "letter",
    "generator.dropout": 0.1,
    "training.learning_rate": 1.0e-3,
    "training.embedding_learning_rate_multiplier": 15.0,
    # from scratch, whatever the base has
    "generator.backbone": None,
    "generator.prompt": "bare",
    "generator.embedding_init": None,
    "adapter.r": None,
    "adapter.alpha": None,
    "adapter.dropout": 0.0,
    "adapter.target_modules": None,
    "tasks.weights": {"next_item": 1.0},
}
RESERVED = (*BASELINES, "ensemble", "oracle")  # names of rows that are no systems
WEIGHTS = {f"codes.{name}": None for name in (*WEIGHT_FIELDS, *EXTRA_FIELDS)}  # a kind brings its own
WITHOUT_VECTORS, MOVING = ("random", "category"), ("reassign", "sinkhorn")  # kinds, and policies they can't follow
DEFAULT_SYSTEMS = ("sasrec_ce", "sasrec_text", "cost", "random")


@dataclass(frozen=True)
class System:
    """One row that is trained.

    Attributes:
        name: of the row.
        family: `dense`, `generative`, or `calibration` (published identifiers: shown apart, never ranked).
        recipe: resolved, with the data and evaluation sections of the comparison.
        description: what sets it apart.
    """

    name: str
    family: str
    recipe: Recipe
    description: str


def system_names() -> list[str]:
    """Return the names that `--systems` knows."""
    kinds = [*PRESETS, *UNTRAINED]
    return [*VARIANTS, *kinds, *(f"t5_{kind}" for kind in kinds)]


def plan_systems(
    base: Recipe, names: Sequence[str], *, others: Sequence[Recipe] = (), reference: str | None = None
) -> list[System]:
    """Return the systems of a comparison, in the order of the rows.

    Args:
        base: gives data, vectors and evaluation to all, and everything else to the named systems.
        names: of `system_names`.
        others: recipes that are rows by their own names with sections of their own; data and evaluation are the base's.
            One that a named system is the same as makes no second row.
        reference: parquet file of published identifiers for a calibration row.

    Raises:
        RecipeError: for an unknown name, one name twice, or that of a row that is no system.
    """
    systems = [_named(base, name) for name in names]
    for recipe in others:
        family, own = DENSE if recipe.method == "sasrec" else GENERATIVE, _on_common_ground(recipe, base)
        same = next((system.name for system in systems if _is_same(own, system.recipe)), None)
        if same is None:
            systems.append(System(recipe.name, family, own, recipe.description))
        else:
            logger.info("recipe %s stands in the table as %s", recipe.name, same)
    if reference is not None:
        recipe = _changed(base, {"method": "generative", "catalog.reference": reference})
        note = "published identifiers under the same generator; they may have seen test data"
        systems.append(System(PUBLISHED, CALIBRATION, recipe, note))
    found = [system.name for system in systems]
    if not found or len(set(found)) < len(found):
        raise RecipeError(f"a comparison needs one or more systems with names of their own, got {found!r}")
    taken = [name for name in found if name in RESERVED]
    if taken:
        raise RecipeError(f"{taken!r} are names of rows that every comparison has; rename the recipe")
    for system in systems:
        system.recipe.validate()
    return systems


def _named(base: Recipe, name: str) -> System:
    if name in VARIANTS:
        changes = {"method": "sasrec"} | {f"sasrec.{field}": value for field, value in VARIANTS[name].items()}
        text = ", ".join(f"{field} {value}" for field, value in VARIANTS[name].items())
        return System(name, DENSE, _changed(base, changes), f"SASRec: {text}")
    kind = name.removeprefix("t5_")
    if kind not in (*PRESETS, *UNTRAINED):
        known = system_names()
        raise RecipeError(f"unknown system {name!r}{nearest(name, known)}; systems are {', '.join(known)}")
    changes = {"method": "generative", "codes.kind": kind, "catalog.reference": None} | WEIGHTS
    if kind in WITHOUT_VECTORS and base.catalog.collisions in MOVING:
        changes["catalog.collisions"] = "append"
    if name != kind:
        return System(name, GENERATIVE, _changed(base, changes | T5), f"T5 of LETTER's size on codes of kind {kind}")
    generator = f"{base.generator.kind} generator, size {base.generator.size}"
    return System(name, GENERATIVE, _changed(base, changes), f"{generator}, codes of kind {kind}")


def _is_same(one: Recipe, other: Recipe) -> bool:
    """Return whether two recipes on common ground differ in nothing but what they are called."""
    called = {"name": "", "description": ""}
    return one.to_dict() | called == other.to_dict() | called


def _changed(base: Recipe, changes: Mapping[str, Any]) -> Recipe:
    recipe = _on_common_ground(base, base)
    for dotted, value in changes.items():
        recipe.set(dotted, value)
    return recipe


def _on_common_ground(recipe: Recipe, base: Recipe) -> Recipe:
    """Return a copy judged on the base's data by the base's rules; baselines are ranked once, outside the runs."""
    own = copy.deepcopy(recipe)
    own.data, own.vectors = copy.deepcopy(base.data), copy.deepcopy(base.vectors)
    own.evaluation = copy.deepcopy(base.evaluation)
    own.evaluation.baselines = []
    return own
