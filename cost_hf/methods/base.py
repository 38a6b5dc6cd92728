"""The seam of a published system: what its recipe says, what it trains, what it answers with.

A method is a class here below, registered by `@register`. Everything else in the package (recipes, runs, comparisons,
checks, publishing) works on this interface and knows no method by name. The module of a method can be imported without
torch; what its functions need they import themselves.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from cost_hf.options import ChecksItems
from cost_hf.plugins import declare_recommender, load_plugins

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cost_hf.data.options import DataOptions, ItemVectorOptions
    from cost_hf.data.prepare import PreparedData
    from cost_hf.data.schema import Tables
    from cost_hf.data.splits import Split, Targets
    from cost_hf.data.text_vectors import TextVectors
    from cost_hf.evaluation.options import EvaluationOptions
    from cost_hf.generators.options import RankingTrainingOptions
    from cost_hf.options import ItemFacts
    from cost_hf.recommenders.base import Recommender
    from cost_hf.recommenders.rankers import Ranker, Scorer
    from cost_hf.stages import Stages

PACKAGE = "cost_hf.methods"
DEFAULT_METHOD = "sid_generator"  # of a recipe that names none
FAMILIES = ("counting", "dense", "generative", "hybrid")  # cheapest first
OptionsT = TypeVar("OptionsT", bound="MethodOptions")
RankingT = TypeVar("RankingT", bound="RankingTrainingOptions")


@dataclass
class MethodOptions:
    """What the recipe of a method holds beside data, vectors and evaluation: every field is a section.

    Examples:
        >>> from cost_hf.methods.base import methods
        >>> options = methods()["sasrec"].options_class()
        >>> options.model.inputs, options.training.epochs
        ('ids', 40)
        >>> options.validate()
    """

    def sections(self) -> dict[str, Any]:
        """Return the sections by name."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    def used_sections(self) -> dict[str, Any]:
        """Return the sections that act, by name; a method leaves out those that others replace."""
        return self.sections()

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for values that do not fit the items."""
        for section in self.used_sections().values():
            if isinstance(section, ChecksItems):
                section.check_items(items)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have; a method adds what concerns several sections."""
        for section in self.sections().values():
            section.validate()


@dataclass(frozen=True)
class Variant:
    """A method with some of its fields set, known by a name of its own in baselines and comparisons.

    Attributes:
        name: of the row.
        method: name of the method.
        overrides: dotted recipe fields.
        description: one line.
        is_compared: whether `cost-hf compare` makes this row where none is named.
    """

    name: str
    method: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    is_compared: bool = False


@dataclass(frozen=True)
class Workspace:
    """What a method is fitted to, and where it writes.

    Attributes:
        stages: of the run directory.
        data: tables and split; nothing of the evaluation parts may be fitted to.
        text_vectors: returns the item text vectors; they are encoded at the first call.
        vector_options: recipe section `vectors`.
        evaluation: recipe section `evaluation`.
        data_seed: seed of the split and of samples of cases.
        row: name of the baseline row, or of the part of a hybrid, that is trained; None for the system of the run.
        group: folder of all rows of this sort below the run directory.
    """

    stages: Stages
    data: PreparedData
    text_vectors: Callable[[], TextVectors]
    vector_options: ItemVectorOptions
    evaluation: EvaluationOptions
    data_seed: int
    row: str | None = None
    group: str = "baselines"

    @property
    def folder(self) -> str:
        """Folder of the recommender below the run directory."""
        return "recommender" if self.row is None else f"{self.group}/{self.row}"

    @property
    def key(self) -> str | None:
        """What the names of this row's stages begin with; None for the system of the run."""
        return self.row if self.row is None or self.group == "baselines" else f"{self.group}-{self.row}"

    def part(self, name: str) -> Workspace:
        """Return the workspace of a part that this row combines with others."""
        return dataclasses.replace(self, row=name if self.row is None else f"{self.row}-{name}", group="parts")

    def stage_of(self, name: str) -> str:
        """Return the name of a stage of this row, in results.json and in the records of the run."""
        return name if self.key is None else f"{self.key}-{name}"

    def folder_of(self, part: str) -> str:
        """Return the folder of another part of this row, such as its quantizer, below the run directory."""
        return part if self.row is None else f"{self.group}/{self.row}-{part}"


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Attributes:
        recommender: with the catalog that it was fitted on.
        curves: training logs by what was trained: `training` for the recommender itself; one dict a logging event.
        parts: whatever the method's own diagnostics need.
    """

    recommender: Recommender
    curves: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WarmStart:
    """What a fitted method is trained on with, and how.

    Attributes:
        split: today's training sequences over the rows of the recommender's catalog, and which of their clicks are
            learned; it holds no evaluation case.
        epochs: passes over the clicks that are learned.
        learning_rate_factor: of the learning rates of the method's options.
        folder: an empty one for checkpoints.
        seed: of fresh weights, of the order of examples and of dropout.
    """

    split: Split
    epochs: int
    learning_rate_factor: float
    folder: Path
    seed: int

    def training(self, options: RankingT) -> RankingT:
        """Return a method's section `training` for the few epochs of a warm start: lower rates and no selection.

        Warm-up takes a tenth of the steps at most, of the shortest training that the examples may be.
        """
        users = sum(bool(own.any()) for own in self.split.label_weights() or self.split.train)
        steps = self.epochs * max(1, users // (options.batch_size * options.gradient_accumulation))
        return dataclasses.replace(
            options,
            epochs=self.epochs,
            learning_rate=options.learning_rate * self.learning_rate_factor,
            warmup_steps=min(options.warmup_steps, steps // 10),
            validate_every=self.epochs,
            patience=None,
        )


@dataclass(frozen=True)
class DataFacts:
    """What an estimate of costs is made from.

    Attributes:
        tables: of the data that are checked.
        split: of these tables.
        item_dim: width of the item text vectors.
        evaluation: recipe section `evaluation`.
        cases: test cases that will be ranked.
    """

    tables: Tables
    split: Split
    item_dim: int
    evaluation: EvaluationOptions
    cases: int


@dataclass(frozen=True)
class Estimate:
    """What fitting and evaluating a method will cost on this machine.

    Attributes:
        seconds: CPU seconds of one thread by stage, `evaluation` among them.
        memory_mb: of weights, gradients and optimizer.
        assumptions: what the figures rest on.
    """

    seconds: Mapping[str, float]
    memory_mb: float
    assumptions: Sequence[str] = ()


@dataclass(frozen=True)
class Advice:
    """What is better changed in options that a run can have.

    Attributes:
        message: one sentence.
        remedy: a flag to add, or an action.
    """

    message: str
    remedy: str


class Method(ABC, Generic[OptionsT]):
    """A published system with the options of one recipe.

    Attributes:
        name: in recipes, `--method` and results.json.
        family: one of `FAMILIES`.
        summary: one line for `--help` and tables.
        options_class: dataclass of the method's recipe sections.
        needs_text_vectors: whether `fit` reads the item text vectors.
        requires_texts: whether vectors must be those of item texts (`vectors.kind: text`), as its name or what it reads
            says.
        gives_item_vectors: whether `item_vectors` can be called.
        combines_methods: whether it combines recommenders of other methods; it can't be a part then.
        selects_on_validation: whether fitting chooses by validation cases, such as the epoch whose weights are kept.
        can_warm_start: whether a fitted recommender can be trained on with the clicks of another day (`warm_start`).
        is_control: whether it shows what a part of another method adds and is meant for no other use; a comparison
            makes it a part of no hybrid.
        auto_models: module that registers models of its own with the Auto classes of transformers. It is imported with
            transformers, so it may import modeling files and nothing else of this package.
        recommenders: module that defines each kind of recommender of its own, by the kind in its manifest.

    Examples:
        >>> from cost_hf.methods.base import methods
        >>> method = methods()["popularity"]
        >>> method.family, method.summary
        ('counting', 'training clicks, one list for everybody')
    """

    name: ClassVar[str]
    family: ClassVar[str]
    summary: ClassVar[str]
    options_class: ClassVar[type[MethodOptions]] = MethodOptions
    needs_text_vectors: ClassVar[bool] = False
    requires_texts: ClassVar[bool] = False
    gives_item_vectors: ClassVar[bool] = False
    combines_methods: ClassVar[bool] = False
    selects_on_validation: ClassVar[bool] = False
    can_warm_start: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    auto_models: ClassVar[str | None] = None
    recommenders: ClassVar[Mapping[str, str]] = {}

    def __init__(self, options: OptionsT):
        self.options = options

    @abstractmethod
    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit to the training part and return a recommender, read back from disk where it is the system of the run.

        Every costly step is a stage (`workspace.stages.run`), so a killed call resumes and a repeated one is free.
        """

    def warm_start(self, recommender: Any, start: WarmStart) -> Fitted:
        """Train a recommender on from its weights, whose catalog holds today's items already, and return it.

        Counts are made exactly as from scratch. The weights of `recommender` may change in place. Nothing is chosen on
        validation cases: these decide whether the result is served.
        """
        raise NotImplementedError(f"method {self.name} has no warm start")

    def validation_ranker(self, fitted: Fitted, workspace: Workspace) -> Ranker:
        """Return what ranks validation cases for comparisons, with lists of `evaluation.num_beams`.

        A method that is trained on validation targets must hold out the case that it ranks.
        """
        return fitted.recommender.ranker_for(workspace.evaluation.num_beams)

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Return what a run will cost, from short measurements, or why that can't be said."""
        return f"method {self.name} has no estimate of its costs"

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return sections of results.json that this method adds, such as `semantic_ids`."""
        return {}

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return how lists are made, for section `protocol` of results.json; shares of cases stand under `shares`."""
        return {"score": "over the whole catalog"}

    def examples(self, fitted: Fitted, workspace: Workspace) -> list[dict[str, Any]]:
        """Return a few items to look at in the report."""
        return []

    def item_vectors(self, workspace: Workspace, width: int, *, seed: int) -> np.ndarray:
        """Return item vectors `[N, width]` learned from the training clicks, for codes that are fitted to them.

        A row of zeros is an item without a training click.
        """
        raise NotImplementedError(f"method {self.name} gives no item vectors")

    def check_item_width(self, width: int, *, field: str) -> None:
        """Raise ValueError for a width that `item_vectors` can't have, naming the recipe field that sets it."""

    @classmethod
    def cheap_scorer(cls, train: Sequence[np.ndarray], num_items: int, vectors: np.ndarray) -> Scorer | None:
        """Return a scorer that costs next to nothing, for `cost-hf check` to measure what a test part can show.

        Two methods whose errors have little in common are enough; all others return None.

        Args:
            train: catalog rows of every training user, oldest first.
            num_items: N, size of the catalog.
            vectors: item text vectors `[N, E]`.
        """
        return None

    @classmethod
    def combination_of(cls, rows: Mapping[str, Method[Any]]) -> dict[str, Any] | None:
        """Return the recipe fields with which this method combines the rows of a comparison; None for no hybrid.

        Args:
            rows: methods of the rows by name, in the order of the table.
        """
        return None

    def input_parts(self) -> list[Any]:
        """Return what names of models and files in the options stand for now: their content, for digests."""
        return []

    def check_data(self, options: DataOptions) -> None:
        """Raise ValueError for a data section that this method can't be trained with."""

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for options that do not fit the items, before anything is fitted to them."""
        self.options.check_items(items)

    def advice(self, items: ItemFacts) -> list[Advice]:
        """Return what is better changed in the options for these items, for `cost-hf check`."""
        return []

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a path in the options that a later stage would miss."""

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Return the names under which this method stands in comparisons; its own by default."""
        return [Variant(cls.name, cls.name, description=cls.summary)]


_METHODS: dict[str, type[Method[Any]]] = {}


def register(method: type[Method[Any]]) -> type[Method[Any]]:
    """Make a method known by its name; a class decorator.

    Raises:
        ValueError: for a name that another method has, or a family that does not exist.
    """
    known = _METHODS.setdefault(method.name, method)
    if (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"method {method.name!r} is {known.__qualname__} already; give {method.__qualname__} a name")
    if method.family not in FAMILIES:
        raise ValueError(f"{method.__qualname__}.family must be one of {', '.join(FAMILIES)}, got {method.family!r}")
    _METHODS[method.name] = method
    for kind, module in method.recommenders.items():
        declare_recommender(kind, module)
    return method


def methods() -> dict[str, type[Method[Any]]]:
    """Return all methods by name, those of other packages included."""
    load_plugins(PACKAGE)
    return dict(sorted(_METHODS.items()))


def collaborative_method(name: str | None, *, field: str = "codes.collaborative_method") -> Method[Any]:
    """Return the method, with its default options, that gives collaborative vectors of items.

    Args:
        name: of the method.
        field: recipe field that names it, for errors.

    Raises:
        ValueError: for a method that gives none, or does not exist.
    """
    known = {own: method for own, method in methods().items() if method.gives_item_vectors}
    if name not in known:
        raise ValueError(f"{field} must be one of {', '.join(known)}, got {name!r}")
    return known[name](known[name].options_class())


def variants() -> dict[str, Variant]:
    """Return every name that a row of a comparison or a baseline can have, with what it stands for."""
    return {variant.name: variant for method in methods().values() for variant in method.variants()}
