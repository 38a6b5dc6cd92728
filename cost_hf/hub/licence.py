"""What the licence of the data lets leave: with one, titles and texts; without, item ids and semantic IDs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cost_hf.terminal_text import terminal_line


@dataclass(frozen=True)
class Licence:
    """The gate that everything published passes.

    Attributes:
        name: licence of the data, None where the recipe states none.
    """

    name: str | None

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Licence":
        """Read the licence of a run's recipe."""
        return cls(recipe["data"]["licence"] or None)

    @property
    def allows_texts(self) -> bool:
        """True where titles, texts and what is made of their words may be published."""
        return self.name is not None

    @property
    def sentence(self) -> str:
        """Say in one line what is published."""
        if self.name is not None:
            return f"data.licence is {terminal_line(self.name)}: titles and texts of items are published"
        return (
            "data.licence is not set: only item ids and semantic IDs are published, no title, no text, no word list of "
            "an lsa encoder; the same run with --data.licence NAME computes nothing anew and publishes them"
        )
