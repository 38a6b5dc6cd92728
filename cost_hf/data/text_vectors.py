"""Text vectors: items to texts by a template, texts to vectors by an encoder, cached by digest and resumable.

Vectors are cached in chunks, each under the digest of its texts and the encoder: a killed run loses at most one chunk,
and after new rows were appended only the last chunk is encoded again. A chunk stores the digest of its vectors; a
damaged one is encoded again.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file
from tqdm import tqdm

from cost_hf.data.encoders import ItemEncoder, LsaEncoder, TextEncoder, sentence_encoder
from cost_hf.data.item_texts import render_texts
from cost_hf.data.options import VectorOptions
from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    content_digest,
    read_object,
    read_tensor_metadata,
    read_tensors,
    write_json,
)
from cost_hf.row_groups import readable_parquet_errors, row_groups, write_row_groups

FORMAT = "cost_hf.vectors.2"
TEXTS = "texts.parquet"
TEXT_SCHEMA = pa.schema([pa.field("text", pa.string(), nullable=False)])
CHUNK_SIZE = 512
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Item vectors `[N, E]` float32 with the texts they were made from and the digests that identify both.

    Attributes:
        vectors: float32 `[N, E]`.
        texts: of the items, as their encoder renders them.
        texts_digest: of the texts.
        encoder_digest: of the encoder.
        description: what results.json says of the vectors, such as metrics of their training; empty for most kinds.
    """

    vectors: np.ndarray
    texts: tuple[str, ...]
    texts_digest: str
    encoder_digest: str
    description: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Summarise texts, width and digests."""
        return (
            f"TextVectors({len(self.texts)} texts, width {self.vectors.shape[-1]}, texts {self.texts_digest[:12]}, "
            f"encoder {self.encoder_digest[:12]})"
        )

    @property
    def digest(self) -> str:
        """Digest of texts and encoder, and so of the vectors."""
        return content_digest(self.texts_digest, self.encoder_digest)

    @classmethod
    def load(cls, directory: str | Path) -> "TextVectors":
        """Load what `save` wrote.

        Raises:
            OSError: for a file that can't be opened.
            DamagedFileError: for a damaged file, or one text too many or missing.
        """
        header = read_object(Path(directory) / "vectors.json")
        vectors = read_tensors(Path(directory) / "vectors.safetensors")["vectors"]
        texts = read_texts(directory)
        if len(texts) != len(vectors):
            raise DamagedFileError(
                f"{Path(directory) / TEXTS} has {len(texts)} texts, expected {len(vectors)}, one a vector; copy the "
                "directory again"
            )
        return cls(
            vectors,
            texts,
            header["texts_digest"],
            header["encoder_digest"],
            header.get("description", {}),
        )

    def save(self, directory: str | Path) -> None:
        """Write `vectors.safetensors`, `texts.parquet` and `vectors.json`."""
        with atomic_path(Path(directory) / "vectors.safetensors") as temporary:
            save_file({"vectors": self.vectors}, temporary)
        groups = row_groups(len(self.texts))
        write_row_groups(Path(directory) / TEXTS, (_text_table(self.texts[group]) for group in groups))
        header: dict[str, Any] = {
            "texts_digest": self.texts_digest,
            "encoder_digest": self.encoder_digest,
            "shape": list(self.vectors.shape),
        }
        if self.description:
            header["description"] = self.description
        # written last: a directory with vectors.json is complete
        write_json(Path(directory) / "vectors.json", header)


def read_texts(directory: str | Path) -> tuple[str, ...]:
    """Return the texts that `TextVectors.save` wrote, without the vectors.

    Raises:
        OSError: for a file that can't be opened.
        DamagedFileError: for a damaged file.
    """
    path = Path(directory) / TEXTS
    texts: list[str] = []
    with readable_parquet_errors(path), pq.ParquetFile(path) as file:
        if not file.schema_arrow.equals(TEXT_SCHEMA):
            names = ", ".join(f"{field.name} ({field.type})" for field in file.schema_arrow)
            raise DamagedFileError(f"{path} holds the columns {names}, expected text (string); copy it again")
        for batch in file.iter_batches():
            texts += batch.column(0).to_pylist()
    return tuple(texts)


def _text_table(texts: Sequence[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())}, schema=TEXT_SCHEMA)


def encode_items(
    items: pd.DataFrame,
    options: VectorOptions,
    *,
    output_dir: str | Path,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    fit_rows: np.ndarray | None = None,
) -> TextVectors:
    """Encode every item's text and write the vectors `[N, E]` and the encoder to `output_dir`.

    Args:
        items: catalog, N rows.
        options: the vectors section.
        output_dir: gets `vectors.safetensors`, `texts.parquet`, `vectors.json` and `encoder/` (`ItemEncoder`).
        cache_dir: of the chunks of a pretrained encoder; default `$COST_HF_CACHE`, else `~/.cache/cost_hf/vectors`.
        seed: of the lsa fit.
        fit_rows: items whose texts lsa may be fitted on, bool `[N]`; all by default.

    Raises:
        DataError: for a bad template, or an encoder that can't be loaded.
    """
    output_dir = Path(output_dir)
    texts = render_texts(items, options.template)
    if options.model == "lsa":
        known = texts if fit_rows is None else [text for text, fits in zip(texts, fit_rows, strict=True) if fits]
        lsa = LsaEncoder.fit(known, dim=options.dim, seed=seed)
        encoder = ItemEncoder.of(lsa, options)
        vectors = lsa.encode(texts)
    else:
        pretrained = sentence_encoder(options)
        encoder = ItemEncoder.of(pretrained, options)
        vectors = encode_cached(texts, pretrained, cache_dir)
    encoder.save(output_dir / "encoder")
    result = TextVectors(vectors, tuple(texts), content_digest(texts), encoder.digest)
    result.save(output_dir)
    return result


def cached_vectors(
    texts: Sequence[str], encoder: TextEncoder, *, cache_dir: str | Path | None = None
) -> np.ndarray | None:
    """Return the vectors `[N, E]` that earlier runs left in the cache, or None where a chunk is missing or damaged."""
    found = _Gathered(len(texts))
    for _, path in _chunks(texts, encoder, cache_dir):
        vectors = _cached(path)
        if vectors is None:
            return None
        found.add(vectors)
    return found.vectors


def encode_cached(texts: Sequence[str], encoder: TextEncoder, cache_dir: str | Path | None = None) -> np.ndarray:
    """Return the vectors `[N, E]` of texts; chunks that are not in the cache are encoded and put there.

    Args:
        texts: N texts.
        encoder: of the texts.
        cache_dir: as for `encode_items`.
    """
    chunks = _chunks(texts, encoder, cache_dir)
    found = _Gathered(len(texts))
    missing = 0
    is_cached = True
    for chunk, path in tqdm(chunks, desc="item texts", unit="chunk", disable=None):
        vectors = _cached(path)
        if vectors is None:
            missing += 1
            vectors = encoder.encode(chunk)
            is_cached = is_cached and _cache(vectors, path)
        found.add(vectors)
    logger.info("encoded %d texts in %d chunks, %d of them not cached", len(texts), len(chunks), missing)
    return found.vectors


class _Gathered:
    """Vectors of N texts, put into one table chunk by chunk: neither the chunks nor a second table stay in memory."""

    def __init__(self, num_texts: int):
        self.num_texts = num_texts
        self.vectors = np.empty((0, 0), dtype=np.float32)
        self._filled = 0

    def add(self, vectors: np.ndarray) -> None:
        """Take the vectors of the next texts, `[n, E]`."""
        if not self._filled:
            self.vectors = np.empty((self.num_texts, vectors.shape[1]), dtype=vectors.dtype)
        self.vectors[self._filled : self._filled + len(vectors)] = vectors
        self._filled += len(vectors)


def _chunks(texts: Sequence[str], encoder: TextEncoder, cache_dir: str | Path | None) -> list[tuple[list[str], Path]]:
    """Return the texts in chunks, each with the cache file of its vectors."""
    folder = Path(cache_dir or os.environ.get("COST_HF_CACHE") or Path.home() / ".cache" / "cost_hf" / "vectors")
    chunks = [list(texts[start : start + CHUNK_SIZE]) for start in range(0, len(texts), CHUNK_SIZE)]
    return [(chunk, folder / f"{content_digest(encoder.digest, chunk)}.safetensors") for chunk in chunks]


def _cache(vectors: np.ndarray, path: Path) -> bool:
    """Put the vectors of a chunk into the cache; return False, with a warning, where that can't be written to."""
    try:
        with atomic_path(path) as temporary:
            save_file({"vectors": vectors}, temporary, metadata={"digest": content_digest(vectors)})
    except OSError as error:
        logger.warning("vectors are not kept for other runs ($COST_HF_CACHE names another place): %s", error)
        return False
    return True


def _cached(path: Path) -> np.ndarray | None:
    """Return the vectors of a chunk; None if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        vectors = read_tensors(path).get("vectors")
        if vectors is not None and read_tensor_metadata(path).get("digest") == content_digest(vectors):
            return vectors
        logger.warning("%s is damaged: its digest does not match its vectors; its texts are encoded again", path)
    except DamagedFileError as error:
        logger.warning("%s; its texts are encoded again", error)
    return None
