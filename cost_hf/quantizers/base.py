"""The seam of a quantizer: its recipe section, how it is fitted, and what the fitted model can do.

A kind of codes is a dataclass below `CodesOptions` in a module of this package, or in one that another distribution
names by an entry point of the group `cost_hf.quantizers`:

    @CodesOptions.register("my_kind")
    @dataclass
    class MyOptions(CodesOptions):
        my_field: int = field(default=3, metadata={"help": "one line for --help"})

        def fit(self, inputs, *, folder, digest, seed):
            model = ...  # a Quantizer, registered with AutoConfig and AutoModel
            return CodesResult.of_model(model, inputs)

Recipes then take `codes.kind: my_kind` and the fields of that class. Options are read before a command knows whether it
needs torch, so a module that registers a kind imports torch inside its functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard

from cost_hf.options import ItemFacts, KindOptions, require_column
from cost_hf.plugins import load_plugins
from cost_hf.semantic_ids.options import level_size_tuple

if TYPE_CHECKING:
    from torch import Tensor

    from cost_hf.quantizers.fit import CodesResult, FitInputs

PACKAGE = "cost_hf.quantizers"
OWN_MODULES = ("residual", "rkmeans", "fixed_codes")  # kinds of one file each
MAX_CODES = 1 << 22  # of one level
MEMBERS = ("encode", "level_sizes", "level_vectors", "level_distances", "save_pretrained")  # of a Quantizer


class CodebookCollapse(RuntimeError):
    """Most items got the same codes; the message names the settings to change."""


class Quantizer(Protocol):
    """A fitted model that assigns codes to item vectors: a `PreTrainedModel` whose class `AutoModel` knows.

    It knows no items: catalogs change, weights do not. `CostModel` is one.

    Optional attributes say how its codes come about: `free_levels` and `reads_more` (see `nearest_levels`),
    `has_parallel_levels`, which is True where levels do not depend on each other, and `more_room`, a phrase that names
    what leaves more room for new items in a new training. One that reads item texts is a `TextQuantizer`.

    Attributes:
        config: its configuration; `text_encoder` is set on it, where known, by whoever fits or publishes the model.
    """

    config: Any

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes K of each level, L numbers."""
        ...

    def encode(self, item_embeddings: Tensor) -> Tensor:
        """Return the codes of item vectors `[N, E]`, int64 `[N, L]`, on the device of the vectors."""
        ...

    def level_vectors(self, level: int) -> Tensor | None:
        """Return the code vectors of a level, `[K, D]`; None where codes have none."""
        ...

    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return the distances of item vectors to the codes that may follow a prefix; they need not be metric.

        Args:
            item_embeddings: item vectors, `[N, E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < L`.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        ...

    def save_pretrained(self, save_directory: str | Path) -> Any:
        """Write `config.json` and the weights as safetensors."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        ...

    def eval(self) -> Any:
        """Switch to inference mode and return the model."""
        ...


class TextQuantizer(Quantizer, Protocol):
    """A quantizer that reads the texts of items by a language model of its own, in place of their vectors.

    What it makes of a text takes the place of the item vector: `encode` and `level_distances` take it, and `encode`
    takes texts too.

    Attributes:
        reads_texts: True.
        base_digest: `weights_digest` of its language model, which it does not store; a recommender whose generator is
            an adapter of the same model attaches that one, so that it is in memory once.
    """

    reads_texts: bool
    base_digest: str

    @property
    def base_name(self) -> str:
        """Hub id or directory of the language model."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return what is encoded of n texts, fp32 `[n, E]`, on the CPU; load the language model where none is there."""
        ...

    def attach_base(self, base: Any) -> None:
        """Read texts by a model whose weights have `base_digest`; its modules are changed, its weights stay."""
        ...

    def release_base(self) -> None:
        """Forget the language model; it is loaded again with the next text."""
        ...

    def to(self, device: Any) -> Any:
        """Move the model, and the language model where it is there, to a device."""
        ...


@dataclass
class CodesOptions(KindOptions, ABC):
    """Recipe section `codes`: the kind of semantic IDs, and the fields of that kind.

    Attributes:
        uses_vectors: whether codes depend on the item vectors.
        reads_texts: whether fitting and encoding read the item texts themselves; the model is a `TextQuantizer`.
        needs_item_ids: whether codes depend on the item ids.
        is_trained: whether fitting is a `Trainer` run.
        is_control: whether the codes are there to show what learned ones add and are meant for no other use.
        follows_reassignment: whether fitting returns a model, by whose distances the collision policies `reassign`,
            `min_cost` and `sinkhorn` move items.
        gives_unique_codes: whether no two items of a training get the same codes.
        has_parallel_levels: whether levels do not depend on each other, so that codes may be predicted in parallel, and
            leading codes say no more of an item than others.
        collisions: collision policy of the kind's rows in a comparison; None takes that of the base recipe.
        auto_models: module that registers a model of the kind's own with the Auto classes of transformers. It is
            imported with transformers, so that others can name it without importing it.
        collaborative_dim_field: name of the field that sets `collaborative_dim`.
    """

    default_kind: ClassVar[str] = "cost"
    uses_vectors: ClassVar[bool] = True
    reads_texts: ClassVar[bool] = False
    needs_item_ids: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    follows_reassignment: ClassVar[bool] = True
    gives_unique_codes: ClassVar[bool] = False
    has_parallel_levels: ClassVar[bool] = False
    collisions: ClassVar[str | None] = None
    auto_models: ClassVar[str | None] = None
    collaborative_dim_field: ClassVar[str] = "latent_dim"

    level_sizes: list[int] = field(default_factory=lambda: [64, 64, 64], metadata={"help": "codes per level"})
    seed: int | None = field(default=None, metadata={"help": "of the codes; null takes the run's"})

    @classmethod
    def load_kinds(cls) -> None:
        """Import the modules that register kinds: those of this package and of the entry points."""
        for name in OWN_MODULES:
            import_module(f"{PACKAGE}.{name}")
        load_plugins(PACKAGE, skipped=("cost", "training"))  # they register no kind, and need torch

    @classmethod
    def of(cls, kind: str | None = None, **values: Any) -> CodesOptions:
        """Return the options of a kind; the other fields have their defaults.

        Args:
            kind: one of the registered kinds, `cost` by default.
            values: fields of that kind.

        Raises:
            ValueError: for an unknown kind, or a field that the kind does not have.

        Examples:
            >>> CodesOptions.of("rkmeans", level_sizes=[16, 16], pca_dim=8).kind
            'rkmeans'
        """
        CodesOptions.load_kinds()
        wanted = CodesOptions.default_kind if kind is None else kind
        if wanted not in CodesOptions.kinds:
            known = sorted(CodesOptions.kinds)
            raise ValueError(f"codes.kind must be one of {', '.join(known)}, got {wanted!r}{_nearest(wanted, known)}")
        options = CodesOptions.kinds[wanted]
        names = [entry.name for entry in fields(options)]
        for name in values:
            if name not in names:
                raise ValueError(
                    f"codes of kind {wanted!r} have no field {name!r}{_nearest(name, names)}; they have "
                    f"{', '.join(names)}"
                )
        made: CodesOptions = options(**values)
        return made

    @abstractmethod
    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Fit to the items that fitting may see and return the codes of all items.

        Args:
            inputs: checked vectors, ids and tables.
            folder: for checkpoints; it is deleted once the result is saved.
            digest: of everything that the codes depend on; checkpoints of another digest must not be resumed.
            seed: of everything random.

        Raises:
            CodebookCollapse: where most items get the same codes.
        """

    @property
    def needs_collaborative_vectors(self) -> bool:
        """Whether fitting needs a collaborative vector of every item, learned from clicks by another model."""
        return False

    @property
    def collaborative_dim(self) -> int:
        """Width that collaborative vectors must have; 0 where none are needed."""
        return 0

    @property
    def collaborative_method(self) -> str | None:
        """Name of the method that gives the collaborative vectors; None where none are needed."""
        return None

    @property
    def needs_coclicks(self) -> bool:
        """Whether fitting needs to know which items were clicked together."""
        return False

    @property
    def needs_popularity(self) -> bool:
        """Whether fitting needs the training clicks of every item."""
        return False

    def encoded_vectors(self, vectors: Tensor, collaborative: Tensor | None) -> Tensor:
        """Return what the quantizer encodes of the items of the training, `[N, …]`; their vectors by default.

        New items, of which nothing but a vector is known, are encoded by that. Kinds that read texts do not call it.

        Args:
            vectors: item vectors, `[N, E]`.
            collaborative: collaborative vectors, `[N, D]`; None where none are needed.
        """
        return vectors

    @property
    def item_columns(self) -> list[str]:
        """Columns of the items table that codes depend on."""
        return []

    @property
    def input_parts(self) -> list[Any]:
        """What the names of models in the fields stand for now: content, which a name does not tell."""
        return []

    @property
    def needs_items(self) -> bool:
        """Whether fitting reads the items table."""
        return bool(self.item_columns)

    def content(self) -> dict[str, Any]:
        """Return the kind and all fields that codes depend on, for digests; trackers, for example, are left out."""
        unused = {entry.name for entry in fields(self) if entry.metadata.get("changes_nothing")}
        values = {name: value for name, value in asdict(self).items() if name not in unused}
        return {"kind": self.kind} | values

    def sizes_for(self, num_items: int, item_dim: int) -> list[int]:
        """Return the codes per level for a number of items; a kind that chooses them takes empty `level_sizes`.

        Args:
            num_items: N.
            item_dim: E.

        Raises:
            ValueError: for sizes that do not fit.
        """
        return list(self.level_sizes)

    def build_model(self, item_dim: int) -> Quantizer | None:
        """Return the model for item vectors `[N, item_dim]`, not fitted yet.

        None where codes have no model, or one whose size depends on the items.
        """
        return None

    def timed_step(self, *, num_items: int, item_dim: int) -> tuple[Callable[[], object], float] | str | None:
        """Return one step of fitting, to be timed, and the number of such steps that fitting makes.

        Args:
            num_items: N.
            item_dim: E.

        Returns:
            None where fitting takes seconds whatever the data, such as k-means; or why it can't be measured.
        """
        return None

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a column that the items do not have; a kind adds what its sizes ask of the items."""
        for column in self.item_columns:
            names = [f"codes.{entry.name}" for entry in fields(self) if getattr(self, entry.name) == column]
            require_column(column, items.table, field=" or ".join(names) or f"a column for codes of kind {self.kind}")

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        if min(self.level_sizes, default=0) < 2:
            raise ValueError(
                f"codes.level_sizes needs one or more levels of at least 2 codes, got {self.level_sizes!r}"
            )
        level_size_tuple(self.level_sizes, "codes.level_sizes", most=MAX_CODES)


def nearest_levels(model: Quantizer) -> int:
    """Return how many leading codes of the items of a catalog depend on their vectors alone.

    All, unless the model has `free_levels`, on which they are the nearest codes that were free, or `reads_more`: the
    items that it was fitted to have been encoded by more than their vectors, so there are none.
    """
    return 0 if getattr(model, "reads_more", False) else chosen_levels(model)


def chosen_levels(model: Quantizer) -> int:
    """Return how many leading codes say what an item is like: all but the model's `free_levels`."""
    return len(model.level_sizes) - int(getattr(model, "free_levels", 0))


def reads_texts(model: Quantizer | None) -> TypeGuard[TextQuantizer]:
    """Return whether a quantizer reads item texts in place of item vectors."""
    return bool(getattr(model, "reads_texts", False))


def load_quantizer(folder: str | Path) -> Quantizer:
    """Load the quantizer of any kind from a directory, in eval mode.

    The class is the one that `AutoModel` has for the configuration, that of another distribution too; code in the
    directory is never run.

    Raises:
        OSError: where a file can't be read.
        DamagedFileError: for damaged files, weights of another model, or a model that is no quantizer.
    """
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    from cost_hf.files import DamagedFileError, readable_load_errors
    from cost_hf.model_files import load_all_weights

    CodesOptions.load_kinds()
    with readable_load_errors("the quantizer", folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # before anything of the size that the configuration asks for is built
        model_class = MODEL_MAPPING[type(config)]
        missing = [name for name in MEMBERS if not hasattr(model_class, name)]
    if missing:
        raise DamagedFileError(
            f"{folder} holds a model of type {config.model_type!r:.80}, which is no quantizer (it has no "
            f"{', '.join(missing)}); give the directory or Hub id of a quantizer"
        )
    model: Quantizer = load_all_weights("the quantizer", folder, AutoModel.from_pretrained, trust_remote_code=False)
    return model


def check_fitted_items(level_sizes: Sequence[int], num_fitted: int) -> None:
    """Raise ValueError where fitting may see fewer items than a level has codes, each of which starts from one."""
    if num_fitted < max(level_sizes):
        raise ValueError(
            f"a level of {max(level_sizes)} codes needs as many items to be fitted to, got {num_fitted}; lower "
            f"codes.level_sizes (e.g. to {max(2, num_fitted // 8)}) or give more items"
        )


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError unless field `codes.<name>` is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"codes.{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_minimum(name: str, value: float | None, least: float) -> None:
    """Raise ValueError where field `codes.<name>` is set below its minimum."""
    if value is not None and value < least:
        raise ValueError(f"codes.{name} must be at least {least}, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless field `codes.<name>` is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"codes.{name} is a share between 0 and 1, got {value!r}")


def _nearest(name: str, known: Sequence[str]) -> str:
    found = get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
