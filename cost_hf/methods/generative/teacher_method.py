"""The method that `training.teacher` names, readable without torch."""

from pathlib import Path
from typing import Any

from cost_hf.methods.base import Method
from cost_hf.methods.parts import named_method
from cost_hf.recipe_fields import RecipeError

RECIPE = "recipe.yaml"  # in a run directory


def teacher_method(name: str) -> Method[Any]:
    """Return the method of a teacher, with the options of its recipe.

    Args:
        name: method, variant, recipe (a shipped one, or a .yaml file) or run directory.

    Raises:
        RecipeError: for a name that stands for nothing, an unfinished run, or a teacher that has a teacher itself.
    """
    recipe = name
    if "/" in name and not Path(name).exists():
        raise RecipeError(
            f"training.teacher {name!r} is neither a run directory nor a recipe file; check the path, or name a "
            "method, variant or shipped recipe"
        )
    if Path(name).is_dir():
        recipe = str(Path(name) / RECIPE)
        if not Path(recipe).is_file():
            raise RecipeError(f"training.teacher {name!r} is no finished run: {RECIPE} is missing; run it to its end")
    method = named_method(recipe, {}, owner="training.teacher")
    training = method.options.sections().get("training")
    if getattr(training, "teacher", None) is not None:
        raise RecipeError(
            f"training.teacher {name!r} has a teacher itself, {training.teacher!r}; name that one, or a recipe without"
        )
    return method
