"""Hybrids: methods that combine others, their parts by name, and how these are fitted."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from cost_hf.files import PLAIN_NAME
from cost_hf.methods.base import (
    DEFAULT_METHOD,
    Advice,
    DataFacts,
    Estimate,
    Fitted,
    Method,
    MethodOptions,
    OptionsT,
    WarmStart,
    Workspace,
    methods,
    variants,
)
from cost_hf.recipe_fields import RecipeError, in_order, nearest, set_field
from cost_hf.recipe_files import COMMON, TEXTS, flat_fields, recipe_content, shipped_recipes

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.options import DataOptions
    from cost_hf.options import ItemFacts
    from cost_hf.recommenders.base import Recommender
    from cost_hf.recommenders.hybrid import HybridRecommender


@dataclass
class PartsOptions:
    """Fields of the section of a hybrid that say which methods it combines."""

    parts: list[str] = field(
        default_factory=lambda: ["item_knn", "markov", "text_last", "text_mean", "sasrec_ce", "sasrec_text"],
        metadata={"help": "methods, variants or recipes (shipped ones or .yaml files) that are combined, two or more"},
    )
    overrides: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "fields of parts that differ from their defaults, as PART.section.field: value"},
    )

    def validate(self) -> None:
        """Raise ValueError for parts or fields that do not exist, or values that no run can have."""
        names = [part_name(part) for part in self.parts]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"a hybrid needs two or more parts with different names, got {names!r}")
        for name, method in self.methods().items():
            if not PLAIN_NAME.fullmatch(name) or ".." in name:
                raise ValueError(
                    "the name of a part becomes a folder, expected letters, digits, '_', '-' and '.', got "
                    f"{name!r:.80}; rename its recipe file"
                )
            try:
                method.options.validate()
            except ValueError as error:
                raise ValueError(f"part {name}: {error}") from error

    def methods(self) -> dict[str, Method[Any]]:
        """Return the methods of the parts by name, with the fields of their variants or recipes and the overrides.

        Raises:
            RecipeError: for a name that is no part, or a field that a part does not have.
        """
        own: dict[str, dict[str, Any]] = {part_name(part): {} for part in self.parts}
        for dotted, value in self.overrides.items():
            # names of recipe files may have dots themselves
            name = max((part for part in own if dotted.startswith(f"{part}.")), key=len, default=None)
            if name is None:
                raise RecipeError(
                    f"overrides must name a field of a part as PART.section.field, got {dotted!r}; parts are "
                    f"{', '.join(own)}"
                )
            own[name][dotted.removeprefix(f"{name}.")] = value
        return {part_name(part): _method(part, own[part_name(part)]) for part in self.parts}


class HybridMethod(Method[OptionsT], Generic[OptionsT]):
    """A method that combines others; the section of its options with its name is a `PartsOptions`."""

    family = "hybrid"
    needs_text_vectors = True
    combines_methods = True
    selects_on_validation = True

    @property
    @abstractmethod
    def parts(self) -> dict[str, Method[Any]]:
        """The methods that are combined, by name."""

    @property
    def requires_texts(self) -> bool:  # type: ignore[override]
        """Whether a part requires texts."""
        return any(method.requires_texts for method in self.parts.values())

    @property
    def can_warm_start(self) -> bool:  # type: ignore[override]
        """Whether all parts have a warm start."""
        return all(method.can_warm_start for method in self.parts.values())

    def warm_start(self, recommender: Any, start: WarmStart) -> Fitted:
        """Train the parts on; what combines them, which was chosen on validation cases, stays."""
        return Fitted(recommender.with_trained_parts(*train_parts_on(self.parts, recommender, start)))

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Return the sum of the parts' costs, by part."""
        return estimate_parts(self.parts, facts)

    @classmethod
    def combination_of(cls, rows: Mapping[str, Method[Any]]) -> dict[str, Any] | None:
        """Return the recipe fields that combine the rows of a comparison."""
        return {f"{cls.name}.{name}": value for name, value in compared_parts(rows).items()}

    def input_parts(self) -> list[Any]:
        """Return those of the parts."""
        return [part for method in self.parts.values() for part in method.input_parts()]

    def check_data(self, options: DataOptions) -> None:
        """Raise ValueError for a data section that a part can't be trained with."""
        for method in self.parts.values():
            method.check_data(options)

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for options, of parts too, that do not fit the items."""
        super().check_items(items)
        for name, method in self.parts.items():
            try:
                method.check_items(items)
            except ValueError as error:
                raise ValueError(f"part {name}: {error}") from error

    def advice(self, items: ItemFacts) -> list[Advice]:
        """Return that on the parts."""
        return [
            Advice(f"part {name}: {own.message}", f"{own.remedy} in a recipe of the part")
            for name, method in self.parts.items()
            for own in method.advice(items)
        ]

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a path in a part's options that is not there."""
        for method in self.parts.values():
            method.check_paths()


def part_name(part: str) -> str:
    """Return the name of a part: that of its method, variant or recipe."""
    return Path(part).stem


def fit_parts(parts: Mapping[str, Method[Any]], workspace: Workspace, *, seed: int) -> dict[str, Fitted]:
    """Fit every part in stages of its own; what another row of the run, or another run, has fitted is taken."""
    return {name: method.fit(workspace.part(name), seed=seed) for name, method in parts.items()}


def train_parts_on(
    parts: Mapping[str, Method[Any]], recommender: HybridRecommender, start: WarmStart
) -> tuple[dict[str, Recommender], np.ndarray]:
    """Return the parts of a hybrid that are left in it, each trained on, and what was clicked in training by now.

    A part that lacks the last items of the hybrid learns from clicks on its own.
    """
    trained = {}
    for name, part in recommender.parts.items():
        own = part.with_catalog(recommender.catalog.parts[name])
        split = start.split.first_items(len(own.catalog))
        folder = start.folder / name
        folder.mkdir()
        trained[name] = parts[name].warm_start(own, dataclasses.replace(start, split=split, folder=folder)).recommender
    return trained, start.split.popularity(len(recommender.catalog))


def part_stages(parts: Iterable[str], workspace: Workspace) -> list[tuple[str, str]]:
    """Return names and digests of the stages of a hybrid's parts, once they are fitted."""
    keys = [str(workspace.part(name).key) for name in parts]
    return sorted(
        (stage, digest)
        for stage, digest in workspace.stages.digests.items()
        if any(stage == key or stage.startswith(f"{key}-") for key in keys)
    )


def estimate_parts(parts: Mapping[str, Method[Any]], facts: DataFacts) -> Estimate | str:
    """Return the sum of the costs of the parts, by part; their lists are made one after the other."""
    seconds = {"evaluation": 0.0}
    memory_mb = 0.0
    assumptions: list[str] = []
    for name, method in parts.items():
        own = method.estimate(facts)
        if isinstance(own, str):
            return f"part {name}: {own}"
        seconds[name] = sum(value for stage, value in own.seconds.items() if stage != "evaluation")
        seconds["evaluation"] += own.seconds.get("evaluation", 0.0)
        memory_mb = max(memory_mb, own.memory_mb)
        assumptions += own.assumptions
    return Estimate(seconds, memory_mb, list(dict.fromkeys(assumptions)))


def part_protocol(parts: Mapping[str, Method[Any]]) -> dict[str, Any]:
    """Return what a protocol says of the parts: a choice made on the cases that combine them favours a part."""
    chosen = [name for name, method in parts.items() if method.selects_on_validation]
    return {"parts": list(parts), "parts_selected_on_validation": chosen}


def recommenders_of(fitted: Mapping[str, Fitted]) -> dict[str, Recommender]:
    """Return the recommenders of fitted parts."""
    return {name: part.recommender for name, part in fitted.items()}


def compared_parts(rows: Mapping[str, Method[Any]]) -> dict[str, Any]:
    """Return `parts` and `overrides` for the rows of a comparison, so that a part is what its row is.

    Args:
        rows: methods by row name; those that combine methods are left out, and so is a row of a recipe with a name of
            its own where another one has the same method.
    """
    overrides: dict[str, Any] = {}
    chosen: dict[str, Method[Any]] = {}
    single = {name: method for name, method in rows.items() if not method.combines_methods}
    for name, method in single.items():
        part = name if _stands_for(name, method) else method.name
        if part not in chosen:
            chosen[part] = method
            overrides |= {f"{part}.{dotted}": value for dotted, value in _changes(part, method.options).items()}
    return {"parts": list(chosen), "overrides": overrides}


def _stands_for(name: str, method: Method[Any]) -> bool:
    """Return whether the name of a row is one that a part of the same method can have."""
    is_known = name in variants() or name in shipped_recipes()
    return is_known and named_method(name, {}, owner="part").name == method.name


def _changes(part: str, options: MethodOptions) -> dict[str, Any]:
    """Return the fields in which options differ from those that the name of a part stands for."""
    changes: dict[str, Any] = {}
    defaults = _method(part, {}).options.sections()
    for section, own in options.sections().items():
        is_other_kind = type(own) is not type(defaults[section])
        if is_other_kind:
            changes[f"{section}.kind"] = own.kind
        for entry in dataclasses.fields(own):
            value = getattr(own, entry.name)
            if is_other_kind or value != getattr(defaults[section], entry.name):
                changes[f"{section}.{entry.name}"] = value
    return changes


def named_method(name: str, overrides: Mapping[str, Any], *, owner: str) -> Method[Any]:
    """Return the method that a name stands for, with the fields of its variant or recipe and the overrides.

    Args:
        name: method, variant, or recipe (a shipped one, or a .yaml file).
        overrides: dotted fields.
        owner: what has the name, for errors.

    Raises:
        RecipeError: for a name that stands for nothing, or a field that the method does not have.
    """
    known = variants()
    if name in known:
        method_name = known[name].method
        values = dict(known[name].overrides)
    elif name in shipped_recipes() or name.endswith((".yaml", ".yml")):
        content = recipe_content(name)
        method_name = str(content.get("method", DEFAULT_METHOD))
        sections = {key: fields for key, fields in content.items() if key not in (*COMMON, *TEXTS)}
        values = flat_fields(sections, name)
    elif name in methods():  # a method that has no row by its own name
        method_name = name
        values = {}
    else:
        raise RecipeError(
            f"{owner} must be a method, variant or recipe, got {name!r}{nearest(name, [*known, *shipped_recipes()])}; "
            f"methods and variants are {', '.join(known)}"
        )
    method = methods().get(method_name)
    if method is None:
        raise RecipeError(f"{owner} {name!r} is of method {method_name!r}, expected one of {', '.join(methods())}")
    options = method.options_class()
    changed = values | dict(overrides)
    for dotted in in_order(changed):
        set_field(options, options.sections(), dotted, changed[dotted], owner=f"{owner} {name}")
    return method(options)


def _method(part: str, overrides: Mapping[str, Any]) -> Method[Any]:
    method = named_method(part, overrides, owner="part")
    if method.combines_methods:
        kinds = ", ".join(own for own, known in methods().items() if not known.combines_methods)
        raise RecipeError(f"part {part!r} is of method {method.name!r}, a part must be one of {kinds}")
    return method
