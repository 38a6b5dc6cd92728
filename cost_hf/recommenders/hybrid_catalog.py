"""The catalog of a hybrid: the items, and the catalogs of its parts over the same rows.

A part that takes no new items keeps the rows of its training; these are the first rows of the hybrid's catalog.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from cost_hf.files import DamagedFileError, atomic_path, content_digest, read_tensor_metadata, read_tensors
from cost_hf.semantic_ids.catalog_files import read_item_columns, removed_flags
from cost_hf.semantic_ids.item_list import ItemList

HEADER = "parts"  # entry of the safetensors metadata


@dataclass(frozen=True, eq=False)
class HybridCatalog(ItemList):
    """Items of several recommenders that answer as one; immutable.

    Attributes:
        parts: catalog of every part by its name; titles are kept here alone.
        vectors: item vectors that the parts read, `[N, E]`; None where none does.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = [getattr(part, "vectors", None) for part in self.parts.values() if len(part) == len(self)]
        object.__setattr__(self, "vectors", next((table for table in tables if table is not None), None))
        super().__post_init__()
        for name, part in self.parts.items():
            size = len(part)
            if part.item_ids != self.item_ids[:size] or not np.array_equal(part.removed, self.removed[:size]):
                raise ValueError(
                    f"the catalog of part {name!r} holds other items than those of the hybrid; fit all parts on the "
                    "same data"
                )

    @classmethod
    def of(cls, parts: Mapping[str, Any], titles: Sequence[str | None] | None = None) -> "HybridCatalog":
        """Return the catalog of parts over the same rows, with these titles alone.

        Raises:
            ValueError: where their items differ.
        """
        longest = max(parts.values(), key=len)
        # a catalog that has none stays as it is, with the digest that it knows
        bare = {name: part if part.titles is None else part.without_titles() for name, part in parts.items()}
        return cls(longest.item_ids, longest.removed, None if titles is None else tuple(titles), parts=bare)

    @cached_property
    def version(self) -> str:
        """Digest of all that this catalog and those of the parts hold, in row order."""
        titles = None if self.titles is None else list(self.titles)
        parts = [[name, part.version] for name, part in self.parts.items()]
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
        return self.of(parts, self.titles)

    def save(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, and what the parts' catalogs hold).

        The tensors of a part have its name and a slash before theirs.
        """
        ItemList(self.item_ids, self.removed, self.titles).save(directory, stem)
        tensors = {"removed": self.removed.astype(np.uint8)}
        headers = {}
        with TemporaryDirectory() as scratch:
            for name, part in self.parts.items():
                part.save(scratch, stem)
                path = Path(scratch) / f"{stem}.safetensors"
                tensors |= {f"{name}/{key}": table for key, table in read_tensors(path).items()}
                headers[name] = read_tensor_metadata(path)
        with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
            save_file(tensors, path, metadata={HEADER: json.dumps(headers, sort_keys=True)})

    @classmethod
    def read(cls, directory: str | Path, stem: str, *, kinds: Mapping[str, Any]) -> "HybridCatalog":
        """Read what `save` wrote.

        Args:
            kinds: class of every part's catalog.

        Raises:
            OSError: where a file is missing.
            ValueError: where a file is damaged, or of other parts.
        """
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet")
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        headers = _headers(source)
        found = {key.partition("/")[0] for key in tensors} - {"removed"}
        needed = {"removed", *(f"{name}/removed" for name in kinds)}
        if not needed <= set(tensors) or found != set(kinds) or set(headers) != set(kinds):
            raise DamagedFileError(
                f"{source} holds the catalogs of {sorted(found)}, expected {sorted(kinds)}; copy the directory again"
            )
        parts = {}
        with TemporaryDirectory() as scratch:
            for name, kind in kinds.items():
                own = {key.partition("/")[2]: table for key, table in tensors.items() if key.startswith(f"{name}/")}
                rows = pa.array(ids[: own["removed"].size], pa.string())
                pq.write_table(pa.table({"item_id": rows}), Path(scratch) / f"{stem}.parquet")
                save_file(own, Path(scratch) / f"{stem}.safetensors", metadata=headers[name] or None)
                parts[name] = kind.load(scratch, stem)
        removed = removed_flags(tensors["removed"], rows=len(ids), source=source)
        try:
            return cls(ids, removed, titles, parts=parts)
        except ValueError as error:
            raise DamagedFileError(f"{source}: {error}") from error


def _headers(source: Path) -> dict[str, dict[str, str]]:
    try:
        headers = json.loads(read_tensor_metadata(source).get(HEADER, "{}"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{source}: its header is no JSON ({error}); copy it again") from error
    if not isinstance(headers, dict) or not all(isinstance(header, dict) for header in headers.values()):
        raise DamagedFileError(f"{source}: expected a header for every part; copy it again")
    return headers
