"""Catalogs for other programs: a plain table, and the files of three servers of semantic IDs; and merged weights.

Catalogs hold the items that are not removed and leave the model where it is: the servers load it themselves. `merged`
is the whole recommender with LoRA added to the weights of its base, which any server of transformers models loads.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cost_hf.files import LOCK, atomic_path, readable_os_errors, write_json
from cost_hf.hub.parts import FORMATS, MERGED
from cost_hf.hub.static_index import static_index
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import locate, read_catalog, read_manifest
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import FILE_NAME as VOCABULARY
from cost_hf.semantic_ids.vocabulary import SidVocabulary


def export_run(source: str | Path, *, to: str, output: str | Path) -> list[Path]:
    """Write the catalog of a run, a recommender directory or a Hub id for another program; return the files.

    Args:
        to: one of `FORMATS`.
        output: folder that receives the files.

    Raises:
        ValueError: for a format that does not exist, a recommender without semantic IDs, or items that share one where
            the format wants one item per SID.
    """
    if to not in FORMATS:
        raise ValueError(f"--to takes one of {', '.join(FORMATS)}, got {to!r}; choose one of them")
    directory = locate(source)
    manifest = read_manifest(directory)
    if manifest["kind"] != "generator":
        raise ValueError(
            f"{source} holds a recommender of kind {manifest['kind']!r}, which has no semantic IDs to export"
        )
    if to == MERGED:
        return _merged(directory, Path(output))
    catalog = read_catalog(directory, Catalog.load, besides=[VOCABULARY])
    vocabulary = SidVocabulary.load(directory)
    folder = Path(output)
    with readable_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return WRITERS[to](catalog, vocabulary, folder)


def _merged(directory: Path, folder: Path) -> list[Path]:
    """The recommender with whole weights."""
    with readable_os_errors(folder):
        is_free = not folder.exists() or all(path.name == LOCK for path in folder.iterdir())
    if not is_free:
        raise ValueError(f"{folder} holds files already; give a folder that is not there, or empty")
    recommender = GenerativeRecommender.read(directory)
    if recommender.base is None:
        raise ValueError(f"{directory} holds whole weights and no adapter; there is nothing to merge")
    recommender.merge().save_pretrained(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)


def _parquet(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """One table: item_id, title, sid, code_1 …"""
    path = folder / "catalog.parquet"
    catalog.to_parquet(path)
    return [path]


def _flashrec(catalog: Catalog, vocabulary: SidVocabulary, folder: Path) -> list[Path]:
    """FlashRec's `--sid-vocab-file`: an object from `"a,b,c"` (codes) to items; the layout it reads off the tokens."""
    path = folder / "sid_vocab.json"
    items = {",".join(map(str, codes)): [{"pid": item}] for item, codes in _unique(catalog, "flashrec")}
    write_json(path, items)
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
    """The arrays of STATIC (`static_index`), the sorted SIDs behind them, and the item of each."""
    pairs = list(_unique(catalog, "static"))
    sids = np.array([codes for _, codes in pairs])
    order = np.lexsort(sids.T[::-1])
    size = max(vocabulary.level_sizes)
    arrays = static_index(sids, vocab_size=size, dense_levels=min(2, sids.shape[1] - 1))
    tensors = {name: array.view(np.uint8) if array.dtype == bool else array for name, array in arrays.items()}
    paths = [folder / "static.safetensors", folder / "static.json"]
    items = [pairs[row][0] for row in order]
    # both are whole before either takes its place: arrays of one catalog and items of another would name wrong items
    with atomic_path(paths[1]) as listed, atomic_path(paths[0]) as temporary:
        save_file({**tensors, "sids": sids[order]}, temporary)
        write_json(listed, {"vocab_size": size, "level_sizes": list(vocabulary.level_sizes), "item_ids": items})
    return paths


def _unique(catalog: Catalog, name: str) -> list[tuple[str, list[int]]]:
    """Return item ids and codes of all items that are not removed; raise ValueError where two share a SID."""
    rows = np.flatnonzero(~catalog.removed)
    codes = catalog.codes[rows]
    shared = len(codes) - len(np.unique(codes, axis=0))
    if shared or not len(codes):
        raise ValueError(
            f"{name} wants one item per semantic ID, got {len(codes)} items of which {shared} share one with another; "
            "train with --catalog.collisions append"
        )
    return list(zip([catalog.item_ids[row] for row in rows], codes.tolist(), strict=True))


WRITERS: dict[str, Callable[[Catalog, SidVocabulary, Path], list[Path]]] = {
    "parquet": _parquet,
    "flashrec": _flashrec,
    "nvidia-jsonl": _nvidia_jsonl,
    "static": _static,
}
