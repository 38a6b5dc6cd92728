"""Recipe sections `data` and `vectors`, checked before anything is read; imports neither pandas nor torch.

A kind of item vectors is a dataclass below `ItemVectorOptions`: `text` here, others in packages inside of
`cost_hf.item_vectors`, or in those that another distribution names by an entry point of this group.
"""

from __future__ import annotations

import codecs
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.data.errors import DataError
from cost_hf.options import KindOptions
from cost_hf.plugins import load_plugins

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.encoders import ItemEncoder
    from cost_hf.data.prepare import PreparedData

PACKAGE = "cost_hf.item_vectors"

CHOICES: dict[str, tuple[str, ...]] = {
    "reader": ("tables", "synthetic", "mind", "amazon", "movielens"),
    "synthetic_world": ("news", "returning_interests"),
    "on_unknown_item": ("error", "drop"),
    "on_empty_text": ("error", "drop"),
    "on_duplicate_click": ("keep", "drop"),
    "on_duplicate_item": ("error", "first", "last"),
    "on_bad_row": ("error", "drop"),
    "on_unknown_event": ("error", "ignore"),
    "on_missing_user": ("error", "drop", "session"),
    "order": ("auto", "position", "timestamp"),
    "split": ("leave_one_out", "time", "source"),
}
MAX_SYNTHETIC = 10**7
MAX_VALUES = {"dim": 1 << 16, "batch_size": 1 << 20, "max_length": 1 << 20}
ID_FORMS = ("strip", "nfc", "lower")
MAX_EVENT_WEIGHT = 1000
CSV_KEYS = ("sep", "encoding", "decimal", "date_format")
TIME_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # values of date_format for numbers: units in a second
MIN_VALUES = {
    "min_user_interactions": 0,
    "min_item_interactions": 0,
    "max_user_interactions": 1,
    "min_history": 0,
    "synthetic_users": 1,
}


@dataclass
class DataOptions:
    """The `data` section of a recipe: where the tables are, what is dropped from them, how they are split.

    Raises:
        DataError: for a value outside its range.

    Examples:
        >>> DataOptions(split="time", min_history=3).time_shares
        [0.8, 0.1, 0.1]
        >>> DataOptions(min_history=-1)
        Traceback (most recent call last):
        cost_hf.data.errors.DataError: data.min_history is -1, expected at least 0; raise it
    """

    reader: str = field(
        default="tables",
        metadata={"help": "tables (your data), synthetic (toy news), or raw files of mind, amazon or movielens"},
    )
    path: str | None = field(
        default=None,
        metadata={"help": "directory with items.* and interactions.* (or a reader's raw files), or a Hub data set"},
    )
    items: str | None = field(
        default=None,
        metadata={
            "help": "catalog file (parquet, xlsx, csv, tsv, jsonl; texts also .gz or .zip), or a pattern: items-*.csv"
        },
    )
    interactions: str | None = field(default=None, metadata={"help": "click log file, or a pattern, likewise"})
    csv: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "how tables are written: sep, encoding, decimal, date_format (of times: %d.%m.%Y %H:%M, or s, ms, "
            "us, ns for numbers); items.sep applies to items only"
        },
    )
    columns: dict[str, str] = field(
        default_factory=dict, metadata={"help": "our column -> name in the source; items.item_id applies to items only"}
    )
    exclude_columns: list[str] = field(
        default_factory=list,
        metadata={"help": "columns of the items that a recommender does not keep for filters, such as long texts"},
    )
    strict: bool = field(default=False, metadata={"help": "duplicate texts and repeated (user, item) pairs are errors"})
    on_duplicate_item: str = field(
        default="error",
        metadata={"help": "an item id in several rows of the catalog: error, or keep the first or last"},
    )
    on_bad_row: str = field(
        default="error",
        metadata={"help": "rows that can't be read (no item id or time, other fields than the header): error or drop"},
    )
    on_unknown_item: str = field(
        default="error", metadata={"help": "clicks on items outside the catalog: error or drop"}
    )
    on_empty_text: str = field(default="error", metadata={"help": "items without any text: error or drop"})
    on_duplicate_click: str = field(
        default="keep", metadata={"help": "the same click (user, item, time) more than once: keep or drop the repeats"}
    )
    event_column: str | None = field(
        default=None, metadata={"help": "column of the interactions with the type of event, such as view or purchase"}
    )
    event_weights: dict[str, int | float] = field(
        default_factory=dict,
        metadata={
            "help": "type of event -> what one counts in fitting, whole numbers; 0: in histories alone; none: 1 for "
            "all, or for target_events alone where these are named"
        },
    )
    target_events: list[str] = field(
        default_factory=list,
        metadata={"help": "types of events that are predicted and evaluated, others are history; none: all"},
    )
    on_unknown_event: str = field(
        default="error", metadata={"help": "events of types that event_weights does not name: error or ignore"}
    )
    on_missing_user: str = field(
        default="error",
        metadata={"help": "clicks without a user (guests): error, drop, or session: each session is a user"},
    )
    session_column: str | None = field(
        default=None, metadata={"help": "on_missing_user: session, column of the interactions with the session"}
    )
    session_gap: float | None = field(
        default=None,
        metadata={"help": "on_missing_user: session, minutes without a click after which another session begins"},
    )
    normalize_ids: list[str] = field(
        default_factory=list,
        metadata={"help": "normalise ids of both tables: strip (outer blanks), nfc (Unicode form), lower (case)"},
    )
    clean_html: bool = field(default=False, metadata={"help": "remove HTML tags and entities from the item texts"})
    min_user_interactions: int = field(default=0, metadata={"help": "k-core: users with fewer clicks are dropped"})
    min_item_interactions: int = field(
        default=0, metadata={"help": "k-core: items with fewer clicks are dropped from the catalog"}
    )
    max_user_interactions: int | None = field(
        default=None, metadata={"help": "keep at most this many latest clicks per user, after the k-core"}
    )
    order: str = field(
        default="auto", metadata={"help": "order clicks by position, timestamp, or auto (position first)"}
    )
    split: str = field(default="leave_one_out", metadata={"help": "leave_one_out, time or source (see split_column)"})
    split_column: str = field(default="split", metadata={"help": "column of split: source"})
    time_shares: list[float] = field(
        default_factory=lambda: [0.8, 0.1, 0.1], metadata={"help": "split: time, shares of clicks per part"}
    )
    time_cutoffs: list[int] | None = field(
        default=None, metadata={"help": "split: time, epoch seconds where validation and test begin; overrides shares"}
    )
    min_history: int = field(default=1, metadata={"help": "evaluation cases with fewer earlier clicks are dropped"})
    cold_share: float = field(
        default=0.0,
        metadata={"help": "share of the test targets' items hidden from everything fitted (cold start; TIGER: 0.05)"},
    )
    licence: str | None = field(default=None, metadata={"help": "licence of the data; controls what upload publishes"})
    synthetic_world: str = field(
        default="news",
        metadata={
            "help": "reader: synthetic, news (6 to 14 clicks a user), or returning_interests (300 to 1,000, between "
            "interests that return after long)"
        },
    )
    synthetic_users: int = field(default=1000, metadata={"help": "reader: synthetic, number of users"})
    synthetic_items: int = field(default=600, metadata={"help": "reader: synthetic, number of items"})
    seed: int = field(
        default=0,
        metadata={"help": "of ties in time and of the toy data; separate from the run's seed, so runs are comparable"},
    )

    def __post_init__(self) -> None:
        """Check the options; `read_tables` and `split_interactions` check fields that were set later."""
        self.validate()

    def validate(self) -> None:
        """Raise `DataError` naming the first option with a value outside its range."""
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise DataError(f"data.{name} is {value!r}, expected one of {list(choices)}; choose one of them")
        for name, least in MIN_VALUES.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"data.{name} is {value!r}, expected at least {least}; raise it")
        for name in ("synthetic_users", "synthetic_items"):
            if (value := getattr(self, name)) > MAX_SYNTHETIC:
                raise DataError(f"data.{name} is {value!r}, expected at most {MAX_SYNTHETIC}; lower it")
        unknown = [name for name in self.normalize_ids if name not in ID_FORMS]
        if unknown:
            raise DataError(
                f"data.normalize_ids has {unknown[0]!r}, expected some of {list(ID_FORMS)}; choose from these"
            )
        if not 0 <= self.cold_share < 1:
            raise DataError(f"data.cold_share is {self.cold_share!r}, expected 0 <= share < 1; correct it")
        _check_csv(self.csv)
        self._validate_events()
        shares = self.time_shares
        if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise DataError(
                f"data.time_shares is {shares!r}, expected three shares above 0 that sum to 1; correct them"
            )
        cutoffs = self.time_cutoffs
        if cutoffs is not None and (len(cutoffs) != 2 or cutoffs[0] >= cutoffs[1]):
            raise DataError(f"data.time_cutoffs is {cutoffs!r}, expected two rising epoch seconds; correct them")

    def _validate_events(self) -> None:
        for name in ("event_weights", "target_events"):
            if getattr(self, name) and self.event_column is None:
                raise DataError(
                    f"data.{name} needs the column with the type of event, got none; name it with data.event_column"
                )
        _check_weights(self.event_weights)
        missing = [name for name in self.target_events if self.event_weights and name not in self.event_weights]
        if missing:
            raise DataError(
                f"data.target_events has {missing[0]!r}, which data.event_weights does not name, only "
                f"{list(self.event_weights)}; add it there, or correct the name"
            )
        has_sessions = self.session_column is not None or self.session_gap is not None
        if has_sessions != (self.on_missing_user == "session"):
            raise DataError(
                f"data.on_missing_user is {self.on_missing_user!r} with data.session_column={self.session_column!r} "
                f"and data.session_gap={self.session_gap!r}; sessions need data.on_missing_user: session and one of "
                "the two, or both"
            )
        if self.session_gap is not None and not 0 < self.session_gap < math.inf:
            raise DataError(f"data.session_gap is {self.session_gap!r}, expected minutes above 0; raise it")


def csv_option(csv: Mapping[str, str], table: str, name: str) -> str | None:
    """Return one value of `data.csv` for a table, None where there is none.

    Examples:
        >>> csv_option({"sep": ";", "items.sep": ","}, "items", "sep")
        ','
    """
    return csv.get(f"{table}.{name}", csv.get(name))


def _check_csv(csv: Mapping[str, str]) -> None:
    """Raise `DataError` for an unknown key of `data.csv` or a value that it can't have."""
    for key, value in csv.items():
        table, _, name = key.rpartition(".")
        if name not in CSV_KEYS or table not in ("", "items", "interactions") or key == "items.date_format":
            raise DataError(
                f"data.csv has {key!r}, expected {', '.join(CSV_KEYS)}, or one of them after items. or interactions. "
                "(items have no times); correct the name"
            )
        wrong = _csv_fault(name, value)
        if wrong:
            raise DataError(f"data.csv.{key} is {value!r}, expected {wrong}; correct it")
    for table in ("items", "interactions"):
        if csv_option(csv, table, "decimal") == csv_option(csv, table, "sep") == ",":
            raise DataError(f"data.csv has a comma as sep and as decimal of {table}, expected two marks; correct one")


def _csv_fault(name: str, value: str) -> str:
    """Return what a value of `data.csv` should be, "" where it is."""
    if name == "sep" and (len(value) != 1 or value in '"\r\n'):
        return "one character, such as ';' or \"\\t\""
    if name == "decimal" and value not in (".", ","):
        return "a point or a comma"
    if name == "date_format" and value not in TIME_UNITS and re.search("%[A-Za-z]", value) is None:
        return f"a format such as '%d.%m.%Y %H:%M', or one of {', '.join(TIME_UNITS)} for numbers"
    if name == "encoding":
        try:
            codecs.lookup(value)
        except LookupError:
            return "an encoding that Python knows, such as utf-8, cp1252, latin-1 or utf-16"
    return ""


def _check_weights(weights: Mapping[str, int | float]) -> None:
    """Raise `DataError` for a weight that is not a whole number in range, or if none is above 0."""
    for name, value in weights.items():
        if not float(value).is_integer() or not 0 <= value <= MAX_EVENT_WEIGHT:
            raise DataError(
                f"data.event_weights.{name} is {value!r}, expected a whole number from 0 to {MAX_EVENT_WEIGHT}, since "
                f"counts must add up exactly; {_whole_weights(weights)}"
            )
    if weights and not any(weights.values()):
        raise DataError(f"data.event_weights is {dict(weights)!r}, expected a weight above 0; raise one of them")


def _whole_weights(weights: Mapping[str, int | float]) -> str:
    """Return the remedy for weights that are not whole: the same ratios in whole numbers, where these are small."""
    if all(0 <= value < math.inf for value in weights.values()):
        ratios = [Fraction(str(value)) for value in weights.values()]
        factor = math.lcm(*(ratio.denominator for ratio in ratios))
        whole = [int(ratio * factor) for ratio in ratios]
        if factor > 1 and max(whole) <= MAX_EVENT_WEIGHT:
            pairs = ", ".join(f"{name}: {value}" for name, value in zip(weights, whole, strict=True))
            return f"multiply all of them: {{{pairs}}}"
    return "correct it; only the ratios of the weights matter"


class ItemVectorOptions(KindOptions, ABC):
    """Recipe section `vectors`: the kind of item vectors, and the fields of that kind.

    Attributes:
        default_kind: of a recipe that names none.
        is_text: whether vectors are those of item texts, so that near ones belong to texts of like meaning.
        shows_texts: whether the text of an item is one for readers, so that it may stand where a title is missing.
        is_trained: whether vectors are learned by `Trainer`, with all processes of a distributed run.
        auto_models: module that registers models of its own with the Auto classes of transformers, as of a method.
    """

    default_kind: ClassVar[str] = "text"
    is_text: ClassVar[bool] = True
    shows_texts: ClassVar[bool] = True
    is_trained: ClassVar[bool] = False
    auto_models: ClassVar[str | None] = None

    @classmethod
    def load_kinds(cls) -> None:
        """Import the packages that register kinds, those of other distributions among them."""
        load_plugins(PACKAGE)

    @property
    def item_template(self) -> str | None:
        """Template of the texts that items must have; None takes all text columns."""
        return None

    @property
    def item_columns(self) -> list[str] | None:
        """Columns that vectors are made of beside the item id; None for those of the item texts."""
        return None

    def with_column(self, column: str) -> dict[str, Any]:
        """Return the recipe fields by which vectors are made of one more column, where `item_columns` are some."""
        return {}

    @property
    def input_parts(self) -> list[Any]:
        """What names of models in the options stand for now: their content, for digests."""
        return []

    def most_width(self, num_items: int) -> int | None:
        """Return the width of the vectors of N items, or an upper bound of it; None where only the model tells."""
        return None

    @abstractmethod
    def digest_parts(self, data: PreparedData, fit_rows: np.ndarray | None) -> list[Any]:
        """Return all that the vectors depend on.

        Args:
            data: tables and split.
            fit_rows: items that fitting may see, bool `[N]`; None for all.
        """

    @abstractmethod
    def fit(self, data: PreparedData, *, output_dir: Path, fit_rows: np.ndarray | None) -> None:
        """Make the vectors of all items and write them as `text_vectors.TextVectors` reads them, with their encoder.

        Arguments are those of `digest_parts`; nothing of the evaluation parts may be fitted to.
        """

    @classmethod
    @abstractmethod
    def read_encoder(cls, directory: Path, content: dict[str, Any]) -> ItemEncoder:
        """Return the encoder that this kind wrote.

        Args:
            directory: of its files.
            content: of its `encoder.json`; `options` is an object, `digest` a text.

        Raises:
            OSError: for files that can't be read.
            DamagedFileError: for damaged files, or invalid options.
        """

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a path in the options that a later stage would miss."""


@ItemVectorOptions.register("text")
@dataclass
class VectorOptions(ItemVectorOptions):
    """The `vectors` section of a recipe of kind `text`: the text of an item and its encoder.

    Raises:
        DataError: for a number outside its range.
    """

    model: str = field(
        default="lsa", metadata={"help": "lsa (needs no model), or the id or directory of a text encoder"}
    )
    revision: str | None = field(
        default=None, metadata={"help": "branch, tag or commit of a Hub text encoder (none: its newest)"}
    )
    template: str | None = field(
        default=None,
        metadata={"help": "item text, like '{title} ({year})'; empty fields are dropped; none: all text columns"},
    )
    dim: int = field(default=128, metadata={"help": "width of lsa vectors (an encoder has its own)", "is_own": True})
    max_length: int | None = field(default=None, metadata={"help": "longest text in tokens (none: the encoder's own)"})
    batch_size: int = field(default=64, metadata={"help": "texts encoded at a time", "is_own": True})
    normalize: bool = field(default=True, metadata={"help": "scale an encoder's vectors to length 1 (lsa always does)"})
    prompt: str | None = field(
        default=None, metadata={"help": "text set before every item text, if the encoder wants one"}
    )

    def __post_init__(self) -> None:
        """Check the numbers; `validate` is called again for fields that were set later."""
        self.validate()

    def validate(self) -> None:
        """Raise `DataError` for a number outside its range."""
        for name in ("dim", "batch_size", "max_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise DataError(f"vectors.{name} is {value!r}, expected at least 1; raise it")
            if value is not None and value > MAX_VALUES[name]:
                raise DataError(f"vectors.{name} is {value!r}, expected at most {MAX_VALUES[name]}; lower it")

    @property
    def item_template(self) -> str | None:
        """Template of the item texts; None takes all text columns."""
        return self.template

    @property
    def input_parts(self) -> list[Any]:
        """What the name of a text encoder stands for: its content is an input, not its name; nothing for lsa."""
        from cost_hf.data.encoders import encoder_identity

        return [] if self.model == "lsa" else [encoder_identity(self.model, self.revision)]

    def most_width(self, num_items: int) -> int | None:
        """Return the most dimensions that an lsa has; None for an encoder."""
        return min(self.dim, num_items) if self.model == "lsa" else None

    def content(self) -> dict[str, Any]:
        """Return the fields that vectors depend on, for digests."""
        return asdict(self)

    def digest_parts(self, data: PreparedData, fit_rows: np.ndarray | None) -> list[Any]:
        """Return the texts, the encoder, and which texts an lsa is fitted to."""
        from cost_hf.data.item_texts import render_texts

        texts = render_texts(data.tables.items, self.template)
        return [texts, self.content(), *self.input_parts, *([] if fit_rows is None else [fit_rows])]

    def fit(self, data: PreparedData, *, output_dir: Path, fit_rows: np.ndarray | None) -> None:
        """Encode the item texts."""
        from cost_hf.data.text_vectors import encode_items

        encode_items(data.tables.items, self, output_dir=output_dir, fit_rows=fit_rows)

    @classmethod
    def read_encoder(cls, directory: Path, content: dict[str, Any]) -> ItemEncoder:
        """Return the text encoder, which is loaded with its first text."""
        from cost_hf.data.encoders import TextItemEncoder

        return TextItemEncoder.read(directory, content)

    def check_paths(self) -> None:
        """Raise FileNotFoundError for a directory of an encoder that is not there."""
        name = self.model
        if (Path(name).is_absolute() or name.startswith((".", "~"))) and not Path(name).is_dir():
            raise FileNotFoundError(f"vectors.model {name!r} is no directory; check the path, or give a Hub id")
