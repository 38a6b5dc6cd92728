"""Recipes: one YAML file is one reproducible row of a results table.

A recipe names a method and has the sections `data`, `vectors` and `evaluation`, and those of its method, no others.
Command line, Python and YAML share the same dotted names, and an unknown name is an error that shows the nearest one.
"""

import copy
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from cost_hf.data.options import DataOptions, VectorOptions
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.files import atomic_path
from cost_hf.methods.base import DEFAULT_METHOD, FAMILIES, Method, Variant, methods, variants
from cost_hf.options import KindOptions
from cost_hf.yaml_text import read_yaml

COMMON = ("data", "vectors", "evaluation")  # sections that recipes of all methods have
TEXTS = ("name", "description", "method")  # fields without a section
MAX_NAME = 100
MAX_BYTES = 1_000_000  # of a recipe file
MAX_MEMBERS = 1_000  # of a list or mapping
MAX_INT = 2**63 - 1  # what arrays and seeds can hold


class RecipeError(ValueError):
    """A recipe, field or value that does not exist or does not fit."""


@dataclass(frozen=True)
class RecipeField:
    """One field of a recipe.

    Attributes:
        dotted: its name with its section.
        hint: type annotation.
        help: one line.
        value: in this recipe.
    """

    dotted: str
    hint: Any
    help: str
    value: Any


@dataclass
class Recipe:
    """Everything that defines a run but its seed.

    Attributes:
        name: of the run directory and of the row.
        description: one line, shown by `--help`.
        method: name of the method.
        data, vectors, evaluation: sections that all methods share.
        options: sections of the method.
    """

    name: str = "custom"
    description: str = ""
    method: str = DEFAULT_METHOD
    data: DataOptions = field(default_factory=DataOptions)
    vectors: VectorOptions = field(default_factory=VectorOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    options: Any = None

    def __post_init__(self) -> None:
        if self.options is None:
            self.options = _method_class(self.method).options_class()

    @classmethod
    def load(cls, name_or_path: str, overrides: Mapping[str, Any] | None = None) -> "Recipe":
        """Read a shipped recipe by name, or a YAML file, and apply dotted `overrides`.

        An override of `method`, or of the `kind` of a section, takes that method or kind with its own defaults.
        Sections that both methods have, and fields that both kinds have and mean alike, keep the values of the file.

        Raises:
            RecipeError: for an unknown recipe, method, section, field, or a value of the wrong type.
        """
        content = _recipe_content(name_or_path)
        texts = {name: content.pop(name, None) for name in TEXTS}
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise RecipeError(f"{name} of {name_or_path} must be str, got {_brief(value)} ({type(value).__name__})")
        given = {name: value for name, value in texts.items() if value is not None}
        recipe = cls(**{"name": Path(name_or_path).stem} | given)
        recipe._update(_flat(content, name_or_path))
        recipe._update(overrides or {})
        return recipe

    def _update(self, values: Mapping[str, Any]) -> None:
        """Set several fields; what decides which fields exist comes first."""
        first = [name for name in values if name == "method"]
        kinds = [name for name in values if name.endswith(".kind")]
        for dotted in dict.fromkeys([*first, *kinds, *values]):
            self.set(dotted, values[dotted])

    def set(self, dotted: str, value: Any) -> None:
        """Set one field by its dotted name, converting `value` to the field's type.

        Raises:
            RecipeError: for a field that this recipe's method and kinds do not have, or a value of the wrong type.
        """
        if dotted in TEXTS:
            text = _typed(value, str, dotted)
            if dotted == "method" and text != self.method:
                self._swap_method(text)
            setattr(self, dotted, text)
            return
        section, _, name = dotted.partition(".")
        options = self._section(section)
        if name == "kind" and isinstance(options, KindOptions):
            self._swap_kind(section, options, value)
            return
        hints = typing.get_type_hints(type(options)) if options is not None else {}
        names = {} if options is None else {entry.name for entry in dataclasses.fields(options)}
        if name not in names:
            known = [entry.dotted for entry in self.fields()]
            raise RecipeError(
                f"unknown field {dotted!r} of {self._owner(section, options)}{nearest(dotted, known)} "
                "(`train.py --recipe NAME --help` lists the fields of a recipe)"
            )
        setattr(options, name, _typed(value, hints[name], dotted))

    def validate(self) -> None:
        """Raise for values that no run can have, before any work is done."""
        is_plain = self.name.isprintable() and "/" not in self.name and "\\" not in self.name and self.name.strip(".")
        if not is_plain or len(self.name) > MAX_NAME:
            raise RecipeError(
                f"name must be 1 to {MAX_NAME} characters without slashes and control characters, since it names "
                f"directories, got {self.name!r:.120}"
            )
        for section in COMMON:
            getattr(self, section).validate()
        self.options.validate()
        for name in self.baselines:
            row_recipe(name, self)

    @property
    def system(self) -> Method[Any]:
        """The method with the options of this recipe."""
        return _method_class(self.method)(self.options)

    @property
    def baselines(self) -> list[str]:
        """Names of the baseline rows; by default those of all counting methods."""
        if self.evaluation.baselines is not None:
            return list(self.evaluation.baselines)
        return [name for name, method in methods().items() if method.family == FAMILIES[0]]

    @property
    def level_sizes(self) -> list[int] | None:
        """Codes per level of the semantic IDs; None for a method without them."""
        codes = self._section("codes")
        return None if codes is None else list(codes.level_sizes)

    @property
    def append_size(self) -> int | None:
        """Codes of the level that is appended where codes collide; None where no level is appended."""
        catalog = self._section("catalog")
        return catalog.append_size if catalog is not None and catalog.collisions == "append" else None

    def fields(self) -> Iterator[RecipeField]:
        """Yield every field, section by section."""
        yield RecipeField("method", str, f"published system: {', '.join(methods())}", self.method)
        for section, options in self.sections().items():
            hints = typing.get_type_hints(type(options))
            if isinstance(options, KindOptions):
                yield RecipeField(f"{section}.kind", str, f"one of {', '.join(_kinds(options))}", options.kind)
            for entry in dataclasses.fields(options):
                help_text = entry.metadata.get("help", "")
                yield RecipeField(f"{section}.{entry.name}", hints[entry.name], help_text, getattr(options, entry.name))

    def has_field(self, dotted: str) -> bool:
        """Return whether this recipe's method and kinds have a field."""
        return any(entry.dotted == dotted for entry in self.fields())

    def sections(self) -> dict[str, Any]:
        """Return all sections by name, in the order of files and help."""
        own = {entry.name: getattr(self.options, entry.name) for entry in dataclasses.fields(self.options)}
        return {"data": self.data, "vectors": self.vectors, **own, "evaluation": self.evaluation}

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, as its file holds them."""
        texts = {"name": self.name, "description": self.description, "method": self.method}
        sections = {name: _plain(options) for name, options in self.sections().items()}
        sections["evaluation"]["baselines"] = self.baselines
        return texts | sections

    def inputs(self) -> dict[str, Any]:
        """Return what results depend on, as plain values: all but what the recipe is called."""
        return {name: value for name, value in self.to_dict().items() if name not in ("name", "description")}

    def save(self, path: str | Path) -> None:
        """Write the resolved recipe as YAML."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _section(self, name: str) -> Any:
        return self.sections().get(name)

    def _owner(self, section: str, options: Any) -> str:
        if isinstance(options, KindOptions):
            return f"{section}.kind {options.kind}"
        return f"method {self.method}"

    def _swap_method(self, name: str) -> None:
        """Take the options of another method; sections of the same class are those that the methods share."""
        options = _method_class(name).options_class()
        for entry in dataclasses.fields(options):
            present = getattr(self.options, entry.name, None)
            if _family(present) is _family(getattr(options, entry.name)):
                setattr(options, entry.name, present)
        self.options = options

    def _swap_kind(self, section: str, options: KindOptions, value: Any) -> None:
        kinds = _kinds(options)
        kind = _typed(value, str, f"{section}.kind")
        if kind not in kinds:
            raise RecipeError(
                f"{section}.kind must be one of {', '.join(kinds)}, got {kind!r:.80}{nearest(kind, kinds)}"
            )
        if kind != options.kind:
            kept = kinds[kind].carried_over(dataclasses.asdict(options))  # type: ignore[call-overload]
            setattr(self.options, section, kinds[kind](**kept))


def row_recipe(name: str, base: Recipe) -> Recipe:
    """Return the recipe of a row: a method or variant by name, a shipped recipe, or a recipe file.

    Data, text vectors and evaluation are those of `base`, so that all rows are evaluated alike.

    Raises:
        RecipeError: for a name that stands for nothing.
    """
    known = variants()
    if name in known:
        return variant_recipe(known[name], base)
    if name in shipped_recipes() or name.endswith((".yaml", ".yml")):
        return on_common_ground(Recipe.load(name), base)
    names = [*known, *shipped_recipes()]
    raise RecipeError(
        f"{name!r} is neither a method nor a recipe{nearest(name, names)}; methods and variants are "
        f"{', '.join(known)}; a recipe is one of {', '.join(shipped_recipes())}, or a file that ends in .yaml"
    )


def variant_recipe(variant: Variant, base: Recipe) -> Recipe:
    """Return `base` with the method and the fields of a variant."""
    recipe = on_common_ground(base, base)
    recipe._update({"method": variant.method, **variant.overrides})
    recipe.name = variant.name
    recipe.description = variant.description
    return recipe


def on_common_ground(recipe: Recipe, base: Recipe) -> Recipe:
    """Return a copy on the base's data and vectors, evaluated by the base's rules and without baselines of its own."""
    shared = {section: copy.deepcopy(getattr(base, section)) for section in COMMON}
    own = dataclasses.replace(recipe, options=copy.deepcopy(recipe.options), **shared)
    own.evaluation.baselines = []
    return own


def shipped_recipes() -> dict[str, str]:
    """Return name → description of the recipes in the package."""
    files = [file for file in resources.files("cost_hf.recipes").iterdir() if file.name.endswith(".yaml")]
    texts = {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}
    return {name: str(read_yaml(text).get("description", "")) for name, text in sorted(texts.items())}


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
        close = difflib.get_close_matches(asked, same_field or candidates, n=1, cutoff=0.0 if same_field else 0.4)
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


def _method_class(name: str) -> type[Method[Any]]:
    known = methods()
    if name not in known:
        raise RecipeError(f"method must be one of {', '.join(known)}, got {name!r:.80}{nearest(name, known)}")
    return known[name]


def _kinds(options: KindOptions) -> dict[str, type[Any]]:
    options.load_kinds()
    return options.kinds


def _family(options: Any) -> Any:
    """Return what makes two sections the same: their class, or the registry of their kinds."""
    return id(options.kinds) if isinstance(options, KindOptions) else type(options)


def _plain(options: Any) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    return {"kind": options.kind, **values} if isinstance(options, KindOptions) else values


def _flat(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for section, entries in content.items():
        if not isinstance(entries, dict):
            raise RecipeError(f"section {section!r} of {source} must hold fields, got {entries!r:.80}")
        values |= {f"{section}.{name}": value for name, value in entries.items()}
    return values


def _recipe_content(name_or_path: str) -> dict[str, Any]:
    """Return what a recipe's file holds."""
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


@cache
def _value_parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _typed(value: Any, hint: Any, dotted: str) -> Any:
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
        raise RecipeError(f"{dotted} must be a finite number, got {_brief(value)}")
    raise RecipeError(f"{dotted} must be {type_name(hint)}, got {_brief(value)} ({type(value).__name__})")


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


def _brief(value: Any) -> str:
    """Return a value for a message: whatever it is, one short line."""
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "a number beyond 64 bits"
    return f"{value!r:.80}"
