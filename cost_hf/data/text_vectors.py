"""Text vectors: items to texts by a template, texts to vectors by an encoder, kept by digest and resumable.

Vectors are cached in chunks, each under the digest of its own texts and the encoder: a killed run loses at most one
chunk, and a catalog with new rows at its end encodes only its last chunk again.
"""

import logging
import os
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from cost_hf.data.encoders import LsaEncoder, SentenceEncoder, TextEncoder
from cost_hf.data.schema import DataError, is_empty
from cost_hf.files import atomic_path, content_digest, read_json, write_json

CHUNK_SIZE = 512
logger = logging.getLogger(__name__)


@dataclass
class VectorOptions:
    """The `vectors` section of a recipe: which text of an item is encoded, and by what."""

    model: str = field(
        default="lsa", metadata={"help": "lsa (needs no model), or the id or directory of a text encoder"}
    )
    template: str | None = field(
        default=None,
        metadata={"help": "item text, like '{title}. {brand}'; empty fields vanish; none: all text columns"},
    )
    dim: int = field(default=128, metadata={"help": "width of lsa vectors (an encoder has its own)"})
    max_length: int | None = field(default=None, metadata={"help": "longest text in tokens (none: the encoder's own)"})
    batch_size: int = field(default=64, metadata={"help": "texts encoded at a time"})
    normalize: bool = field(default=True, metadata={"help": "scale an encoder's vectors to length 1 (lsa always does)"})
    prompt: str | None = field(
        default=None, metadata={"help": "text set before every item text, if the encoder wants one"}
    )

    def __post_init__(self) -> None:
        """Check the numbers, as `validate` does again for fields that are set later."""
        self.validate()

    def validate(self) -> None:
        """Raise `DataError` for a number below 1."""
        for name in ("dim", "batch_size", "max_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise DataError(f"vectors.{name} is {value!r}, expected at least 1; raise it")


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Item vectors `[N, E]` float32 with the texts they were made from and the digests that identify both."""

    vectors: np.ndarray
    texts: tuple[str, ...]
    texts_digest: str
    encoder_digest: str

    @property
    def digest(self) -> str:
        """Digest of texts and encoder, and so of the vectors."""
        return content_digest(self.texts_digest, self.encoder_digest)

    @classmethod
    def load(cls, directory: str | Path) -> "TextVectors":
        """Load what `encode_items` wrote."""
        header = read_json(Path(directory) / "vectors.json")
        vectors = load_file(Path(directory) / "vectors.safetensors")["vectors"]
        return cls(vectors, tuple(header["texts"]), header["texts_digest"], header["encoder_digest"])


def render_texts(items: pd.DataFrame, template: str | None) -> list[str]:
    """Fill the template for every item; an empty field vanishes with the separator before it.

    Args:
        items: catalog, N rows.
        template: text with `{column}` fields; None joins all text columns but `item_id` by ". ".

    Returns:
        N texts, empty where an item has none of the fields.
    """
    if template is None:
        names = [str(name) for name in items.columns if name != "item_id" and _is_text(items[name])]
        if not names:
            raise DataError(
                f"items has no text column beside item_id, only {list(map(str, items.columns))}; "
                "add one, or name columns to use in vectors.template"
            )
        parts = [("" if number == 0 else ". ", name) for number, name in enumerate(names)]
        ending = ""
    else:
        parts, ending = _parse_template(template, items)
    columns = [(separator, [_cell(value) for value in items[name]]) for separator, name in parts]
    return [_join([(separator, cells[row]) for separator, cells in columns], ending) for row in range(len(items))]


def _parse_template(template: str, items: pd.DataFrame) -> tuple[list[tuple[str, str]], str]:
    """Split a template into (separator before, column) pairs and the text after the last field."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"vectors.template {template!r} is malformed ({error}); write fields as {{column}}") from error
    parts, pending = [], ""
    for literal, name, spec, conversion in pieces:
        pending += literal
        if name is None:
            continue
        if name not in items.columns or spec or conversion:
            suffix = " with a format" if spec or conversion else ""
            raise DataError(
                f"vectors.template {template!r} has the field {name!r}{suffix}: "
                f"expected a plain column name of items, one of {list(map(str, items.columns))}; correct the template"
            )
        parts.append((pending, name))
        pending = ""
    if not parts:
        raise DataError(f"vectors.template {template!r} has no field; write at least one as {{column}}")
    return parts, pending


def _join(parts: list[tuple[str, str]], ending: str) -> str:
    text = ""
    for number, (separator, cell) in enumerate(parts):
        if not cell:
            continue
        # a separator whose left neighbour vanished keeps only its words: ", by " becomes "by "
        text += (separator if text or number == 0 else separator.lstrip(" .,;:|/-")) + cell
    return text + ending if text else ""


def _is_text(values: pd.Series) -> bool:
    return pd.api.types.infer_dtype(values.astype(object), skipna=True) == "string"


def _cell(value: Any) -> str:
    if is_empty(value):
        return ""
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(filter(None, map(_cell, value)))
    return str(value).strip()


def encode_items(
    items: pd.DataFrame,
    options: VectorOptions,
    *,
    output_dir: str | Path,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    fit_rows: np.ndarray | None = None,
) -> TextVectors:
    """Encode every item's text and write the vectors (and a fitted encoder) to `output_dir`.

    Args:
        items: catalog, N rows.
        options: the vectors section.
        output_dir: gets `vectors.safetensors`, `vectors.json` and, for lsa, `encoder/`.
        cache_dir: where chunks of an encoder are kept; default `$COST_HF_CACHE`, else `~/.cache/cost_hf/vectors`.
        seed: of the lsa fit.
        fit_rows: items whose texts lsa may be fitted on, bool `[N]`; all by default.
    """
    output_dir = Path(output_dir)
    texts = render_texts(items, options.template)
    encoder: TextEncoder
    if options.model == "lsa":
        known = texts if fit_rows is None else [text for text, fits in zip(texts, fit_rows, strict=True) if fits]
        encoder = LsaEncoder.fit(known, dim=options.dim, seed=seed)
        encoder.save(output_dir / "encoder")
        vectors = encoder.encode(texts)
    else:
        encoder = sentence_encoder(options)
        vectors = _encode_cached(texts, encoder, cache_dir)
    result = TextVectors(vectors, tuple(texts), content_digest(texts), encoder.digest)
    with atomic_path(output_dir / "vectors.safetensors") as temporary:
        save_file({"vectors": vectors}, temporary)
    header = {"texts": texts, "texts_digest": result.texts_digest, "encoder_digest": result.encoder_digest}
    # written last: a directory with vectors.json is complete
    write_json(output_dir / "vectors.json", header | {"options": asdict(options), "shape": list(vectors.shape)})
    return result


def load_encoder(directory: str | Path) -> TextEncoder:
    """Return the encoder whose vectors stand in `directory`, to encode the texts of new items."""
    options = VectorOptions(**read_json(Path(directory) / "vectors.json")["options"])
    return LsaEncoder.load(Path(directory) / "encoder") if options.model == "lsa" else sentence_encoder(options)


def sentence_encoder(options: VectorOptions) -> SentenceEncoder:
    """Load the text encoder that the options name."""
    return SentenceEncoder(
        options.model,
        max_length=options.max_length,
        batch_size=options.batch_size,
        normalize=options.normalize,
        prompt=options.prompt,
    )


def cached_vectors(
    texts: Sequence[str], encoder: TextEncoder, *, cache_dir: str | Path | None = None
) -> np.ndarray | None:
    """Return the vectors `[N, E]` that earlier runs left in the cache, or None where a chunk is missing."""
    paths = [path for _, path in _chunks(texts, encoder, cache_dir)]
    return _loaded(paths) if all(path.is_file() for path in paths) else None


def _encode_cached(texts: list[str], encoder: TextEncoder, cache_dir: str | Path | None) -> np.ndarray:
    chunks = _chunks(texts, encoder, cache_dir)
    missing = [(chunk, path) for chunk, path in chunks if not path.is_file()]
    for chunk, path in tqdm(missing, desc="item texts", unit="chunk", disable=None):
        with atomic_path(path) as temporary:
            save_file({"vectors": encoder.encode(chunk)}, temporary)
    logger.info("encoded %d texts in %d chunks, %d of them anew", len(texts), len(chunks), len(missing))
    return _loaded([path for _, path in chunks])


def _chunks(texts: Sequence[str], encoder: TextEncoder, cache_dir: str | Path | None) -> list[tuple[list[str], Path]]:
    """Return the texts in chunks, each with the file that keeps its vectors."""
    folder = Path(cache_dir or os.environ.get("COST_HF_CACHE") or Path.home() / ".cache" / "cost_hf" / "vectors")
    chunks = [list(texts[start : start + CHUNK_SIZE]) for start in range(0, len(texts), CHUNK_SIZE)]
    return [(chunk, folder / f"{content_digest(encoder.digest, chunk)}.safetensors") for chunk in chunks]


def _loaded(paths: Sequence[Path]) -> np.ndarray:
    return np.concatenate([load_file(path)["vectors"] for path in paths])
