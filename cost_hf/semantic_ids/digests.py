"""The three digests that identify parts which belong together (sha256, hex).

A generator depends on the *vocabulary* and the *assignment* only: it loads with any catalog that has the same two, so a
catalog can change daily while the weights do not. The layouts below are a file format: a change makes every published
recommender refuse its parts, so each starts with its own name and version.

| digest | parts, in order |
|---|---|
| vocabulary | `"cost_hf.vocabulary.1"`, namespace, level sizes, token texts |
| assignment | `"cost_hf.assignment.1"`, level sizes, then the vectors of every level as float32 `[K, D]` |
| assignment, code vectors not stored | the same, with all weights, sorted by name, in place of the vectors |
| codes without a quantizer | `"cost_hf.lineage.1"`, level sizes, sorted item ids, their codes as int64 `[N, L]` |
| catalog | `"cost_hf.catalog.1"`, sorted item ids, their codes as int64 `[N, L]`, their removed flags as uint8 `[N]` |
| catalog with vectors | the same, then the vectors in that order as float32 `[N, E]` |
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cost_hf.files import content_digest


def vocabulary_digest(namespace: str, level_sizes: Sequence[int], tokens: Sequence[str]) -> str:
    """Return the digest of token texts; token ids, which depend on the tokenizer, are not part of it."""
    return content_digest("cost_hf.vocabulary.1", namespace, [int(size) for size in level_sizes], list(tokens))


def assignment_digest(model: Any) -> str:
    """Return the digest of a quantizer's code vectors, or of all its weights if it stores none.

    Args:
        model: a quantizer with `level_sizes` and `level_vectors(level) -> [K, D]` or None. One that computes its
            vectors from its weights, so that their last bits depend on the machine, has `computes_level_vectors` True.
    """
    sizes = [int(size) for size in model.level_sizes]
    vectors = [model.level_vectors(level) for level in range(len(sizes))]
    if getattr(model, "computes_level_vectors", False) or any(part is None for part in vectors):
        vectors = [tensor for _, tensor in sorted(model.state_dict().items())]
    return content_digest("cost_hf.assignment.1", sizes, *(_as_float32(part) for part in vectors))


def codes_digest(item_ids: Sequence[str], codes: np.ndarray, level_sizes: Sequence[int]) -> str:
    """Return the assignment digest of codes `[N, L]` without a quantizer, independent of the row order."""
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[row] for row in order]
    return content_digest("cost_hf.lineage.1", [int(size) for size in level_sizes], ids, codes[order].astype(np.int64))


def catalog_digest(
    item_ids: Sequence[str], codes: np.ndarray, removed: np.ndarray, vectors: np.ndarray | None = None
) -> str:
    """Return the digest of codes `[N, L]`, removed flags `[N]` and vectors `[N, E]`, independent of the row order."""
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ids = [item_ids[row] for row in order]
    parts = [codes[order].astype(np.int64), removed[order].astype(np.uint8)]
    if vectors is not None:
        parts.append(vectors[order].astype(np.float32))
    return content_digest("cost_hf.catalog.1", ids, *parts)


def _as_float32(part: Any) -> np.ndarray:
    return torch.as_tensor(part).detach().to("cpu", torch.float32).numpy()
