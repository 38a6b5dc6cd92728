"""Fields of recipes by their dotted names: conversion to the type of a field, kinds of sections, hints at misspellings.

A section is a dataclass; `codes.level_sizes` is the field `level_sizes` of the section `codes`, and
`tasks.weights.next_item` the entry `next_item` of the mapping `weights`.
"""

import copy
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from cost_hf.options import KindOptions

MAX_MEMBERS = 1_000  # of a list or mapping
MAX_INT = 2**63 - 1  # what arrays and seeds can hold


class RecipeError(ValueError):
    """A recipe, field or value that does not exist or does not fit."""


def set_field(holder: Any, sections: Mapping[str, Any], dotted: str, value: Any, *, owner: str) -> None:
    """Set one field by its dotted name, converting `value` to the field's type.

    Args:
        holder: has the polymorphic sections as attributes: a `kind` replaces the section there.
        sections: all sections by name.
        dotted: `section.field`, or `section.field.entry` of a mapping, whose other entries stay.
        value: of the field, or a text that is one.
        owner: what the sections belong to, for errors.

    Raises:
        RecipeError: for a field that the sections do not have, or a value of the wrong type.
    """
    section, _, name = dotted.partition(".")
    options = sections.get(section)
    if name == "kind" and isinstance(options, KindOptions):
        _swap_kind(holder, section, options, value)
        return
    hints = typing.get_type_hints(type(options)) if options is not None else {}
    field, _, entry = name.partition(".")
    if options is not None and entry and field in _names_of(options) and isinstance(getattr(options, field), dict):
        name = field
        value = getattr(options, field) | {entry: value}
    if options is None or name not in _names_of(options):
        whose = f"{section}.kind {options.kind}" if isinstance(options, KindOptions) else owner
        raise RecipeError(
            f"unknown field {dotted!r} of {whose}{field_hint(dotted, sections)} "
            "(`train.py --recipe NAME --help` lists the fields of a recipe)"
        )
    setattr(options, name, typed(value, hints[name], dotted))


def field_hint(dotted: str, sections: Mapping[str, Any], *, others: Iterable[str] = ()) -> str:
    """Return what to do about a field that sections do not have: the kinds that have it, or else the nearest name.

    Args:
        dotted: `section.field`.
        sections: all sections by name.
        others: names beside those of the fields, such as options of a command.
    """
    section, _, name = dotted.replace("-", "_").partition(".")
    options = sections.get(section)
    if isinstance(options, KindOptions) and name not in _names_of(options):
        owners = sorted(kind for kind, own in kinds_of(options).items() if name in _names_of(own))
        if owners:
            return f"; {section}.kind {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"
    return nearest(dotted, [*field_names(sections), *others])


def in_order(names: Iterable[str]) -> list[str]:
    """Return field names in the order in which they must be set: what decides which fields exist comes first."""
    given = list(names)
    first = [name for name in given if name == "method"]
    kinds = [name for name in given if name.endswith(".kind")]
    return list(dict.fromkeys([*first, *kinds, *given]))


def field_names(sections: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of all fields, kinds of sections included."""
    names = []
    for section, options in sections.items():
        names += [f"{section}.kind"] if isinstance(options, KindOptions) else []
        names += [f"{section}.{name}" for name in _names_of(options)]
    return names


def _names_of(options: Any) -> list[str]:
    """Return the names of the fields of a section, or of a class of one."""
    return [entry.name for entry in dataclasses.fields(options)]


def kinds_of(options: KindOptions) -> dict[str, type[Any]]:
    """Return the classes of all kinds of a section, by kind."""
    options.load_kinds()
    return options.kinds


def _swap_kind(holder: Any, section: str, options: KindOptions, value: Any) -> None:
    kinds = kinds_of(options)
    kind = typed(value, str, f"{section}.kind")
    if kind not in kinds:
        raise RecipeError(f"{section}.kind must be one of {', '.join(kinds)}, got {kind!r:.80}{nearest(kind, kinds)}")
    if kind != options.kind:
        kept = kinds[kind].carried_over(copy.deepcopy(options.shared_values()))
        setattr(holder, section, kinds[kind](**kept))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the closest known name, or an empty string.

    A right field counts most. Where several sections have it and none was named, `training` comes first, and the
    others are named after it.
    """
    candidates = list(known)
    asked = name.replace("-", "_")
    section, _, field_name = asked.rpartition(".")
    fields = {entry.rpartition(".")[2] for entry in candidates}
    close_fields = difflib.get_close_matches(field_name, fields, n=1, cutoff=0.75)
    same_field = [entry for entry in candidates if entry.rpartition(".")[2] in close_fields]
    if same_field and not section:
        best = min(same_field, key=lambda entry: (entry.count("."), not entry.startswith("training.")))
    else:
        close = difflib.get_close_matches(asked, same_field or candidates, n=1, cutoff=0.0 if same_field else 0.6)
        if not close:
            return ""
        best = close[0]
    others = [] if section else [entry for entry in same_field if entry != best]
    also = f" (or {', '.join(others)})" if others else ""
    return f"; did you mean {best!r}{also}?"


def type_name(hint: Any) -> str:
    """Return a type annotation as messages and help show it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(type_name(member) for member in typing.get_args(hint))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


@cache
def _value_parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def typed(value: Any, hint: Any, dotted: str) -> Any:
    """Return `value` as the type of a field; ints pass as floats, and texts as the numbers that they write."""
    is_optional = type(None) in typing.get_args(hint)
    converted = None
    if isinstance(value, list | tuple | dict) and len(value) > MAX_MEMBERS:
        raise RecipeError(f"{dotted} must hold at most {MAX_MEMBERS} entries, got {len(value)}")
    if value is not None:
        try:
            converted = _value_parser(hint).parse_object({"value": value}).value
        except ArgumentError:
            converted = None
    if (converted is None and not (value is None and is_optional)) or not _fits(converted):
        _refuse(value, converted, hint, dotted)
    return converted


def _refuse(value: Any, converted: Any, hint: Any, dotted: str) -> typing.NoReturn:
    if any(isinstance(number, float) and not math.isfinite(number) for number in _numbers(converted)):
        raise RecipeError(f"{dotted} must be a finite number, got {brief(value)}")
    raise RecipeError(f"{dotted} must be {type_name(hint)}, got {brief(value)} ({type(value).__name__})")


def _fits(value: Any) -> bool:
    """Return whether all numbers in a value are finite and fit into 64 bits."""
    return all(
        abs(number) <= MAX_INT if isinstance(number, int) else math.isfinite(number) for number in _numbers(value)
    )


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _numbers(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, int | float):
        yield value


def brief(value: Any) -> str:
    """Return a value for a message: whatever it is, one short line."""
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "a number beyond 64 bits"
    return f"{value!r:.80}"
