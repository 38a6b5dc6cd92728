"""The methods that a fusion is made of, by name and with their options."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cost_hf.methods.base import Method, MethodOptions, methods, variants
from cost_hf.options import KindOptions

NAME = "reciprocal_rank"
DEFAULT_MEMBERS = ("cost", "sasrec_text", "text_last")  # one of each family, those that a comparison fuses
TEXT_MEMBER = "text_last"


def member_methods(names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Method[Any]]:
    """Return the methods of a fusion by name, each with its defaults, the fields of its variant and the overrides.

    Args:
        names: of methods or variants.
        overrides: values by `MEMBER.section.field`.

    Raises:
        ValueError: for a name that is no member, a fusion as a member of itself, or a field that a member does not
            have; the nearest name is given.
    """
    known = {name: variant for name, variant in variants().items() if variant.method != NAME}
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for dotted, value in overrides.items():
        name, _, rest = dotted.partition(".")
        if name not in own:
            raise ValueError(
                f"fusion.overrides must name a field of a member as MEMBER.section.field, got {dotted!r}; members are "
                f"{', '.join(names)}"
            )
        own[name][rest] = value
    found: dict[str, Method[Any]] = {}
    for name in names:
        if name not in known:
            raise ValueError(
                f"fusion.members must be methods or their variants, got {name!r}{_nearest(name, known)}; there are "
                f"{', '.join(known)}"
            )
        method = methods()[known[name].method]
        options = method.options_class()
        fields = {**known[name].overrides, **own[name]}
        for dotted in sorted(fields, key=lambda dotted: not dotted.endswith(".kind")):  # a kind has fields of its own
            _set_field(options, dotted, fields[dotted], member=name)
        found[name] = method(options)
    return found


def _set_field(options: MethodOptions, dotted: str, value: Any, *, member: str) -> None:
    """Set a field of a method's options by its dotted name; a `kind` brings the fields of that kind."""
    sections = {entry.name: getattr(options, entry.name) for entry in dataclasses.fields(options)}
    section, _, name = dotted.partition(".")
    present = sections.get(section)
    if name == "kind" and isinstance(present, KindOptions):
        present.load_kinds()
        if value not in present.kinds:
            raise ValueError(
                f"{member}.{dotted} must be one of {', '.join(present.kinds)}, got {value!r}"
                f"{_nearest(str(value), present.kinds)}"
            )
        kind = present.kinds[value]
        setattr(options, section, kind(**kind.carried_over(dataclasses.asdict(present))))  # type: ignore[call-overload]
        return
    known = [f"{own}.{entry.name}" for own, part in sections.items() for entry in dataclasses.fields(part)]
    if dotted not in known:
        raise ValueError(f"fusion.overrides: member {member!r} has no field {dotted!r}{_nearest(dotted, known)}")
    setattr(present, name, value)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
