"""Item vectors for a check: the encoder's where they are cached already, latent semantic analysis otherwise.

A check must not spend the minutes that encoding takes. LSA vectors stand in: they show which texts are alike, though an
encoder usually tells a few more of them apart.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import try_to_load_from_cache
from safetensors.numpy import load_file

from cost_hf.data.encoders import LsaEncoder, SentenceEncoder
from cost_hf.data.text_vectors import CHUNK_SIZE, VectorOptions, sentence_encoder
from cost_hf.files import content_digest

FIT_TEXTS = 50_000  # lsa is fitted to a sample of larger catalogs
TIMED_TEXTS = 32
STAND_IN_DIM = 384  # width of an encoder that is not at hand
ASSUMED_TEXTS_PER_SECOND = 150.0  # MiniLM, texts of about 60 words, two CPU cores


@dataclass(frozen=True, eq=False)
class CheckVectors:
    """Vectors and what making the real ones will cost.

    Attributes:
        vectors: `[N, E]` float32.
        origin: `lsa`, `encoder` (its cached vectors) or `lsa in place of the encoder`.
        width: of the vectors of a real run.
        encode_seconds: expected for the whole catalog.
        basis: how the seconds were found: `measured`, `cached` or `assumed`.
    """

    vectors: np.ndarray
    origin: str
    width: int
    encode_seconds: float
    basis: str


def check_vectors(texts: Sequence[str], options: VectorOptions, *, seed: int = 0) -> CheckVectors:
    """Return vectors of N item texts at little cost, and the cost of the real ones."""
    start = time.perf_counter()
    if options.model == "lsa":
        vectors = _lsa(texts, options.dim, seed=seed)
        return CheckVectors(vectors, "lsa", vectors.shape[1], time.perf_counter() - start, "measured")
    encoder = sentence_encoder(options) if is_at_hand(options.model) else None
    cached = None if encoder is None else cached_vectors(texts, encoder)
    if cached is not None:
        return CheckVectors(cached, "encoder", cached.shape[1], 0.0, "cached")
    vectors = _lsa(texts, options.dim, seed=seed)
    origin = "lsa in place of the encoder"
    if encoder is None:
        return CheckVectors(vectors, origin, STAND_IN_DIM, len(texts) / ASSUMED_TEXTS_PER_SECOND, "assumed")
    width, seconds = _time_encoder(encoder, texts, seed=seed)
    return CheckVectors(vectors, origin, width, seconds, "measured")


def is_at_hand(model: str) -> bool:
    """Say whether a text encoder is a directory or lies in the Hub cache, so that loading it needs no network."""
    if Path(model).is_dir():
        return True
    repository = model if "/" in model else f"sentence-transformers/{model}"
    return isinstance(try_to_load_from_cache(repository, "config.json"), str)


def cached_vectors(texts: Sequence[str], encoder: SentenceEncoder) -> np.ndarray | None:
    """Return the vectors `[N, E]` that a run has left in the cache, or None where a chunk is missing."""
    folder = Path(os.environ.get("COST_HF_CACHE") or Path.home() / ".cache" / "cost_hf" / "vectors")
    chunks = [list(texts[start : start + CHUNK_SIZE]) for start in range(0, len(texts), CHUNK_SIZE)]
    paths = [folder / f"{content_digest(encoder.digest, chunk)}.safetensors" for chunk in chunks]
    if not all(path.is_file() for path in paths):
        return None
    return np.concatenate([load_file(path)["vectors"] for path in paths])


def _lsa(texts: Sequence[str], dim: int, *, seed: int) -> np.ndarray:
    sample = np.sort(np.random.default_rng(seed).permutation(len(texts))[:FIT_TEXTS])
    return LsaEncoder.fit([texts[row] for row in sample], dim=dim, seed=seed).encode(texts)


def _time_encoder(encoder: SentenceEncoder, texts: Sequence[str], *, seed: int) -> tuple[int, float]:
    """Return the width of the vectors and the seconds that all texts will take, from a few of them."""
    rows = np.random.default_rng(seed).permutation(len(texts))[:TIMED_TEXTS]
    sample = sorted((texts[row] for row in rows), key=len)  # as the encoder itself sorts them: little padding
    encoder.encode(sample[:2])
    start = time.perf_counter()
    width = encoder.encode(sample).shape[1]
    return width, (time.perf_counter() - start) / len(sample) * len(texts)
