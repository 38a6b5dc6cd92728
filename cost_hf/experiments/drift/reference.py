"""The training items that new ones are compared with: texts, vectors and codes, as a run or a recommender has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cost_hf.data.errors import DataError
from cost_hf.data.text_vectors import TextVectors
from cost_hf.files import read_tensors
from cost_hf.quantizers.base import chosen_levels, nearest_levels, reads_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_texts import catalog_texts
from cost_hf.recommenders.repository import POPULARITY, locate
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.stages import check_folder, is_run

MAX_ITEMS = 10_000  # training items that new ones are compared with: all pairs of more would take minutes
VECTORS = "vectors"  # folder of a run


@dataclass(frozen=True, eq=False)
class Coding:
    """A quantizer with the codes of the training items.

    Attributes:
        quantizer: as `cost_hf.quantizers.base.Quantizer`.
        codes: model-level codes as the catalog holds them, int64 `[M, L]`.
        is_of_vectors: whether these come from vectors of texts alone, as those of new items do.
    """

    quantizer: Any
    codes: np.ndarray
    is_of_vectors: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether all codes of an item say what it is like; free ones tell items apart that have the others alike."""
        return chosen_levels(self.quantizer) == len(self.quantizer.level_sizes)


@dataclass(frozen=True, eq=False)
class TrainingItems:
    """What is known of the items of a training, M of them in the order of the catalog.

    Attributes:
        item_ids: M ids.
        texts: M texts; None where they are not known.
        vectors: text vectors `[M, E]`; likewise.
        codings: quantizers by the part of the recommender that has one, "" for the recommender itself.
        missing: why something is not known, by `texts`, `vectors` and `codes`.
        is_held_out: whether vectors are those that the items would have as new ones, which no quantizer was fitted to.
    """

    item_ids: list[str]
    texts: list[str] | None = None
    vectors: np.ndarray | None = None
    codings: Mapping[str, Coding] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    is_held_out: bool = False

    def __repr__(self) -> str:
        """Return how many items there are, and what is known of them."""
        known = [name for name in ("texts", "vectors") if getattr(self, name) is not None]
        return f"TrainingItems({len(self.item_ids)} items, {', '.join([*known, *self.codings]) or 'ids alone'})"

    @classmethod
    def of(cls, source: str | Path, recommender: Recommender) -> "TrainingItems":
        """Return the training items of a recommender, at most `MAX_ITEMS` spread evenly over its catalog.

        A run has stored their texts and vectors. Elsewhere texts are made of the titles and columns of the catalog, and
        the encoder gives them vectors. An encoder that knows the items by their ids encodes them as if they were new.

        Args:
            source: directory or Hub id that the recommender was loaded from.
        """
        run = _run_of(Path(source))
        stored = None if run is None else _stored(run / VECTORS, recommender)
        # rows of items that came after the training follow
        count = len(stored.texts) if stored is not None else _num_counted(source)
        rows = _spread(count, MAX_ITEMS)
        missing: dict[str, str] = {}
        texts: list[str] | None = None
        vectors: np.ndarray | None = None
        if stored is not None:
            texts = [stored.texts[row] for row in rows]
            vectors = stored.vectors[rows]
        elif recommender.encoder is None:
            reason = "this recommender has no text encoder" if recommender.needs_vectors else "it reads no texts"
            missing |= {"texts": reason, "vectors": reason}
        else:
            try:
                texts = catalog_texts(recommender, rows.tolist())
                vectors = recommender.encoder.encode(texts)
            except DataError as error:
                reason = f"the catalog does not keep the texts of the training items ({error})"
                missing |= {"texts": reason, "vectors": reason}
        encoder = recommender.encoder
        as_new = None if encoder is None else encoder.as_new()
        is_held_out = as_new is not encoder
        if as_new is not None and is_held_out and texts is not None:
            vectors = as_new.encode(texts)
        if encoder is not None and not encoder.options.shows_texts and texts is not None:
            texts = None
            missing["texts"] = f"items are described by {encoder.made_of}, which is no text in a language"
        codings = _codings(recommender, rows)
        if codings and recommender.encoder is None:  # new items get no vectors, so no codes
            codings = {}
            missing["codes"] = missing["vectors"]
        elif not codings and _reads_texts(recommender):
            missing["codes"] = "a language model makes the codes of texts, which would take too long for all items"
        elif not codings and recommender.has_semantic_ids():
            missing["codes"] = "the codes of this recommender came without a quantizer"
        elif not codings:
            missing["codes"] = f"a recommender of kind {recommender.kind!r} has no quantizer"
        elif vectors is None:
            codings = {name: coding for name, coding in codings.items() if coding.is_of_vectors and not is_held_out}
            if not codings:
                missing["codes"] = "the codes of the training items come from more than the texts of the items"
        ids = [recommender.catalog.item_ids[row] for row in rows]
        return cls(ids, texts, vectors, codings, missing, is_held_out)


def _run_of(source: Path) -> Path | None:
    """Return the run directory that a source is, or that its recommender is in."""
    return next((directory for directory in (source, source.parent) if source.is_dir() and is_run(directory)), None)


def _stored(directory: Path, recommender: Recommender) -> TextVectors | None:
    """Return the vectors of a run where they are those of the recommender's text encoder."""
    if recommender.encoder is None or not (directory / "vectors.json").is_file():
        return None
    check_folder(directory.parent, directory.name)
    found = TextVectors.load(directory)
    return found if found.encoder_digest == recommender.encoder.digest else None


def _num_counted(source: str | Path) -> int:
    """Return the number of catalog rows whose clicks were counted when the recommender was saved."""
    return len(read_tensors(locate(source) / POPULARITY)["popularity"])


def _spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` rows spread evenly over `count`, in order."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def _reads_texts(recommender: Recommender) -> bool:
    """Return whether the quantizer of a recommender or of a part of it reads texts."""
    return any(reads_texts(own.quantizer) for own in (recommender, *recommender.parts.values()))


def _codings(recommender: Recommender, rows: np.ndarray) -> dict[str, Coding]:
    """Return the quantizers of a recommender and its parts that encode vectors; a shared one is there once."""
    owners = {"": (recommender.quantizer, recommender.catalog)}
    for name, part in recommender.parts.items():
        owners[name] = (part.quantizer, recommender.catalog.parts[name])
    found = {}
    known = set()
    for name, (quantizer, catalog) in owners.items():
        if quantizer is None or reads_texts(quantizer) or assignment_digest(quantizer) in known:
            continue
        known.add(assignment_digest(quantizer))
        is_of_vectors = nearest_levels(quantizer) == catalog.model_levels
        found[name] = Coding(quantizer, catalog.codes[rows, : catalog.model_levels], is_of_vectors)
    return found
