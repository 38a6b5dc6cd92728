"""Paths of this machine: they mean nothing elsewhere and may tell of their owner, so that only a name leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACES = (("vectors", "model"), ("generator", "backbone"), ("catalog", "reference"), ("tasks", "templates"))


def is_place(name: str) -> bool:
    """Tell whether a name is a path, here and now or as it was when the run was made; otherwise it is a Hub id."""
    return Path(name).is_absolute() or Path(name).exists()


def shown(name: str) -> str:
    """Return a Hub id as it is, and of a path the last part."""
    return Path(name).name if is_place(name) else name


def without_places(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results.json without paths; of a local model or reference its name is left."""
    recipe = dict(results["recipe"])
    recipe["data"] = recipe["data"] | dict.fromkeys(("path", "items", "interactions"))
    for section, field in PLACES:
        value = recipe[section][field]
        recipe[section] = recipe[section] | {field: None if value is None else shown(value)}
    return {**results, "recipe": recipe}
