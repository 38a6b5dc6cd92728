"""Recipe section `catalog`, and the limits of sizes that callers and files may ask for.

Sizes are checked before anything of that size is allocated. Importing this module does not import torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

COLLISION_POLICIES = ("append", "reassign", "min_cost", "sinkhorn", "none")
MOVING_POLICIES = ("reassign", "min_cost", "sinkhorn")  # they move items by the distances of a quantizer
# initialisations of the SID token embeddings; in this module because reading it does not need torch
EMBEDDING_INITS = ("normal", "mean", "text", "codebook", "mapped")
ANCHORED_INITS = ("text", "codebook", "mapped")
CODED_INITS = ("codebook", "mapped")  # they need code vectors
ANCHOR = " item"  # text whose embedding these start from


@dataclass
class CatalogOptions:
    """How codes become semantic IDs of items."""

    collisions: str = field(
        default="append",
        metadata={
            "help": "append (one more level), reassign (next-nearest code), min_cost (last codes at the least total "
            "distance), sinkhorn (balanced over the free last codes; items beyond these share a SID), none (items "
            "share a SID)"
        },
    )
    append_size: int = field(
        default=256, metadata={"help": "codes of the appended level; fixed, so that the vocabulary never changes"}
    )
    reference: str | None = field(
        default=None,
        metadata={"help": "published identifiers (parquet: item_id, sid) in place of learned codes; for comparison"},
    )

    def validate(self) -> None:
        """Raise ValueError for an unknown policy or a level without codes."""
        if self.collisions not in COLLISION_POLICIES:
            raise ValueError(
                f"catalog.collisions must be one of {', '.join(COLLISION_POLICIES)}, got {self.collisions!r}"
            )
        whole_number(self.append_size, "catalog.append_size", most=MAX_TOKENS)


MAX_LEVELS = 64
MAX_CODES = 1 << 31  # of one level: the trie stores codes as int32
MAX_TOKENS = 1 << 22  # of a vocabulary: codes of all levels, markers and user tokens
MAX_TOKEN_ID = (1 << 31) - 1
MAX_RANKED = 10_000  # list lengths and beams up to here are allowed even for smaller catalogs
MAX_HISTORY = 100_000  # items of a history given to a model


def whole_number(value: Any, name: str, *, least: int = 1, most: int | None = None, remedy: str = "") -> int:
    """Return a whole number as int; numpy integers are accepted, bools and floats are not.

    Args:
        value: the number to check.
        name: of the argument or field, for errors.
        least, most: inclusive bounds; None for no upper bound.
        remedy: what to do, for errors.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r:.80} ({type(value).__name__})"
            f"{_after(remedy)}"
        )
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}{_after(remedy)}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}{_after(remedy)}")
    return number


def _after(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""


def ranked_number(value: Any, name: str, num_items: int) -> int:
    """Return a checked list length or number of beams for a catalog of `num_items`; raise ValueError otherwise."""
    return whole_number(value, name, most=max(num_items, MAX_RANKED))


def level_size_tuple(level_sizes: Any, name: str = "level_sizes", *, most: int = MAX_CODES) -> tuple[int, ...]:
    """Return the codes per level of 1 to 64 levels, each at most `most`; raise ValueError for anything else."""
    if isinstance(level_sizes, str) or not isinstance(level_sizes, Iterable):
        raise ValueError(f"{name} must hold one positive number per level, got {level_sizes!r:.80}")
    sizes = tuple(level_sizes)
    if not 1 <= len(sizes) <= MAX_LEVELS:
        raise ValueError(
            f"{name} must hold one positive number per level, for 1 to {MAX_LEVELS} levels, got {sizes!r:.80}"
        )
    return tuple(whole_number(size, f"{name}[{level}]", most=most) for level, size in enumerate(sizes))
