"""The encoder of new items: a trained FAMAE with the values of its fields, stored beside a recommender."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.encoders import FILE_NAME, WEIGHTS, ItemEncoder
from cost_hf.data.errors import DataError
from cost_hf.files import (
    DamagedFileError,
    check_fields,
    content_digest,
    read_object,
    write_json,
)
from cost_hf.item_vectors.famae.fields import MISSING, FieldVocabulary, render_fields
from cost_hf.item_vectors.famae.modeling_famae import FamaeModel
from cost_hf.item_vectors.famae.options import FamaeOptions, field_column
from cost_hf.model_files import load_all_weights

VOCABULARY = "fields.json"  # of the values, beside the weights


class FamaeItemEncoder(ItemEncoder):
    """Turns ids and field values into item vectors `[n, J * d]`.

    An item that had no click in training has an id embedding of zeros, or the mean of the trained ones; so has a new
    one. A field value that no item of the training had is missing.

    Args:
        options: recipe section `vectors`.
        vocabulary: known values.
        model: in eval mode.
        digest: known from a file; of these parts by default.
    """

    options: FamaeOptions

    def __init__(
        self, options: FamaeOptions, vocabulary: FieldVocabulary, model: FamaeModel, *, digest: str | None = None
    ):
        self.options = options
        self.vocabulary = vocabulary
        self.settings = None  # plain transformers has no model that reads these fields
        self._tables = [table.detach().float().cpu().numpy() for table in model.tables]
        self._model = model
        self.digest = digest or content_digest("famae", options.new_items, vocabulary.to_dict(), *self._tables)

    @classmethod
    def read(cls, directory: Path, content: dict[str, Any]) -> FamaeItemEncoder:
        """Read what `save` wrote.

        Raises:
            OSError: for files that can't be read.
            DamagedFileError: for a damaged file, other weights, or invalid options.
        """
        path = directory / FILE_NAME
        names = [entry.name for entry in dataclasses.fields(FamaeOptions)]
        if sorted(content["options"]) != sorted(names):
            raise DamagedFileError(f"{path} has the options {sorted(content['options'])}, expected {sorted(names)}")
        try:
            options = FamaeOptions(**content["options"])
        except (DataError, TypeError, AttributeError) as error:
            raise DamagedFileError(f"{path}: {error}") from error
        weights = directory / WEIGHTS
        stored = read_object(weights / VOCABULARY)
        check_fields(stored, {"fields": list[str], "values": list[list[str]]}, source=weights / VOCABULARY)
        vocabulary = FieldVocabulary(tuple(stored["fields"]), tuple(map(tuple, stored["values"])))
        model = load_all_weights("the item encoder", weights, FamaeModel.from_pretrained)
        if tuple(model.config.vocab_sizes) != vocabulary.sizes or vocabulary.fields != tuple(options.fields):
            raise DamagedFileError(
                f"{weights / VOCABULARY} has {vocabulary.sizes} values of {vocabulary.fields}, the model was trained "
                f"with {tuple(model.config.vocab_sizes)} of {tuple(options.fields)}; copy the directory again"
            )
        encoder = cls(options, vocabulary, model.eval())
        if encoder.digest != content["digest"]:
            raise DamagedFileError(
                f"the item encoder in {directory} has digest {encoder.digest}, its {FILE_NAME} names "
                f"{content['digest']}; copy the directory again"
            )
        return encoder

    def __repr__(self) -> str:
        """Name the fields."""
        return f"FamaeItemEncoder({', '.join(['item_id', *self.vocabulary.fields])}, digest {self.digest[:12]})"

    def save(self, directory: str | Path, *, bundle_weights: bool = False) -> None:
        """Write `encoder.json` and, below `model/`, the weights and the values of the fields, in any case."""
        target = Path(directory)
        self._model.save_pretrained(target / WEIGHTS)
        write_json(target / WEIGHTS / VOCABULARY, self.vocabulary.to_dict())
        content = {"kind": self.options.kind, "options": dataclasses.asdict(self.options)}
        write_json(target / FILE_NAME, content | {"digest": self.digest, "settings": None})

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector per text of `render`, float32 `[n, J * d]`.

        Raises:
            DataError: for a text that `render` did not make.
        """
        if isinstance(texts, str):
            raise ValueError(f"expected a list of texts, got the string {texts!r:.80}; pass it in a list")
        self.vocabulary.warn_of_unknown(texts)
        numbers = self.vocabulary.numbers(texts)
        parts = [table[numbers[:, field]] for field, table in enumerate(self._tables)]
        if self.options.new_items == "mean":
            parts[0] = np.where(numbers[:, :1] == MISSING, self._tables[0][1:].mean(axis=0), parts[0])
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)

    def as_new(self) -> FamaeItemEncoder:
        """Return an encoder that knows no ids: what training has learned of an item by its id is not used."""
        unknowing = copy.copy(self)
        unknowing.vocabulary = dataclasses.replace(self.vocabulary, values=((), *self.vocabulary.values[1:]))
        return unknowing

    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items: JSON lists of id and field values."""
        return render_fields(items, self.options.fields)

    def check_texts(self, item_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Raise `DataError` for a text that `render` did not make, or made for another item."""
        for item, (named, *_) in zip(item_ids, self.vocabulary.parse(texts), strict=True):
            if named != item:
                raise DataError(
                    f"the text of item {item!r:.80} names item {named!r:.80}; make texts by "
                    "`recommender.encoder.render(items)`, in the order of the ids"
                )

    def text_columns(self, items: pd.DataFrame) -> list[str]:
        """Return the columns of the fields, sorted."""
        self.render(items.head(0))
        return sorted(self.named_columns)

    @property
    def named_columns(self) -> set[str]:
        """Columns of the fields."""
        return {field_column(name) for name in self.options.fields}

    @property
    def made_of(self) -> str:
        """What the text of an item is made of."""
        return f"its id and the fields {', '.join(self.options.fields) or '(none)'}"

    @property
    def bundled(self) -> bool:
        """True: the weights are always stored next to `encoder.json`."""
        return True

    @property
    def holds_item_values(self) -> bool:
        """True: the vocabulary holds ids and field values."""
        return True

    def require(self) -> None:
        """Nothing is left to load."""
