"""The configuration reference: every field of every recipe, read from the dataclasses that hold them."""

import dataclasses
import json
import typing
from collections.abc import Iterable

from cost_hf.data.options import DataOptions, ItemVectorOptions
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.experiments.updates.options import UpdateOptions
from cost_hf.methods.base import methods
from cost_hf.options import KindOptions
from cost_hf.recipe_fields import type_name

FOLDER = "configuration"
SHARED = {"data": DataOptions, "vectors": ItemVectorOptions, "evaluation": EvaluationOptions}


def configuration_pages() -> dict[str, str]:
    """Return a page of the fields that all recipes share, one for each method, and one for the kinds of codes."""
    pages = {f"{FOLDER}/index.md": _shared_page()}
    families: dict[str, type[KindOptions]] = _families(SHARED)
    for name, method in methods().items():
        sections = dict(sections_of(method.options_class))
        families |= _families(sections)
        if sections:
            pages[f"{FOLDER}/{name}.md"] = _method_page(name, method.summary, sections)
    for section, family in families.items():
        pages[f"{FOLDER}/{section}_kinds.md"] = _kinds_page(section, family)
    return pages


def _families(sections: dict[str, type]) -> dict[str, type[KindOptions]]:
    """Return the sections whose fields depend on their kind."""
    return {section: kinds for section, kinds in sections.items() if issubclass(kinds, KindOptions)}


def sections_of(options: type) -> Iterable[tuple[str, type]]:
    """Return name and dataclass of every section of a method's recipe."""
    hints = typing.get_type_hints(options)
    return [(entry.name, hints[entry.name]) for entry in dataclasses.fields(options)]


def field_table(options: type, prefix: str) -> str:
    """Return a Markdown table of the fields of a dataclass: name, type, default, help."""
    hints = typing.get_type_hints(options)
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for entry in dataclasses.fields(options):
        cells = [f"`{prefix}.{entry.name}`", f"`{type_name(hints[entry.name])}`", f"`{_default(entry)}`"]
        lines.append("| " + " | ".join([*cells, _escaped(entry.metadata.get("help", ""))]) + " |")
    return "\n".join(lines)


def _shared_page() -> str:
    parts = [
        "# Configuration",
        "A recipe is a YAML file. Its fields have the same dotted names in YAML, on the command line "
        "(`--training.epochs 20`) and in Python (`overrides={'training.epochs': 20}`). Every recipe has the sections "
        "of this page; the others depend on its method and, in `codes` and `vectors`, on a kind. "
        "`train.py --recipe NAME --help` lists the fields of a recipe with the values that it sets.",
        "These pages are generated from the package.",
    ]
    for section, options in SHARED.items():
        parts += [f"## {section}", *_section_parts(section, options)]
    parts += [
        "## Updates",
        "Settings of `cost-hf update` (`--learning-rate-factor 0.5`) and of `update_run(..., options={...})`; they are "
        "in no recipe.",
        field_table(UpdateOptions, "update"),
    ]
    return "\n\n".join(parts) + "\n"


def _method_page(name: str, summary: str, sections: dict[str, type]) -> str:
    parts = [f"# Method {name}", f"{summary[:1].upper()}{summary[1:].rstrip('.')}."]
    parts.append("A recipe of this method has the [shared sections](index.md) and these:")
    for section, options in sections.items():
        parts += [f"## {section}", *_section_parts(section, options)]
    return "\n\n".join(parts) + "\n"


def _section_parts(section: str, options: type) -> list[str]:
    """Return the fields of a section, or where those of its kinds are."""
    if issubclass(options, KindOptions):
        return [f"The fields depend on `{section}.kind`: see [kinds of {section}]({section}_kinds.md)."]
    return [_first_line(options), field_table(options, section)]


def _kinds_page(section: str, family: type[KindOptions]) -> str:
    family.load_kinds()
    parts = [
        f"# Kinds of {section}",
        f"`--{section}.kind NAME` picks one; the default is `{family.default_kind}`. A kind has the fields of its "
        "table and no others.",
    ]
    for kind, options in sorted(family.kinds.items()):
        parts += [f"## {kind}", _first_line(options), field_table(options, section)]
    return "\n\n".join(parts) + "\n"


def _first_line(options: type) -> str:
    return (options.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _default(entry: dataclasses.Field) -> str:
    """Return a default as YAML in one line would have it."""
    if entry.default_factory is not dataclasses.MISSING:
        return json.dumps(entry.default_factory())
    if entry.default is dataclasses.MISSING:
        return "required"
    return entry.default if isinstance(entry.default, str) and entry.default.strip() else json.dumps(entry.default)


def _escaped(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")
