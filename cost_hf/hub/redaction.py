"""What may be published: texts of items only under a licence of the data, and no path of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_hf.terminal_text import terminal_line

SOURCES = ("path", "items", "interactions")  # of section `data`: paths of the user's own files


@dataclass(frozen=True)
class Licence:
    """The licence of the data, which controls whether texts of items are published.

    Attributes:
        name: None where it is not known.
    """

    name: str | None

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Licence":
        """Return the licence of a run's recipe."""
        return cls(recipe["data"]["licence"] or None)

    @property
    def allows_texts(self) -> bool:
        """Whether titles, texts and what is made of their words may be published."""
        return self.name is not None

    @property
    def sentence(self) -> str:
        """Return in one line what is published."""
        if self.name is not None:
            return f"data.licence is {terminal_line(self.name)}: titles, texts and columns of items are published"
        return (
            "data.licence is not set: only item ids and semantic IDs are published, no title, text or other column of "
            "items, no word list of an lsa encoder; the same run with --data.licence NAME computes nothing anew and "
            "publishes them"
        )


def is_local_path(name: str) -> bool:
    """Tell a path, of this machine or of the one that the run was made on, from a Hub id or another word."""
    try:
        return Path(name).is_absolute() or Path(name).exists()
    except (OSError, ValueError):  # too long for a path, or with a character that none has
        return False


def public_name(name: str) -> str:
    """Return the last part of a local path; a Hub id as it is."""
    return Path(name).name if is_local_path(name) else name


def without_local_paths(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results.json with a recipe without local paths: of a local model or file the last part is left."""
    recipe = {name: _redacted(value) for name, value in results["recipe"].items()}
    recipe["data"] = recipe["data"] | {name: None for name in SOURCES if name in recipe["data"]}
    return {**results, "recipe": recipe, "data_name": None}  # the name is that of a local directory or file


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _redacted(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_redacted(part) for part in value]
    return public_name(value) if isinstance(value, str) else value
