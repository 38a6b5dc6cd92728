"""The catalog of a fusion: the items, and the catalogs of its members over the same rows."""

import json
from collections.abc import Mapping, Sequence
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

HEADER = "members"  # entry of the safetensors metadata


@dataclass(frozen=True, eq=False)
class FusionCatalog(ItemList):
    """Items of several recommenders whose lists are fused; immutable.

    Attributes:
        members: catalog of every member by its name; titles are kept here alone.
        vectors: item vectors that the members read, `[N, E]`; None where none does.
    """

    members: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = [getattr(part, "vectors", None) for part in self.members.values()]
        object.__setattr__(self, "vectors", next((table for table in tables if table is not None), None))
        super().__post_init__()
        for name, part in self.members.items():
            if part.item_ids != self.item_ids or not np.array_equal(part.removed, self.removed):
                raise ValueError(
                    f"the catalog of member {name!r} holds other items than those of the fusion; fit all members on "
                    "the same data"
                )

    @classmethod
    def of(cls, members: Mapping[str, Any], titles: Sequence[str | None] | None = None) -> "FusionCatalog":
        """Return the catalog of members over the same rows, with these titles alone.

        Raises:
            ValueError: where their items differ.
        """
        first = next(iter(members.values()))
        # a catalog that has none stays as it is, with the digest that it knows
        parts = {name: part if part.titles is None else part.without_titles() for name, part in members.items()}
        return cls(first.item_ids, first.removed, None if titles is None else tuple(titles), members=parts)

    @cached_property
    def version(self) -> str:
        """Digest of all that this catalog and those of the members hold, in row order."""
        titles = None if self.titles is None else list(self.titles)
        parts = [[name, part.version] for name, part in self.members.items()]
        return content_digest("cost_hf.fusion.1", list(self.item_ids), self.removed.astype(np.uint8), titles, parts)

    def restored(self, item_ids: Sequence[str]) -> "FusionCatalog":
        """Return the catalog in which these items, all of which it holds, may be recommended again."""
        return self.of({name: part.restored(item_ids) for name, part in self.members.items()}, self.titles)

    def without_items(self, item_ids: Sequence[str]) -> "FusionCatalog":
        """Return the catalog in which these items may not be recommended; they keep their rows."""
        return self.of({name: part.without_items(item_ids) for name, part in self.members.items()}, self.titles)

    def save(self, directory: str | Path, stem: str) -> None:
        """Write `<stem>.parquet` (ids, titles), then `<stem>.safetensors` (flags, and what the members' catalogs hold).

        The tensors of a member have its name and a slash before theirs.
        """
        ItemList(self.item_ids, self.removed, self.titles).save(directory, stem)
        tensors = {"removed": self.removed.astype(np.uint8)}
        headers = {}
        with TemporaryDirectory() as scratch:
            for name, part in self.members.items():
                part.save(scratch, stem)
                path = Path(scratch) / f"{stem}.safetensors"
                tensors |= {f"{name}/{key}": table for key, table in read_tensors(path).items()}
                headers[name] = read_tensor_metadata(path)
        with atomic_path(Path(directory) / f"{stem}.safetensors", durable=True) as path:
            save_file(tensors, path, metadata={HEADER: json.dumps(headers, sort_keys=True)})

    @classmethod
    def read(cls, directory: str | Path, stem: str, *, kinds: Mapping[str, Any]) -> "FusionCatalog":
        """Read what `save` wrote.

        Args:
            kinds: class of every member's catalog.

        Raises:
            OSError: where a file is missing.
            ValueError: where a file is damaged, or of other members.
        """
        ids, titles = read_item_columns(Path(directory) / f"{stem}.parquet")
        source = Path(directory) / f"{stem}.safetensors"
        tensors = read_tensors(source)
        headers = _headers(source)
        found = {key.partition("/")[0] for key in tensors} - {"removed"}
        if "removed" not in tensors or found != set(kinds) or set(headers) != set(kinds):
            raise DamagedFileError(
                f"{source} holds the catalogs of {sorted(found)}, expected {sorted(kinds)}; copy the directory again"
            )
        members = {}
        with TemporaryDirectory() as scratch:
            pq.write_table(pa.table({"item_id": pa.array(ids, pa.string())}), Path(scratch) / f"{stem}.parquet")
            for name, kind in kinds.items():
                own = {key.partition("/")[2]: table for key, table in tensors.items() if key.startswith(f"{name}/")}
                save_file(own, Path(scratch) / f"{stem}.safetensors", metadata=headers[name] or None)
                members[name] = kind.load(scratch, stem)
        removed = removed_flags(tensors["removed"], rows=len(ids), source=source)
        try:
            return cls(ids, removed, titles, members=members)
        except ValueError as error:
            raise DamagedFileError(f"{source}: {error}") from error


def _headers(source: Path) -> dict[str, dict[str, str]]:
    try:
        headers = json.loads(read_tensor_metadata(source).get(HEADER, "{}"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{source}: its header is no JSON ({error}); copy it again") from error
    if not isinstance(headers, dict) or not all(isinstance(header, dict) for header in headers.values()):
        raise DamagedFileError(f"{source}: expected a header for every member; copy it again")
    return headers
