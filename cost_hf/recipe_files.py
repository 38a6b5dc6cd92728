"""Recipe files: those of the package by name, and YAML files of users."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from cost_hf.recipe_fields import RecipeError, nearest
from cost_hf.yaml_text import read_yaml

COMMON = ("data", "vectors", "evaluation")  # sections that recipes of all methods have
TEXTS = ("name", "description", "method")  # fields without a section
MAX_BYTES = 1_000_000  # of a recipe file


def shipped_recipes() -> dict[str, str]:
    """Return name → description of the recipes in the package."""
    files = [file for file in resources.files("cost_hf.recipes").iterdir() if file.name.endswith(".yaml")]
    texts = {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}
    return {name: str(read_yaml(text).get("description", "")) for name, text in sorted(texts.items())}


def flat_fields(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the fields of sections by their dotted names.

    Args:
        content: sections of a recipe file.
        source: its name, for errors.

    Raises:
        RecipeError: for a section without fields.
    """
    values: dict[str, Any] = {}
    for section, entries in content.items():
        if not isinstance(entries, dict):
            raise RecipeError(f"section {section!r} of {source} must hold fields, got {entries!r:.80}")
        values |= {f"{section}.{name}": value for name, value in entries.items()}
    return values


def recipe_content(name_or_path: str) -> dict[str, Any]:
    """Return what a recipe's file holds: texts and sections.

    Args:
        name_or_path: a shipped recipe, or a path that ends in .yaml.

    Raises:
        RecipeError: where there is no such recipe, or its file holds none.
    """
    text = _recipe_text(name_or_path)
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{name_or_path} is no recipe: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise RecipeError(
            f"{name_or_path} is no recipe: expected sections with fields, got {content!r:.80} "
            f"({type(content).__name__})"
        )
    return content


def _recipe_text(name_or_path: str) -> str:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_dir():
            raise RecipeError(f"{name_or_path!r} is a directory, expected a recipe file")
        if not path.is_file():
            raise RecipeError(f"no recipe file {name_or_path!r}; shipped recipes are {', '.join(shipped_recipes())}")
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{name_or_path!r} has {path.stat().st_size} bytes, a recipe at most {MAX_BYTES}")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"{name_or_path!r} is no UTF-8 text ({error}); save it as UTF-8") from error
    known = shipped_recipes()
    if name_or_path not in known:
        raise RecipeError(
            f"unknown recipe {name_or_path!r}{nearest(name_or_path, known)}; shipped recipes are {', '.join(known)}; "
            "a file of your own must end in .yaml"
        )
    return resources.files("cost_hf.recipes").joinpath(f"{name_or_path}.yaml").read_text(encoding="utf-8")
