"""Several recommenders as one: their lists are fused by reciprocal ranks.

Members keep their weights and answer from the catalog of the fusion; titles and the text encoder belong to the fusion
alone. A change of the catalog reaches all members or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from cost_hf.data.encoders import ItemEncoder
from cost_hf.evaluation.rank_fusion import DEPTH, OFFSET, check_weights, fuse_with_scores
from cost_hf.files import DamagedFileError, check_fields, content_digest, plain_name
from cost_hf.methods.fusion.catalog import FusionCatalog
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.rankers import Ranker, Ranking, takes_user_ids
from cost_hf.recommenders.repository import MANIFEST, MEMBERS, check_parts, read_catalog_parts
from cost_hf.semantic_ids.catalog_mask import CatalogMask


class FusionRanker:
    """Ranks by the weighted reciprocal ranks of its members; a `Ranker`.

    Args:
        rankers: of the members; user ids go to those that take them. One of weight 0 is never called.
        weights: one a member, as `choose_weights` finds them.
        depth: items taken from every member; more where a longer list is requested.
        offset: as in `fuse_lists`.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        weights: Sequence[float] | np.ndarray,
        *,
        depth: int = DEPTH,
        offset: int = OFFSET,
    ):
        check_weights(weights, len(rankers))
        pairs = [(ranker, float(weight)) for ranker, weight in zip(rankers, weights, strict=True) if weight > 0]
        self.rankers = [ranker for ranker, _ in pairs]
        self.weights = [weight for _, weight in pairs]
        self.depth = depth
        self.offset = offset

    def rank(
        self,
        histories: Tensor,
        *,
        top_k: int,
        mask: Tensor | CatalogMask | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Ranking:
        """Return the best `top_k` items of every history `[B, T]`, -1 where the members list fewer."""
        lists = []
        for ranker in self.rankers:
            extra = {"user_ids": user_ids} if user_ids is not None and takes_user_ids(ranker) else {}
            ranking = ranker.rank(histories, top_k=max(top_k, self.depth), mask=mask, **extra)
            lists.append(ranking.items.cpu().numpy())
        items, scores = fuse_with_scores(lists, self.weights, top_k=top_k, offset=self.offset)
        return Ranking(torch.from_numpy(items), torch.from_numpy(scores))


class FusionSnapshot(CatalogSnapshot):
    """A catalog with the snapshots that the members answer from."""

    def __init__(self, catalog: FusionCatalog, clicks: np.ndarray, members: Mapping[str, CatalogSnapshot]):
        super().__init__(catalog, clicks)
        self.members = dict(members)


class FusionRecommender(Recommender):
    """Recommends by the fused lists of several recommenders.

    Args:
        members: recommenders over the same items by name, as `combine` prepares them.
        weights: one a member, above 0.
        catalog: the items, with the catalogs of the members.
        popularity: training clicks of every row, `[N]`.
        encoder: gives new texts their vectors, for all members.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for weights or a catalog of other members.
    """

    kind = "fusion"
    source = "fusion"
    catalog_class = FusionCatalog
    published_files: ClassVar[str] = r"members/[\w.-]+/[\w./-]+\.(safetensors|json|parquet|jinja|model|py)"
    snapshot: FusionSnapshot

    def __init__(
        self,
        members: Mapping[str, Recommender],
        weights: Sequence[float] | np.ndarray,
        catalog: FusionCatalog,
        *,
        popularity: np.ndarray,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        check_weights(weights, len(members))
        if list(members) != list(catalog.members) or len(popularity) != len(catalog):
            raise ValueError(
                f"catalog and popularity must be those of {list(members)} and {len(catalog)} items, got "
                f"{list(catalog.members)} and {len(popularity)}; take all of them from one fusion"
            )
        self.members = dict(members)
        self.weights = tuple(float(weight) for weight in weights)
        self.needs_user_ids = any(member.needs_user_ids for member in members.values())
        self.base = next((member.base for member in members.values() if member.base is not None), None)
        for member in members.values():
            member.encoder = encoder
        super().__init__(catalog, popularity=popularity, encoder=encoder, journal=journal, versions=versions)

    @classmethod
    def combine(cls, members: Mapping[str, Recommender], weights: Sequence[float] | np.ndarray) -> "FusionRecommender":
        """Return the fusion of recommenders that were fitted on the same data; they stay as they are.

        Args:
            members: recommenders by name.
            weights: one a member; members of weight 0 are left out.

        Raises:
            ValueError: for members of other items or with another text encoder, or weights that do not fit them.
        """
        check_weights(weights, len(members))
        chosen = {name: float(weight) for name, weight in zip(members, weights, strict=True) if weight > 0}
        used = {name: members[name] for name in chosen}
        encoders = [member.encoder for member in used.values() if member.encoder is not None]
        if len({encoder.digest for encoder in encoders}) > 1:
            raise ValueError(f"the members {', '.join(used)} have different text encoders; fit all of them in one run")
        titles = [member.catalog.titles for member in used.values() if member.catalog.titles is not None]
        catalog = FusionCatalog.of(
            {name: member.catalog for name, member in used.items()}, titles[0] if titles else None
        )
        bare = {name: member.with_catalog(catalog.members[name]) for name, member in used.items()}
        first = next(iter(used.values()))
        return cls(
            bare,
            list(chosen.values()),
            catalog,
            popularity=first.popularity,
            encoder=encoders[0] if encoders else None,
        )

    def merge(self) -> Self:
        """Add the adapters of all members to the weights of their bases, in place."""
        for member in self.members.values():
            member.merge()
        self.base = None
        return self

    def to(self, device: torch.device | str) -> Self:
        """Move all members to a device, in place; answers are the same but for rounding."""
        with self._writing:
            for member in self.members.values():
                member.to(device)
            self.snapshot = self._snapshot_of(self.catalog)
        return self

    @property
    def network(self) -> None:
        """None: the members have networks of their own."""
        return None

    @property
    def num_parameters(self) -> int:
        """Number of trained weights of all members."""
        return sum(member.num_parameters for member in self.members.values())

    @property
    def needs_vectors(self) -> bool:
        """Whether a member needs the vector of a new item."""
        return any(member.needs_vectors for member in self.members.values())

    @property
    def identity(self) -> dict[str, str]:
        """The digest of members and weights."""
        parts = [
            [name, weight, member.kind, member.identity]
            for (name, member), weight in zip(self.members.items(), self.weights, strict=True)
        ]
        return {"members_digest": content_digest("cost_hf.fusion_members.1", parts)}

    def fitted_catalog(self, titles: Sequence[str | None] | None = None) -> FusionCatalog:
        """Return the catalog that the members were fitted on, with these titles."""
        return FusionCatalog.of({name: member.catalog for name, member in self.members.items()}, titles)

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> FusionRanker:
        """Return the fusion of the members' rankers of the present (or the given) snapshot."""
        at = snapshot if isinstance(snapshot, FusionSnapshot) else self.snapshot
        depth = max(top_k, DEPTH)
        rankers = [member.ranker_for(depth, at.members[name]) for name, member in self.members.items()]
        return FusionRanker(rankers, self.weights)

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        for name, member in self.members.items():
            bare = member.with_catalog(member.catalog)
            bare.encoder = None  # the fusion has it
            bare.save_pretrained(folder / MEMBERS / plain_name(name, source=folder))
        return {"members": list(self.members), "weights": list(self.weights)}

    @classmethod
    def _read_parts(cls, source: Path, manifest: dict[str, Any]) -> Self:
        path = source / MANIFEST
        check_fields(manifest, {"members": list[str], "weights": list[float | int], "members_digest": str}, source=path)
        names = [plain_name(name, source=path) for name in manifest["members"]]
        members = {name: Recommender.from_pretrained(source / MEMBERS / name) for name in names}
        kinds = {name: type(member.catalog) for name, member in members.items()}
        parts = read_catalog_parts(source, manifest, partial(FusionCatalog.read, kinds=kinds))
        try:
            recommender = cls(members, manifest["weights"], **parts)
        except ValueError as error:
            raise DamagedFileError(f"{path} does not fit its members: {error}; copy the directory again") from error
        found = recommender.identity["members_digest"]
        check_parts(source, [("the list of members", found, manifest["members_digest"])])
        return recommender

    def _snapshot_of(self, catalog: Any) -> FusionSnapshot:
        snapshots = {name: member._snapshot_of(catalog.members[name]) for name, member in self.members.items()}
        return FusionSnapshot(catalog, self._clicks, snapshots)

    def _require_encoder(self, *, by_codes: bool) -> None:
        for name, member in self.members.items():
            with _naming(name):
                member._require_encoder(by_codes=by_codes)

    def _with_appended_items(
        self,
        catalog: FusionCatalog,
        item_ids: list[str],
        *,
        vectors: np.ndarray | None,
        codes: np.ndarray | None,
        titles: Sequence[str | None] | None,
    ) -> FusionCatalog:
        members = {}
        for name, member in self.members.items():
            with _naming(name):
                members[name] = member._with_appended_items(
                    catalog.members[name], item_ids, vectors=vectors, codes=codes, titles=None
                )
        if catalog.titles is None:
            return FusionCatalog.of(members)
        named = {} if titles is None else dict(zip(item_ids, titles, strict=True))
        appended = next(iter(members.values())).item_ids[len(catalog) :]
        return FusionCatalog.of(members, [*catalog.titles, *map(named.get, appended)])

    def _with_updated_texts(
        self, catalog: FusionCatalog, item_ids: list[str], texts: Sequence[str]
    ) -> tuple[FusionCatalog, int]:
        members = {}
        counts = []
        for name, member in self.members.items():
            with _naming(name):
                members[name], would_differ = member._with_updated_texts(catalog.members[name], item_ids, texts)
            counts.append(would_differ)
        return FusionCatalog.of(members, catalog.titles), max(counts)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the member whose catalog can't take a change; none has changed then."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"member {name!r} of the fusion refuses the change: {error}") from error
