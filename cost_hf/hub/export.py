"""Exports for other programs: the catalog as a plain table or as the file of a server of semantic IDs; merged weights.

Catalogs are exported without removed items and without the model, which the servers load themselves; one without
semantic IDs is a plain table. `merged` is the whole recommender with LoRA added to the weights of its base, which any
server of transformers models loads.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cost_hf.files import LOCK, atomic_path, readable_os_errors
from cost_hf.hub import FORMATS, MERGED
from cost_hf.recommenders.base import Recommender, class_of
from cost_hf.recommenders.repository import locate, read_catalog, read_manifest
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_files import write_items_table
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.semantic_ids.vocabulary import FILE_NAME as VOCABULARY
from cost_hf.semantic_ids.vocabulary import SidVocabulary


def export_run(source: str | Path, *, to: str, output: str | Path) -> list[Path]:
    """Write the catalog of a run, a recommender directory or a Hub id for another program; return the files.

    Args:
        to: one of `FORMATS`.
        output: folder that receives the files.

    Raises:
        ValueError: for an unknown format, a recommender that generates no semantic IDs where the format is that of a
            server of them, or items that share one where the format needs one item per SID.
    """
    if to not in FORMATS:
        raise ValueError(f"--to takes one of {', '.join(FORMATS)}, got {to!r}; choose one of them")
    directory = locate(source)
    if to == MERGED:
        return _merged(directory, Path(output))
    kind = class_of(directory)
    has_sids = kind.has_semantic_ids()
    has_tokens = VOCABULARY in read_manifest(directory)["files"]  # a kind may score codes without generating them
    if not has_tokens and to != "parquet":
        reason = "generates no semantic IDs" if has_sids else "has no semantic IDs"
        raise ValueError(
            f"{source} holds a recommender of kind {kind.kind!r}, which {reason}, so {to} can't hold its catalog; take "
            "--to parquet"
        )
    catalog = read_catalog(directory, kind.catalog_class, besides=[VOCABULARY] if has_tokens else [])
    folder = Path(output)
    with readable_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not has_sids:
        return _table(catalog, folder)
    vocabulary = SidVocabulary.load(directory) if has_tokens else SidVocabulary.for_catalog(catalog)
    return WRITERS[to](catalog, vocabulary, folder)


def _merged(directory: Path, folder: Path) -> list[Path]:
    """Write the recommender with whole weights."""
    with readable_os_errors(folder):
        is_free = not folder.exists() or all(path.name == LOCK for path in folder.iterdir())
    if not is_free:
        raise ValueError(f"{folder} holds files already; give a new or empty folder")
    recommender = Recommender.from_pretrained(directory)
    if recommender.base is None:
        raise ValueError(f"{directory} holds whole weights and no adapter; there is nothing to merge")
    recommender.merge().save_pretrained(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)


def _table(catalog: ItemRows, folder: Path) -> list[Path]:
    """One table of items without semantic IDs: item_id, title, columns."""
    path = folder / "catalog.parquet"
    write_items_table(path, catalog, has_codes=False)
    return [path]


def _parquet(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """One table: item_id, title, sid, code_1 …, columns."""
    path = folder / "catalog.parquet"
    catalog.to_parquet(path)
    return [path]


def _flashrec(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """FlashRec's `--sid-vocab-file`: an object from `"a,b,c"` (codes) to items; it takes the layout from the tokens."""
    path = folder / "sid_vocab.json"
    items = {",".join(map(str, codes)): [{"pid": item}] for item, codes in _unique(catalog, "flashrec")}
    _write_json(path, items)
    return [path]


def _nvidia_jsonl(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """The item catalog of NVIDIA's sid-gr-inference: one object a line with `item_id`, `token_ids` and `metadata`."""
    path = folder / "catalog.jsonl"
    offsets = vocabulary.level_offsets.tolist()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item, codes in _unique(catalog, "nvidia-jsonl"):
            title = None if catalog.titles is None else catalog.titles[catalog.row_of(item)]
            line: dict[str, Any] = {
                "item_id": item,
                "token_ids": [offset + code for offset, code in zip(offsets, codes, strict=True)],
                "metadata": {} if title is None else {"title": title},
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return [path]


def _static(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """The arrays of STATIC (`static_index`), the sorted SIDs that they index, and the item of each."""
    pairs = list(_unique(catalog, "static"))
    sids = np.array([codes for _, codes in pairs])
    order = np.lexsort(sids.T[::-1])
    size = max(vocabulary.level_sizes)
    arrays = static_index(sids, vocab_size=size, dense_levels=min(2, sids.shape[1] - 1))
    tensors = {name: array.view(np.uint8) if array.dtype == bool else array for name, array in arrays.items()}
    paths = [folder / "static.safetensors", folder / "static.json"]
    items = [pairs[row][0] for row in order]
    # both are complete before either is replaced: arrays of one catalog with items of another would name wrong items
    with atomic_path(paths[1]) as listed, atomic_path(paths[0]) as temporary:
        save_file({**tensors, "sids": sids[order]}, temporary)
        _write_json(listed, {"vocab_size": size, "level_sizes": list(vocabulary.level_sizes), "item_ids": items})
    return paths


def _write_json(path: Path, value: Any) -> None:
    """Write JSON piece by piece, of any size: `files.write_json` is for what this package reads back at once."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")


def _unique(catalog: Catalog, name: str) -> list[tuple[str, list[int]]]:
    """Return item ids and codes of all items that are not removed; raise ValueError where two share a SID."""
    rows = np.flatnonzero(~catalog.removed)
    codes = catalog.codes[rows]
    shared = len(codes) - len(np.unique(codes, axis=0))
    if shared or not len(codes):
        raise ValueError(
            f"{name} needs one item per semantic ID, got {len(codes)} items of which {shared} share one with another; "
            "train with --catalog.collisions append"
        )
    return list(zip([catalog.item_ids[row] for row in rows], codes.tolist(), strict=True))


def static_index(sids: np.ndarray, *, vocab_size: int, dense_levels: int = 2) -> dict[str, np.ndarray]:
    """Return the index of STATIC (arXiv 2602.22647): dense tables for the first levels, one sparse matrix below.

    States number the prefixes: 0 is a complete SID, `t + 1` the prefix of the one code t, and longer prefixes follow in
    lexicographic order, level by level. Codes of all levels share one range of numbers, as that engine expects.

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
    begins = np.ones(table.shape, dtype=bool)  # a new prefix of length l + 1 begins here
    begins[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
    if not begins[:, -1].all():
        raise ValueError("SIDs must be distinct, got items that share one; build the catalog with collisions='append'")
    states = np.zeros_like(table)
    count = vocab_size + 1
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
    dense_mask[dense] = True
    dense_states[dense] = states[:, dense_levels - 1]
    return {
        "packed_csr": np.concatenate([np.stack([codes, children], axis=1), padding]).astype(np.int32),
        "indptr": np.concatenate([[0], np.cumsum(fan_out), [len(codes) + vocab_size]]).astype(np.int32),
        "layer_max_branches": np.array([int(begins[:, 0].sum()), *by_level], dtype=np.int32),
        "start_mask": np.isin(np.arange(vocab_size), table[:, 0]),
        "dense_mask": dense_mask,
        "dense_states": dense_states,
    }


WRITERS: dict[str, Callable[[Catalog, SidVocabulary, Path], list[Path]]] = {
    "parquet": _parquet,
    "flashrec": _flashrec,
    "nvidia-jsonl": _nvidia_jsonl,
    "static": _static,
}
