"""What bulk work computes of rows: vectors of texts, semantic IDs of items, recommendations for histories.

A task says what is computed and is small enough to be sent to a worker; `load` reads its model there, once. Rows
without an input have null as their result, so none is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from cost_hf.data.cells import in_forms
from cost_hf.data.item_texts import render_texts
from cost_hf.data.options import VectorOptions
from cost_hf.experiments.reading_options import ReadingOptions
from cost_hf.files import file_digest
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import MANIFEST, locate
from cost_hf.recommenders.service import SidEncoder
from cost_hf.semantic_ids.item_ids import item_id_list

if TYPE_CHECKING:
    from cost_hf.data.encoders import TextEncoder

ITEM = "item_id"
USER = "user_id"
HISTORY = "history"
POPULARITY = "popularity"

Transform = Callable[[pa.Table], pa.Table]
"""Maps rows to as many rows of results, in their order; the last column is null where a row has none."""


class BulkTask(Protocol):
    """What is computed of rows."""

    name: ClassVar[str]

    def content(self) -> dict[str, Any]:
        """Return what the results depend on beside the rows, as JSON."""

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError for rows without a column that is needed."""

    def load(self) -> Transform:
        """Read the model and return what it does to rows."""


@dataclass(frozen=True)
class EmbedTask:
    """Vectors of texts by a pretrained text encoder: column `vector`, float32 `[E]`.

    Args:
        options: vectors section of a recipe, with a template.

    Raises:
        ValueError: for lsa, which is fitted on a catalog, or no template.
    """

    name: ClassVar[str] = "embed"
    options: VectorOptions

    def __post_init__(self) -> None:
        """Check the options."""
        if self.options.model == "lsa":
            raise ValueError(
                "lsa is fitted on the texts of a catalog, so that it has no vectors for rows alone; name a text "
                "encoder, a Hub id or directory"
            )
        if self.options.template is None:
            raise ValueError(
                "embedding needs a template such as '{title}. {brand}': which columns hold text can't be seen from a "
                "part of the rows"
            )

    def content(self) -> dict[str, Any]:
        """Return the options."""
        return asdict(self.options)

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError for rows without item ids; the template names its own columns."""
        _require(ITEM, columns)

    def load(self) -> Transform:
        """Load the text encoder."""
        from cost_hf.data.encoders import sentence_encoder

        return partial(_embedded, sentence_encoder(self.options), str(self.options.template))


@dataclass(frozen=True)
class EncodeTask:
    """Semantic IDs of items by the text encoder and the quantizer of a recommender: columns `codes` and `tokens`.

    A catalog resolves collisions among its items, so the semantic ID of an item in a catalog may differ or be longer.

    Args:
        source: run directory, recommender directory or Hub id.
        template: text of an item, for recommenders that were trained without `vectors.template`.
    """

    name: ClassVar[str] = "encode"
    source: str
    template: str | None = None

    def content(self) -> dict[str, Any]:
        """Return source, template and the state of the recommender."""
        return asdict(self) | {"recommender": _state(self.source)}

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError for rows without item ids."""
        _require(ITEM, columns)

    def load(self) -> Transform:
        """Load the recommender.

        Raises:
            ValueError: where it has no quantizer or no text encoder, or the template is missing or one too many.
        """
        recommender = Recommender.from_pretrained(self.source)
        owner: Any = next((part for part in (recommender, *recommender.parts.values()) if _can_encode(part)), None)
        if owner is None:
            raise ValueError(
                f"{self.source} is a recommender of kind {recommender.kind} without quantizer and text encoder; give "
                "one that was trained on semantic IDs of texts"
            )
        has_own = owner.encoder.named_columns is not None
        if has_own == (self.template is not None):
            raise ValueError(
                f"the item texts of {self.source} are made of {owner.encoder.made_of}; "
                + (
                    "leave the template out"
                    if has_own
                    else "name these columns by a template such as '{title}. {brand}', since a part of the rows does "
                    "not show which columns hold text"
                )
            )
        render = owner.encoder.render if has_own else partial(render_texts, template=self.template)
        return partial(_encoded, owner, render)


@dataclass(frozen=True)
class RecommendTask:
    """The best items for histories: columns `item_ids`, `scores` and `by_popularity`.

    Items that the catalog does not hold are left out of a history. Empty histories get the most clicked items, with
    `by_popularity` true.

    Args:
        source: run directory, recommender directory or Hub id.
        top_k: items wanted.
        where: conditions on columns of the catalog, as of `Recommender.recommend`.
        diversify: most items with one value of a column.
    """

    name: ClassVar[str] = "recommend"
    source: str
    top_k: int = 10
    where: Mapping[str, Any] | None = None
    diversify: Mapping[str, int] | None = None

    def content(self) -> dict[str, Any]:
        """Return source, options and the state of the recommender."""
        return asdict(self) | {"recommender": _state(self.source)}

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError for rows without histories."""
        _require(HISTORY, columns)

    def load(self) -> Transform:
        """Load the recommender."""
        recommender = Recommender.from_pretrained(self.source)
        forms = ReadingOptions.of(self.source).options.normalize_ids
        return partial(_recommended, recommender, self, tuple(forms))


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Return rows whose whole numbers stay whole beside a null, so that their texts do not depend on other rows."""
    return rows.to_pandas(integer_object_nulls=True)


def _embedded(encoder: "TextEncoder", template: str, rows: pa.Table) -> pa.Table:
    texts = render_texts(_frame(rows), template)
    has_text = np.array([bool(text.strip()) for text in texts], dtype=bool)
    vectors = encoder.encode([text for text in texts if text.strip()]) if has_text.any() else np.empty((0, 0))
    return pa.table({ITEM: rows[ITEM], "vector": _lists(vectors, has_text, pa.float32())})


def _encoded(owner: Any, render: Callable[[pd.DataFrame], list[str]], rows: pa.Table) -> pa.Table:
    texts = render(_frame(rows))
    has_text = np.array([bool(text.strip()) for text in texts], dtype=bool)
    known = [text for text in texts if text.strip()]
    codes = owner.encode(known) if known else np.empty((0, 0), dtype=np.int64)
    tokens = np.array(owner.vocabulary.texts(codes), dtype=object) if known else np.empty((0, 0), dtype=object)
    return pa.table(
        {
            ITEM: rows[ITEM],
            "codes": _lists(codes, has_text, pa.int32()),
            "tokens": _lists(tokens, has_text, pa.string()),
        }
    )


def _recommended(recommender: Recommender, task: RecommendTask, forms: tuple[str, ...], rows: pa.Table) -> pa.Table:
    given = [item_id_list(history or (), name=HISTORY, what="item ids") for history in rows[HISTORY].to_pylist()]
    histories = [[in_forms(item, forms) for item in history] for history in given]
    users = rows[USER].to_pylist() if USER in rows.column_names else None
    answers = recommender.recommend(
        histories,
        top_k=task.top_k,
        where=task.where,
        diversify=task.diversify,
        on_unknown="drop",
        on_empty=POPULARITY,
        user_ids=users,
    )
    columns = {USER: rows[USER]} if users is not None else {}
    return pa.table(
        columns
        | {
            HISTORY: rows[HISTORY],
            "item_ids": pa.array([[answer.item_id for answer in own] for own in answers], pa.list_(pa.string())),
            "scores": pa.array([[answer.score for answer in own] for own in answers], pa.list_(pa.float64())),
            "by_popularity": pa.array(
                [any(answer.fields.get("source") == POPULARITY for answer in own) for own in answers], pa.bool_()
            ),
        }
    )


def _state(source: str) -> str:
    """Return the digest of a recommender's manifest, which has those of its files."""
    return file_digest(locate(source) / MANIFEST)


def _lists(values: np.ndarray, is_present: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return rows of values as lists, null where a row has none."""
    cells = iter(values.tolist())
    return pa.array([next(cells) if present else None for present in is_present], pa.list_(kind))


def _can_encode(part: Any) -> bool:
    return isinstance(part, SidEncoder) and part.quantizer is not None and getattr(part, "encoder", None) is not None


def _require(column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise ValueError(
            f"expected a column {column!r}, got {', '.join(map(repr, columns))}; rename one, as with "
            f"--columns '{{{column}: NAME}}'"
        )
