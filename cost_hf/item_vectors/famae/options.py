"""Recipe section `vectors` of kind `famae`; imports neither pandas nor torch."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.data.errors import DataError
from cost_hf.data.options import ItemVectorOptions
from cost_hf.generators.options import RankingTrainingOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.encoders import ItemEncoder
    from cost_hf.data.prepare import PreparedData
    from cost_hf.options import ItemFacts

NEW_ITEMS = ("zero", "mean")
MAX_LEVEL = 100
MAX_FIELDS = 63  # beside the item id
MAX_SIZES = {"dim": 1 << 16, "num_layers": 256, "num_heads": 1 << 10, "intermediate_size": 1 << 16}
MAX_COUNT = 1 << 31
logger = logging.getLogger(__name__)


def field_column(name: str) -> str:
    """Return the column of a field.

    Examples:
        >>> field_column("categories:2"), field_column("brand")
        ('categories', 'brand')
    """
    column, _, level = name.rpartition(":")
    return column if column and level.isdecimal() else name


def field_level(name: str) -> int | None:
    """Return which level of a list a field is, 1 being the first; None for a whole column."""
    column, _, level = name.rpartition(":")
    return int(level) if column and level.isdecimal() else None


@ItemVectorOptions.register("famae")
@dataclass
class FamaeOptions(ItemVectorOptions):
    """Item vectors of FAMAE, the first stage of ReSID (arXiv 2602.02338, section 3.1).

    Examples:
        >>> FamaeOptions(fields=["brand", "categories:1"]).validate()
        >>> FamaeOptions(fields=["brand", "brand"]).validate()
        Traceback (most recent call last):
        cost_hf.data.errors.DataError: vectors.fields names 'brand' twice; leave one out
    """

    is_text: ClassVar[bool] = False
    shows_texts: ClassVar[bool] = False
    is_trained: ClassVar[bool] = True
    auto_models: ClassVar[str | None] = "cost_hf.item_vectors.famae.auto_famae"

    fields: list[str] = field(
        default_factory=list,
        metadata={
            "help": "categorical columns beside the item id; categories:2 is the second level of a list, or of a text "
            "with commas"
        },
    )
    dim: int = field(default=128, metadata={"help": "width of a field's embedding d; vectors have J·d", "is_own": True})
    num_layers: int = field(default=2, metadata={"help": "layers of the encoder"})
    num_heads: int = field(default=4, metadata={"help": "attention heads"})
    intermediate_size: int = field(default=512, metadata={"help": "width of the feed-forward layers"})
    dropout: float = field(default=0.1, metadata={"help": "dropout"})
    max_items: int = field(default=32, metadata={"help": "items of a window of clicks, the target included"})
    num_negatives: int = field(default=128, metadata={"help": "sampled values that a target is compared with"})
    full_softmax_values: int = field(
        default=1024, metadata={"help": "fields with up to so many values are compared with all of them"}
    )
    new_items: str = field(
        default="zero",
        metadata={"help": "id embedding of items without a training click: zero, or the mean of the trained ones"},
    )
    epochs: int = field(default=500, metadata={"help": "most passes over the training clicks"})
    batch_size: int = field(default=2048, metadata={"help": "targets per device and step", "is_own": True})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=1e-5, metadata={"help": "AdamW weight decay"})
    scheduler: str = field(default="cosine", metadata={"help": "learning-rate schedule, a transformers SchedulerType"})
    patience: int = field(default=3, metadata={"help": "validations without a better metric 1 before stopping"})
    validation_users: int = field(default=1024, metadata={"help": "size of the fixed seeded validation sample"})
    precision: str = field(
        default="auto",
        metadata={
            "help": "fp32, bf16 (fp32, with a warning, on x86 CPUs without AVX-512) or auto (bf16 on CUDA, fp32 on CPU)"
        },
    )
    seed: int = field(default=0, metadata={"help": "of FAMAE, whatever the seed of the run"})
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "experiment trackers that get the training log", "changes_nothing": True},
    )

    def __post_init__(self) -> None:
        """Check the fields; `validate` is called again for those that are set later."""
        self.validate()

    @property
    def item_columns(self) -> list[str] | None:
        """Columns of the fields."""
        return [field_column(name) for name in self.fields]

    def with_column(self, column: str) -> dict[str, Any]:
        """Return the fields with one more column."""
        return {"vectors.fields": [*self.fields, column]}

    @property
    def training(self) -> RankingTrainingOptions:
        """The options of the optimization, as every training has them."""
        return _TrainingOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            beta2=0.999,
            warmup_steps=0,
            scheduler=self.scheduler,
            precision=self.precision,
            validation_users=self.validation_users,
            patience=self.patience,
            report_to=list(self.report_to),
        )

    def validate(self) -> None:
        """Raise `DataError` for values that no run can have."""
        for name in self.fields:
            level = field_level(name)
            if not name or field_column(name) == "item_id" or (level is not None and not 1 <= level <= MAX_LEVEL):
                raise DataError(
                    f"vectors.fields must name columns beside item_id, or column:level with a level from 1 to "
                    f"{MAX_LEVEL}, got {name!r:.80}; correct it"
                )
            if self.fields.count(name) > 1:
                raise DataError(f"vectors.fields names {name!r:.80} twice; leave one out")
        if len(self.fields) > MAX_FIELDS:
            raise DataError(f"vectors.fields may name up to {MAX_FIELDS} fields, got {len(self.fields)}; name fewer")
        for name, most in MAX_SIZES.items():
            _check_whole(name, getattr(self, name), least=1, most=most)
        _check_whole("max_items", self.max_items, least=2, most=100_000)
        _check_whole("num_negatives", self.num_negatives, least=1, most=MAX_COUNT)
        _check_whole("full_softmax_values", self.full_softmax_values, least=0, most=MAX_COUNT)
        _check_whole("seed", self.seed, least=0, most=2**32 - 1)
        if self.dim % self.num_heads:
            raise DataError(f"vectors.dim must be a multiple of vectors.num_heads={self.num_heads}, got {self.dim}")
        if not 0 <= self.dropout < 1:
            raise DataError(f"vectors.dropout is a share in [0, 1), got {self.dropout!r}; lower it")
        if self.new_items not in NEW_ITEMS:
            raise DataError(f"vectors.new_items must be one of {', '.join(NEW_ITEMS)}, got {self.new_items!r:.80}")
        try:
            self.training.validate()
        except ValueError as error:
            raise DataError(str(error)) from error

    def check_items(self, items: ItemFacts) -> None:
        """Raise `DataError` for a field that is no column; log where new items will all have the same vector."""
        from cost_hf.item_vectors.famae.fields import render_fields

        render_fields(items.table.head(0), self.fields)
        if not self.fields:
            logger.warning(
                "vectors.fields is empty, so an item is known by its clicks alone and all new items get the same "
                "vector; name categorical columns of the items to tell new ones apart"
            )

    def most_width(self, num_items: int) -> int | None:
        """Return the width of the vectors, that of all embeddings of an item."""
        return self.dim * (1 + len(self.fields))

    def content(self) -> dict[str, Any]:
        """Return the kind and all fields that vectors depend on, for digests."""
        used = [entry.name for entry in dataclasses.fields(self) if not entry.metadata.get("changes_nothing")]
        return {"kind": self.kind} | {name: getattr(self, name) for name in used}

    def digest_parts(self, data: PreparedData, fit_rows: np.ndarray | None) -> list[Any]:
        """Return what the vectors depend on: the fields of the items and the training part of the clicks."""
        from cost_hf.item_vectors.famae.fields import render_fields

        texts = render_fields(data.tables.items, self.fields)
        return [texts, self.content(), data.split.digest]

    def fit(self, data: PreparedData, *, output_dir: Path, fit_rows: np.ndarray | None) -> None:
        """Train FAMAE on the training part and write the vectors of all items."""
        from cost_hf.item_vectors.famae.training import fit_famae

        fit_famae(data, self, output_dir=output_dir)

    @classmethod
    def read_encoder(cls, directory: Path, content: dict[str, Any]) -> ItemEncoder:
        """Return the encoder of new items from a directory and its `encoder.json`."""
        from cost_hf.item_vectors.famae.encoder import FamaeItemEncoder

        return FamaeItemEncoder.read(directory, content)


class _TrainingOptions(RankingTrainingOptions):
    """Options of the optimization, called by their names in recipes in messages."""

    section: ClassVar[str] = "vectors"


def _check_whole(name: str, value: int, *, least: int, most: int) -> None:
    if not least <= value <= most:
        raise DataError(f"vectors.{name} is {value!r}, expected {least} to {most}")
