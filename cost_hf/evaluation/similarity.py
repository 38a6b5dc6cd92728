"""Cosine similarities that do not depend on threads, batch size or machine.

Unit vectors are rounded to multiples of 2**-22. Products of two such numbers, and sums of them up to 2**9 in size, are
then exact in float64: the order of summation in a matrix product does not change the result, and items with equal texts
tie exactly.
"""

import numpy as np

STEP = 2.0**-22
CHUNK_ENTRIES = 2**22  # numbers computed at once: 32 MiB


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors `[N, E]` at length 1, rounded to multiples of `STEP`, float64; zero vectors stay zero.

    Raises:
        ValueError: for another shape, or numbers that are not finite.

    Examples:
        >>> unit_vectors(np.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a table [items, width], got shape {vectors.shape!r}; stack one row per item")
    units = np.empty(vectors.shape)
    step = max(1, CHUNK_ENTRIES // max(vectors.shape[1], 1))
    for start in range(0, len(vectors), step):
        part = np.asarray(vectors[start : start + step], dtype=np.float64)
        if not np.isfinite(part).all():
            row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            raise ValueError(f"vectors must be finite numbers, got nan or inf in row {row!r}; encode that item again")
        lengths = np.sqrt((part * part).sum(axis=1, keepdims=True))
        units[start : start + step] = np.round(part / np.where(lengths > 0, lengths, 1.0) / STEP) * STEP
    return units
