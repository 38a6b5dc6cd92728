"""Sections of a recipe: dataclasses that can be read without torch.

A section has fields with a line of help in their metadata and `validate()`, which raises ValueError for values that no
run can have. The fields of a polymorphic section depend on its `kind`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd


class Section(Protocol):
    """What a recipe asks of a section: a dataclass that can check itself."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        ...


@dataclass(frozen=True)
class ItemFacts:
    """What is known of the items once the data are read, minutes or hours before a section is used.

    Attributes:
        table: of the items, N rows.
        num_fitted: items that fitting may see.
        kept_columns: columns that stay with the catalog.
        most_width: width of the item vectors, or an upper bound of it; None where only the model tells.
    """

    table: pd.DataFrame
    num_fitted: int
    kept_columns: tuple[str, ...] = ()
    most_width: int | None = None


@runtime_checkable
class ChecksItems(Protocol):
    """A section whose values must fit the items."""

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for values that do not fit the items; log what a user should know."""
        ...


def require_column(column: str, columns: Iterable[object], *, field: str) -> None:
    """Raise ValueError where a field names a column that the items do not have.

    Examples:
        >>> require_column("topic", ["item_id", "title"], field="codes.tag_column")
        Traceback (most recent call last):
        ValueError: codes.tag_column must be a column of the items, got 'topic', found item_id, title; correct the name
    """
    known = list(map(str, columns))
    if column not in known:
        raise ValueError(
            f"{field} must be a column of the items, got {column!r:.80}, found {', '.join(known)}; correct the name"
        )


class KindOptions:
    """Base of a section with one dataclass for every kind, such as `codes`: `kind` picks the class and its fields.

    A family of kinds is a direct subclass with `default_kind`; a kind is a dataclass below it, registered by
    `@Family.register("name")`.
    """

    kind: ClassVar[str]
    default_kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a family its own registry."""
        super().__init_subclass__(**options)
        if KindOptions in cls.__bases__:
            cls.kinds = {}

    @classmethod
    def register(cls, kind: str) -> Any:
        """Return a decorator that makes a dataclass known as `kind`.

        Raises:
            ValueError: for a name that another class has.
        """

        def add(options: type) -> type:
            known = cls.kinds.setdefault(kind, options)
            if (known.__module__, known.__qualname__) != (options.__module__, options.__qualname__):
                raise ValueError(f"kind {kind!r} is {known.__qualname__} already; give {options.__qualname__} a name")
            cls.kinds[kind] = options
            options.kind = kind  # type: ignore[attr-defined]
            return options

        return add

    @classmethod
    def load_kinds(cls) -> None:
        """Import the modules that register kinds; a family overrides it where they are not imported anyway."""

    @classmethod
    def carried_over(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of another kind's section that this kind has too and that mean the same in it."""
        names = {entry.name for entry in dataclasses.fields(cls) if not entry.metadata.get("is_own")}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if name in names}

    def shared_values(self) -> dict[str, Any]:
        """Return the fields that are not this kind's own, by name: what another kind may take over."""
        names = [entry.name for entry in dataclasses.fields(self) if not entry.metadata.get("is_own")]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for values that do not fit the items; log what a user should know."""

    def copied(self, **changes: Any) -> Self:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]
