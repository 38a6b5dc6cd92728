"""Recipes: one YAML file is one reproducible row of a results table.

A recipe names a method and has the sections `data`, `vectors` and `evaluation`, and those of its method, no others.
Command line, Python and YAML share the same dotted names, and an unknown name is an error that shows the nearest one.
"""

import copy
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cost_hf.data.options import DataOptions, ItemVectorOptions, VectorOptions
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.files import atomic_path
from cost_hf.methods.base import DEFAULT_METHOD, FAMILIES, Method, Variant, methods, variants
from cost_hf.options import KindOptions
from cost_hf.recipe_fields import RecipeError, brief, in_order, kinds_of, nearest, set_field, typed
from cost_hf.recipe_files import COMMON, TEXTS, flat_fields, recipe_content, shipped_recipes

if TYPE_CHECKING:
    from cost_hf.data.prepare import PreparedData

MAX_NAME = 100


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
    vectors: ItemVectorOptions = field(default_factory=VectorOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    options: Any = None

    def __post_init__(self) -> None:
        if self.options is None:
            self.options = _method_class(self.method).options_class()

    @classmethod
    def load(cls, name_or_path: str, overrides: Mapping[str, Any] | None = None) -> "Recipe":
        """Read a shipped recipe by name, or a YAML file, and apply dotted `overrides`.

        An override of `method`, or of the `kind` of a section, takes that method or kind with its own defaults.
        Sections that are alike in both methods, and fields that both kinds have and mean alike, keep the values of the
        file.

        Raises:
            RecipeError: for an unknown recipe, method, section, field, or a value of the wrong type.
        """
        content = recipe_content(name_or_path)
        texts = {name: content.pop(name, None) for name in TEXTS}
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise RecipeError(f"{name} of {name_or_path} must be str, got {brief(value)} ({type(value).__name__})")
        given = {name: value for name, value in texts.items() if value is not None}
        recipe = cls(**{"name": Path(name_or_path).stem} | given)
        recipe._update(flat_fields(content, name_or_path))
        recipe._update(overrides or {})
        return recipe

    def _update(self, values: Mapping[str, Any]) -> None:
        """Set several fields; what decides which fields exist comes first."""
        for dotted in in_order(values):
            self.set(dotted, values[dotted])

    def set(self, dotted: str, value: Any) -> None:
        """Set one field by its dotted name, converting `value` to the field's type.

        Raises:
            RecipeError: for a field that this recipe's method and kinds do not have, or a value of the wrong type.
        """
        if dotted in TEXTS:
            text = typed(value, str, dotted)
            if dotted == "method" and text != self.method:
                self._swap_method(text)
            setattr(self, dotted, text)
            return
        holder = self if dotted.partition(".")[0] in COMMON else self.options
        set_field(holder, self.sections(), dotted, value, owner=f"method {self.method}")

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
        self._check_vectors()
        self.system.check_data(self.data)
        for name in self.baselines:
            row = row_recipe(name, self)
            try:
                if not self.has_vectors_of(row):
                    raise RecipeError(
                        f"its vectors are of kind {row.vectors.kind}, those of the run of kind {self.vectors.kind}; "
                        "make it a row of cost-hf compare"
                    )
                row.options.validate()
                row._check_vectors()
                row.system.check_data(self.data)
            except ValueError as error:
                raise RecipeError(f"baseline {name}: {error}") from error

    def check_items(self, data: "PreparedData") -> None:
        """Raise for options that do not fit the items, as soon as the data are read; log what a user should know."""
        facts = data.item_facts(self.vectors)
        rows = {name: row_recipe(name, self).system for name in self.baselines}
        if any(system.needs_text_vectors for system in (self.system, *rows.values())):
            self.vectors.check_items(facts)
        self.system.check_items(facts)
        for name, system in rows.items():
            try:
                system.check_items(facts)
            except ValueError as error:
                raise RecipeError(f"baseline {name}: {error}") from error

    @property
    def system(self) -> Method[Any]:
        """The method with the options of this recipe."""
        return _method_class(self.method)(self.options)

    @property
    def baselines(self) -> list[str]:
        """Names of the baseline rows; by default those of all counting methods that vectors of this kind fit."""
        if self.evaluation.baselines is not None:
            return list(self.evaluation.baselines)
        counting = {name: method for name, method in methods().items() if method.family == FAMILIES[0]}
        return [name for name, method in counting.items() if self.vectors.is_text or not method.requires_texts]

    def has_vectors_of(self, other: "Recipe") -> bool:
        """Return whether the item vectors of both recipes are of the same kind."""
        return self.vectors.kind == other.vectors.kind

    def _check_vectors(self) -> None:
        """Raise RecipeError where the method requires vectors of texts and there are others."""
        if self.system.requires_texts and not self.vectors.is_text:
            raise RecipeError(
                f"method {self.method} requires vectors of item texts, and vectors.kind is {self.vectors.kind}; set "
                "vectors.kind: text, or choose parts, inputs or a method without texts"
            )

    @property
    def level_sizes(self) -> list[int] | None:
        """Codes per level of the semantic IDs; None for a method without them, or codes that choose their sizes."""
        codes = self._section("codes")
        return None if codes is None or not codes.level_sizes else list(codes.level_sizes)

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
                yield RecipeField(f"{section}.kind", str, f"one of {', '.join(kinds_of(options))}", options.kind)
            for entry in dataclasses.fields(options):
                help_text = entry.metadata.get("help", "")
                yield RecipeField(f"{section}.{entry.name}", hints[entry.name], help_text, getattr(options, entry.name))

    def has_field(self, dotted: str) -> bool:
        """Return whether this recipe's method and kinds have a field."""
        return any(entry.dotted == dotted for entry in self.fields())

    def sections(self) -> dict[str, Any]:
        """Return all sections by name, in the order of files and help."""
        return {"data": self.data, "vectors": self.vectors, **self.options.sections(), "evaluation": self.evaluation}

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

    def _swap_method(self, name: str) -> None:
        """Take the options of another method; sections that are alike in both methods keep their values.

        Alike are sections whose defaults are of one class, and so of one kind: a method that brings codes of its own
        shares them with no other. Fields that the row of this name changes, such as a kind of generator that the method
        needs, are changed here, too.
        """
        options = _method_class(name).options_class()
        present = _method_class(self.method).options_class()
        for entry in dataclasses.fields(options):
            if type(getattr(present, entry.name, None)) is type(getattr(options, entry.name)):
                setattr(options, entry.name, getattr(self.options, entry.name))
        self.options = options
        row = variants().get(name)
        # a row may have the name of a method and be of another one, such as a kind of codes
        overrides = row.overrides if row is not None and row.method == name else {}
        for dotted, value in overrides.items():
            set_field(options, self.sections(), dotted, value, owner=f"method {name}")


def load_beside(base: Recipe, name_or_path: str, overrides: Mapping[str, Any]) -> Recipe:
    """Load the recipe of a row with overrides; those of `vectors` concern recipes with vectors of the base's kind.

    Raises:
        RecipeError: as `Recipe.load`.
    """
    fits = Recipe.load(name_or_path).has_vectors_of(base)
    given = {dotted: value for dotted, value in overrides.items() if fits or not dotted.startswith("vectors.")}
    return Recipe.load(name_or_path, given)


def row_recipe(name: str, base: Recipe) -> Recipe:
    """Return the recipe of a row: a method or variant by name, a shipped recipe, or a recipe file, the first that fits.

    Data, vectors of the same kind, and evaluation are those of `base`, so that all rows are evaluated alike.

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
    """Return a copy on the base's data and vectors, evaluated by the base's rules and without baselines of its own.

    Vectors of another kind than the base's are part of a system and stay.
    """
    shared = {section: copy.deepcopy(getattr(base, section)) for section in COMMON}
    if not recipe.has_vectors_of(base):
        shared["vectors"] = copy.deepcopy(recipe.vectors)
    own = dataclasses.replace(recipe, options=copy.deepcopy(recipe.options), **shared)
    own.evaluation.baselines = []
    return own


def _method_class(name: str) -> type[Method[Any]]:
    known = methods()
    if name not in known:
        raise RecipeError(f"method must be one of {', '.join(known)}, got {name!r:.80}{nearest(name, known)}")
    return known[name]


def _plain(options: Any) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    return {"kind": options.kind, **values} if isinstance(options, KindOptions) else values
