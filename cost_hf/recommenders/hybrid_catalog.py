"""The catalog of a hybrid: the items, and the catalogs of its parts over the same rows.

A part that takes no new items keeps the rows of its training; these are the first rows of the hybrid's catalog.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    check_fields,
    content_digest,
    plain_name,
    read_tensor_metadata,
    read_tensors,
)
from cost_hf.recommenders.base import class_of
from cost_hf.recommenders.repository import MANIFEST, PARTS, read_manifest
from cost_hf.semantic_ids.catalog_files import read_item_columns, removed_flags
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemList

HEADER = "hybrid"  # the one entry of the safetensors metadata: several would be written in any order


@dataclass(frozen=True, eq=False)
class HybridCatalog(ItemList):
    """Items of several recommenders that answer as one; immutable.

    Attributes:
        parts: catalog of every part by its name; titles and columns are kept here alone.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, part in self.parts.items():
            size = len(part)
            if part.item_ids != self.item_ids[:size] or not np.array_equal(part.removed, self.removed[:size]):
                raise ValueError(
                    f"the catalog of part {name!r} holds other items than those of the hybrid; fit all parts on the "
                    "same data"
                )
        if max(map(len, self.parts.values()), default=0) != len(self):
            raise ValueError(
                f"no part holds all {len(self)} items of the hybrid; take its catalog and those of its parts from one "
                "hybrid"
            )

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Any],
        titles: Sequence[str | None] | None = None,
        columns: ItemColumns | None = None,
    ) -> "HybridCatalog":
        """Return the catalog of parts over the same rows, with these titles and columns alone.

        Raises:
            ValueError: where their items differ.
        """
        longest = max(parts.values(), key=len)
        bare = {}
        for name, part in parts.items():
            # a catalog stays as it is where it can, with the digest that it knows
            own = part if part.titles is None and not part.columns.names else part.without_metadata()
            bare[name] = _with_ids(own, longest.item_ids)
        named = None if titles is None else tuple(titles)
        return cls(longest.item_ids, longest.removed, named, columns=columns or ItemColumns(), parts=bare)

    @cached_property
    def items_version(self) -> str:
        """Digest of all that this catalog and those of the parts hold but the columns, in row order."""
        titles = None if self.titles is None else list(self.titles)
        parts = [[name, part.items_version] for name, part in self.parts.items()]
        return content_digest("cost_hf.hybrid.1", list(self.item_ids), self.removed.astype(np.uint8), titles, parts)

    def restored(self, item_ids: Sequence[str]) -> "HybridCatalog":
        """Return the catalog in which these items, all of which it holds, may be recommended again."""
        return self._changed(item_ids, lambda part, own: part.restored(own))

    def without_items(self, item_ids: Sequence[str]) -> "HybridCatalog":
        """Return the catalog in which these items may not be recommended; they keep their rows."""
        return self._changed(item_ids, lambda part, own: part.without_items(own))

    def _changed(self, item_ids: Sequence[str], change: Callable[[Any, list[str]], Any]) -> "HybridCatalog":
        """Return the catalog with a change of every part, given those of the items that the part holds."""
        parts = {}
        for name, part in self.parts.items():
            own = [item for item in item_ids if item in part]
            parts[name] = change(part, own) if own else part
        return self.of(parts, self.titles, self.columns)

    def save_items(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, and what the parts' catalogs hold).

        The tensors of a part have its name and a slash before theirs. Equal ones, such as text vectors that several
        parts read, are written once.
        """
        ItemList(self.item_ids, self.removed, self.titles).save_items(directory, stem)
        tensors = {"removed": self.removed.astype(np.uint8)}
        headers = {}
        first: dict[str, str] = {}  # name of the first tensor with a digest
        equal = {}
        with TemporaryDirectory() as scratch:
            for name, part in self.parts.items():
                part.save_items(scratch, stem)
                path = Path(scratch) / f"{stem}.safetensors"
                for key, table in read_tensors(path).items():
                    own = f"{name}/{key}"
                    kept = first.setdefault(content_digest(table), own)
                    if kept == own:
                        tensors[own] = table
                    else:
                        equal[own] = kept
                headers[name] = read_tensor_metadata(path)
        metadata = {HEADER: json.dumps({"parts": headers, "equal": equal}, sort_keys=True)}
        with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
            save_file(tensors, path, metadata=metadata)

    @classmethod
    def load_items(cls, directory: str | Path, stem: str) -> "HybridCatalog":
        """Read what `save_items` wrote into the directory of a hybrid.

        Its manifest names the parts, which know their kinds.

        Raises:
            OSError: where a file is missing.
            ValueError: where a file is damaged, or of other parts.
        """
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        headers = _header(source, "parts", dict)
        for key, kept in _header(source, "equal", str).items():
            if kept not in tensors:
                raise DamagedFileError(f"{source} has no tensor {kept!r:.80}, which its header names; copy it again")
            tensors[key] = tensors[kept]
        found = {key.partition("/")[0] for key in tensors if "/" in key}
        kinds = _catalog_classes(Path(directory))
        needed = {"removed", *(f"{name}/removed" for name in kinds)}
        if not needed <= set(tensors) or found != set(kinds) or set(headers) != set(kinds):
            raise DamagedFileError(
                f"{source} holds the catalogs of {sorted(found)}, expected {sorted(kinds)}; copy the directory again"
            )
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet", rows=tensors["removed"].size)
        parts = {}
        with TemporaryDirectory() as scratch:
            for name, kind in kinds.items():
                own = {key.partition("/")[2]: table for key, table in tensors.items() if key.startswith(f"{name}/")}
                rows = pa.array(ids[: own["removed"].size], pa.string())
                pq.write_table(pa.table({"item_id": rows}), Path(scratch) / f"{stem}.parquet")
                save_file(own, Path(scratch) / f"{stem}.safetensors", metadata=headers[name] or None)
                parts[name] = _with_ids(kind.load_items(scratch, stem), ids)
        removed = removed_flags(tensors["removed"], rows=len(ids), source=source)
        try:
            return cls(ids, removed, titles, parts=parts)
        except ValueError as error:
            raise DamagedFileError(f"{source}: {error}") from error


def _catalog_classes(directory: Path) -> dict[str, Any]:
    """Return the class of every part's catalog, in the order of the parts."""
    manifest = read_manifest(directory)
    path = directory / MANIFEST
    check_fields(manifest, {"parts": list[str]}, source=path)
    names = [plain_name(name, source=path) for name in manifest["parts"]]
    return {name: class_of(directory / PARTS / name).catalog_class for name in names}


def _with_ids(part: Any, item_ids: tuple[str, ...]) -> Any:
    """Return the catalog of a part with this very tuple where its ids are equal: masks compare ids by identity."""
    is_copy = part.item_ids is not item_ids and part.item_ids == item_ids
    return replace(part, item_ids=item_ids) if is_copy else part


def _header(source: Path, name: str, kind: type[Any]) -> dict[str, Any]:
    """Return an entry of the header, which maps names to values of a kind."""
    try:
        header = json.loads(read_tensor_metadata(source).get(HEADER, "{}"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{source}: its header is no JSON ({error}); copy it again") from error
    entry = header.get(name, {}) if isinstance(header, dict) else None
    if not isinstance(entry, dict) or not all(isinstance(value, kind) for value in entry.values()):
        raise DamagedFileError(f"{source}: entry {name} of its header must map names to {kind.__name__}; copy it again")
    return entry
