"""Rows of the comparisons of benchmarks: recipes that differ from a shipped one in some fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def with_fields(content: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with dotted fields set."""
    changed = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
    for dotted, value in fields.items():
        section, _, field = dotted.partition(".")
        changed.setdefault(section, {})[field] = value
    return changed


def write_recipes(folder: Path, rows: Mapping[str, dict[str, Any]], names: str | None = None) -> list[str]:
    """Write the recipes of rows and return their paths.

    Args:
        folder: of the files.
        rows: recipes by row.
        names: rows separated by commas, the first one is compared with all; None for all of them.

    Raises:
        SystemExit: for a row that is not there, or a single one, which a comparison takes for the base of its rows.
    """
    chosen = list(rows) if names is None else names.split(",")
    unknown = [name for name in chosen if name not in rows]
    if unknown or len(chosen) < 2:
        found = f"unknown {', '.join(unknown)}" if unknown else f"only {chosen[0]}"
        raise SystemExit(f"--rows must name at least two of {', '.join(rows)}, got {found}")
    return [_write_recipe(folder, name, rows[name]) for name in chosen]


def _write_recipe(folder: Path, name: str, content: dict[str, Any]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    text = yaml.safe_dump(content | {"name": name, "description": f"row {name}"}, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return str(path)
