"""The index of STATIC (arXiv 2602.22647): a trie as dense tables for its first levels and one sparse matrix below.

States number the prefixes: 0 is a complete SID, `t + 1` the prefix of the one code t, and longer prefixes follow in
lexicographic order, level by level. Codes of all levels share one range of numbers, as that engine wants it.
"""

import numpy as np


def static_index(sids: np.ndarray, *, vocab_size: int, dense_levels: int = 2) -> dict[str, np.ndarray]:
    """Return the arrays of the index.

    Args:
        sids: distinct SIDs `[N, L]`, codes below `vocab_size`.
        vocab_size: V, codes of the largest level.
        dense_levels: d, leading levels with a dense table; below L.

    Returns:
        `packed_csr` `[E + V, 2]` (code, next state) with V rows of padding, `indptr` `[S + 2]` (first edge of every
        state), `layer_max_branches` `[L]`, `start_mask` `[V]`, and `dense_mask`, `dense_states` `[V] * d`.

    Raises:
        ValueError: where SIDs repeat, or there are no more levels than dense ones.
    """
    levels = sids.shape[1]
    if dense_levels >= levels:
        raise ValueError(f"the index needs more levels than the {dense_levels} dense ones, got {levels}; lower them")
    order = np.lexsort(sids.T[::-1])
    table = sids[order].astype(np.int64)
    begins = np.ones(table.shape, dtype=bool)  # where a new prefix of length l + 1 begins
    begins[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
    if not begins[:, -1].all():
        raise ValueError("SIDs must be distinct, got items that share one; build the catalog with collisions='append'")
    states, count = np.zeros_like(table), vocab_size + 1
    states[:, 0] = table[:, 0] + 1
    for level in range(1, levels - 1):
        states[:, level] = count + np.cumsum(begins[:, level]) - 1
        count += int(begins[:, level].sum())
    edges = [
        np.stack([states[new, level - 1], table[new, level], states[new, level]], axis=1)
        for level, new in ((level, begins[:, level]) for level in range(1, levels))
    ]
    parents, codes, children = np.concatenate(edges).T
    fan_out = np.bincount(parents, minlength=count)
    padding = np.stack([np.full(vocab_size, vocab_size), np.zeros(vocab_size, dtype=np.int64)], axis=1)
    by_level = [np.bincount(edge[:, 0]).max() for edge in edges]
    dense = tuple(table[:, level] for level in range(dense_levels))
    dense_mask = np.zeros([vocab_size] * dense_levels, dtype=bool)
    dense_states = np.zeros([vocab_size] * dense_levels, dtype=np.int32)
    dense_mask[dense], dense_states[dense] = True, states[:, dense_levels - 1]
    return {
        "packed_csr": np.concatenate([np.stack([codes, children], axis=1), padding]).astype(np.int32),
        "indptr": np.concatenate([[0], np.cumsum(fan_out), [len(codes) + vocab_size]]).astype(np.int32),
        "layer_max_branches": np.array([int(begins[:, 0].sum()), *by_level], dtype=np.int32),
        "start_mask": np.isin(np.arange(vocab_size), table[:, 0]),
        "dense_mask": dense_mask,
        "dense_states": dense_states,
    }
