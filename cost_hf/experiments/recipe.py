"""Recipes: one YAML file is one reproducible row of a results table.

A recipe is a method and typed sections, each owned by the room that uses it; a method reads the sections of its stages
only. Command line, Python and YAML share the same dotted names, and an unknown name is an error that shows the nearest
one.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from cost_hf.data.options import DataOptions, VectorOptions
from cost_hf.evaluation.options import EvaluationOptions
from cost_hf.files import atomic_path
from cost_hf.generators.adapter_options import AdapterOptions
from cost_hf.generators.generator_options import GeneratorOptions
from cost_hf.generators.task_options import TaskOptions
from cost_hf.generators.training_options import TrainingOptions
from cost_hf.methods.sasrec.options import VARIANTS, SasRecOptions
from cost_hf.quantizers.options import CodesOptions
from cost_hf.semantic_ids.options import CatalogOptions
from cost_hf.yaml_text import read_yaml

METHODS = ("generative", "sasrec")
PRODUCTS = ("exact", "medium")
MAX_NAME = 100
MAX_BYTES = 1_000_000  # of a recipe file
MAX_INT = 2**63 - 1  # what arrays and seeds can hold


class RecipeError(ValueError):
    """A recipe, field or value that does not exist or does not fit."""


@dataclass
class Recipe:
    """Everything that defines a run but its seed; `description` is shown by `--help`."""

    name: str = "custom"
    description: str = ""
    method: str = field(
        default="generative", metadata={"help": "generative (codes, catalog, generator) or sasrec (section sasrec)"}
    )
    products: str = field(
        default="exact",
        metadata={
            "help": "matrix products of training and evaluation: exact (torch's setting as it stands), or medium "
            "(torch's faster fp32 precision) where a stage's model measures them to be right within 1e-4; else exact"
        },
    )
    data: DataOptions = field(default_factory=DataOptions)
    vectors: VectorOptions = field(default_factory=VectorOptions)
    codes: CodesOptions = field(default_factory=CodesOptions)
    catalog: CatalogOptions = field(default_factory=CatalogOptions)
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    sasrec: SasRecOptions = field(default_factory=SasRecOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    @classmethod
    def load(cls, name_or_path: str, overrides: Mapping[str, Any] | None = None) -> "Recipe":
        """Read a shipped recipe by name, or a YAML file, and apply dotted `overrides`.

        Raises:
            RecipeError: for an unknown recipe, section, field, or a value of the wrong type.
        """
        recipe = cls(name=Path(name_or_path).stem)
        content = _recipe_content(name_or_path)
        for name in ("description", "name", "method", "products"):
            value = content.pop(name, getattr(recipe, name))
            setattr(recipe, name, _convert(value, str, f"{name} of {name_or_path}"))
        for section, values in content.items():
            if not isinstance(values, dict):
                raise RecipeError(f"section {section!r} of {name_or_path} must hold fields, got {values!r:.80}")
            for key, value in values.items():
                recipe.set(f"{section}.{key}", value)
        for dotted, value in (overrides or {}).items():
            recipe.set(dotted, value)
        return recipe

    def set(self, dotted: str, value: Any) -> None:
        """Set one field by its dotted name, converting `value` to the field's type."""
        known = {name: (section, entry) for name, section, entry in recipe_fields()}
        if dotted not in known:
            raise RecipeError(f"unknown field {dotted!r}{nearest(dotted, known)} (`train.py --help` lists all fields)")
        section, entry = known[dotted]
        options = getattr(self, section) if section else self
        setattr(options, entry.name, _convert(value, typing.get_type_hints(type(options))[entry.name], dotted))

    def validate(self) -> None:
        """Raise for values that no run can have, before any work is done."""
        is_plain = self.name.isprintable() and "/" not in self.name and "\\" not in self.name and self.name.strip(".")
        if not is_plain or len(self.name) > MAX_NAME:
            raise RecipeError(
                f"name must be 1 to {MAX_NAME} characters without slashes and control characters, since it names "
                f"directories, got {self.name!r:.120}"
            )
        if self.method not in METHODS:
            raise RecipeError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.products not in PRODUCTS:
            raise RecipeError(
                f"products must be one of {', '.join(PRODUCTS)}, got {self.products!r}; training.precision and "
                "sasrec.precision train in bf16"
            )
        for section in dataclasses.fields(self):
            validate = getattr(getattr(self, section.name), "validate", None)
            if validate is not None:
                validate()
        if self.generator.backbone is None:
            self._check_scratch()
        if self.tasks.titles and find_spec("rouge_score") is None:
            raise RecipeError(
                f"tasks.weights names {', '.join(self.tasks.titles)}, which are judged by ROUGE in the end, and "
                "rouge-score is not installed; pip install cost-hf[titles], or leave them out"
            )
        if self.training.first_items and self.generator.kind == "causal":
            raise RecipeError(
                "training.first_items is for generator.kind seq2seq; the causal generator learns first items anyway, "
                "so leave it out"
            )
        if self.method == "generative" and self.catalog.reference is None and self.codes.needs_collaborative:
            width, heads = self.codes.latent_dim, self.sasrec.num_heads
            if width % heads:
                raise RecipeError(
                    f"codes.latent_dim must be a multiple of sasrec.num_heads={heads!r}, since the SASRec that codes "
                    f"are aligned with is as wide, got {width!r}; change one of them"
                )

    def _check_scratch(self) -> None:
        """Raise for what needs a pretrained generator."""
        if self.adapter.r is not None:
            raise RecipeError(
                f"adapter.r={self.adapter.r!r} needs a generator.backbone: LoRA keeps a model's weights, and those "
                "of one from scratch are random; name a backbone, or set adapter.r to null"
            )
        if self.tasks.with_words:
            raise RecipeError(
                f"tasks.weights names {', '.join(self.tasks.with_words)}, which need a generator.backbone that knows "
                "words; name one, or leave them out"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values."""
        return dataclasses.asdict(self)

    def used(self) -> dict[str, Any]:
        """Return what a run depends on, as plain values: the sections that the method's stages read."""
        sections = {"data", "vectors", "evaluation"}
        if self.method == "generative":
            sections |= {"codes", "catalog", "generator", "adapter", "tasks", "training"}
        if self.method == "sasrec" or self.codes.needs_collaborative or set(self.evaluation.baselines) & set(VARIANTS):
            sections.add("sasrec")
        return {name: values for name, values in self.to_dict().items() if name in {"method", "products", *sections}}

    def save(self, path: str | Path) -> None:
        """Write the resolved recipe as YAML."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def recipe_fields() -> Iterator[tuple[str, str, dataclasses.Field]]:
    """Yield (dotted name, section, dataclass field) for every field of every section; some have no section."""
    defaults = Recipe()
    for section in dataclasses.fields(Recipe):
        if section.metadata:  # a field by itself: only these have a line of help
            yield section.name, "", section
        options = getattr(defaults, section.name)
        if dataclasses.is_dataclass(options):
            for entry in dataclasses.fields(options):
                yield f"{section.name}.{entry.name}", section.name, entry


def shipped_recipes() -> dict[str, str]:
    """Return name → description of the recipes in the package."""
    files = [file for file in resources.files("cost_hf.recipes").iterdir() if file.name.endswith(".yaml")]
    texts = {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}
    return {name: str(read_yaml(text).get("description", "")) for name, text in sorted(texts.items())}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the closest known name, or an empty string.

    A right field counts most. Where several sections have it and none was named, `training` comes first, and the
    others are named behind it.
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


def _convert(value: Any, expected: Any, dotted: str) -> Any:
    """Check `value` against a field's annotation; ints pass as floats, lists and dicts are checked member by member."""
    options = (
        typing.get_args(expected) if typing.get_origin(expected) in (typing.Union, types.UnionType) else (expected,)
    )
    is_endless = isinstance(value, int) and abs(value) > MAX_INT
    for option in () if is_endless else options:
        converted = _match(value, option, dotted)
        if converted is not _MISMATCH:
            return converted
    wanted = " or ".join(
        "null" if option is type(None) else getattr(option, "__name__", str(option)) for option in options
    )
    raise RecipeError(f"{dotted} must be {wanted}, got {_brief(value)} ({type(value).__name__})")


def _brief(value: Any) -> str:
    """Return a value for a message: whatever it is, one short line."""
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "a number beyond 64 bits"
    return f"{value!r:.80}"


_MISMATCH = object()


def _match(value: Any, expected: Any, dotted: str) -> Any:
    origin, members = typing.get_origin(expected) or expected, typing.get_args(expected)
    if origin is list and isinstance(value, (list, tuple)):
        return [_convert(member, members[0], dotted) for member in value]
    if origin is dict and isinstance(value, dict):
        return {str(key): _convert(member, members[1], dotted) for key, member in value.items()}
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            value = float(value)
        except ValueError:
            return _MISMATCH
    if origin is float and isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{dotted} must be a finite number, got {value!r}")
    if origin is type(None):
        return None if value is None else _MISMATCH
    if isinstance(origin, type) and isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
        return value
    return _MISMATCH
