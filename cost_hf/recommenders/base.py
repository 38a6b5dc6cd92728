"""The user's door: item ids in, recommended items out, whatever ranks behind it."""

import copy
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.files import DamagedFileError
from cost_hf.generators.collation import pad_rows
from cost_hf.plugins import declare_recommender, declared_recommenders, import_recommender, load_plugins
from cost_hf.recommenders.answers import Recommendation, answer_of, popular
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.catalog_updates import CatalogUpdates
from cost_hf.recommenders.cold_item_quota import num_cold_items, with_cold_item_quota
from cost_hf.recommenders.rankers import Ranker
from cost_hf.recommenders.repository import locate, read_manifest, save_versions
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.item_ids import item_id_list, item_id_text, ordered_list
from cost_hf.semantic_ids.item_rows import describe_digest, describe_items
from cost_hf.semantic_ids.sizes import whole_number
from cost_hf.semantic_ids.trie_mask import check_batch

BATCH = 64
METHODS = "cost_hf.methods"  # package and group of plugins that bring kinds of recommenders
declare_recommender("generator", "cost_hf.recommenders.generative")


class Recommender(CatalogUpdates):
    """Histories of item ids to lists of item ids; subclasses rank. Arguments are those of `CatalogUpdates`."""

    kind: ClassVar[str]
    source = "model"
    needs_user_ids = False
    kinds: ClassVar[dict[str, type["Recommender"]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a kind known to `from_pretrained`."""
        super().__init_subclass__(**options)
        cls.kinds[cls.kind] = cls

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        device: torch.device | str | None = None,
    ) -> "Recommender":
        """Load a recommender of any kind from a run directory, a recommender directory or a Hub id.

        Args:
            revision: branch, tag or commit of a Hub repository.
            token: for a private repository; by default the one that `hf auth login` stored.
            device: where the model computes, as for `to`; the CPU by default.

        Raises:
            ValueError: where a part does not belong to the others, both digests are named; or for a device that is not
                there.
            OSError: where nothing is found.
        """
        place = None if device is None else checked_device(device)
        # absolute: text encoder and older versions load when they are needed, wherever the process works by then
        directory = locate(name_or_path, revision=revision, token=token).absolute()
        kind = read_manifest(directory)["kind"]
        if kind not in cls.kinds and not import_recommender(kind):
            load_plugins(METHODS)  # kinds of a method's own are declared by the method
            import_recommender(kind)
        if kind not in cls.kinds:
            known = sorted({*cls.kinds, *declared_recommenders()})
            raise ValueError(
                f"{directory} holds a recommender of kind {kind!r}, this version knows {', '.join(known)}; install the "
                "package of its method, or use the cost_hf release that wrote it"
            )
        try:
            recommender = cls.kinds[kind].read(directory)
        except StrictDataclassError as error:  # a configuration whose sizes no model can have
            raise DamagedFileError(f"{directory} holds a config.json that defines no model: {error}") from error
        return recommender if place is None else recommender.to(place)

    @classmethod
    def read(cls, directory: str | Path) -> Self:
        """Load a recommender of this kind from its own directory."""
        raise NotImplementedError

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same but for rounding."""
        raise NotImplementedError

    def with_catalog(self, catalog: Any) -> Self:
        """Return a recommender of the same weights over another state of the catalog.

        The model is shared; journal and older catalogs stay with the present recommender.
        """
        twin = copy.copy(self)
        twin.journal = ()
        twin.versions = ()
        twin.snapshot = twin._snapshot_of(catalog)
        return twin

    def __repr__(self) -> str:
        """Return in one line what recommends what."""
        levels = getattr(self.catalog, "level_sizes", None)
        sids = "" if levels is None else f", levels {'x'.join(map(str, levels))}"
        place = "" if self.network is None else f" on {self.network.device}"
        return (
            f"{type(self).__name__}({self.kind}, {describe_items(self.catalog)}{sids}, {self.num_parameters:,} weights"
            f"{place}, catalog {describe_digest(self.catalog)})"
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the whole recommender into `directory`, in place of one that is there; other files stay.

        Where anything fails, a full disk or a killed process, what was there is there as it was.

        Raises:
            OSError: where the directory can't be written to, or another process writes to it for long.
        """
        raise NotImplementedError

    def save_catalog(self, directory: str | Path) -> None:
        """Write what `add_items` and its like have changed into the directory that this recommender came from.

        Catalog and journal are written first; the rename of the manifest is the one step at which they take effect. Of
        several processes one writes at a time.

        Raises:
            ValueError: where the directory holds the weights of another recommender, or another process has changed its
                catalog since this one was loaded: load it again and repeat the change.
            OSError: where the directory can't be written to, or another process writes to it for long.
        """
        with self._writing:  # a change of another thread comes before the save or after it
            save_versions(directory, self)

    @property
    def identity(self) -> dict[str, str]:
        """Digests of what a catalog must have in common with the weights; entries of the manifest."""
        raise NotImplementedError

    @property
    def sid_keys(self) -> np.ndarray | None:
        """Number of each row's group of equal model-level codes, `[N]`; None without semantic IDs."""
        return None

    @property
    def network(self) -> PreTrainedModel | None:
        """The trained model; None where nothing, or more than one model, was trained."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Number of trained weights."""
        return 0 if self.network is None else self.network.num_parameters()

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> Ranker:
        """Return a ranker of the present (or the given) snapshot whose lists can be `top_k` long."""
        raise NotImplementedError

    def recommend(
        self,
        histories: Sequence[str] | Sequence[Sequence[str]],
        top_k: int = 10,
        exclude_seen: bool = True,
        *,
        allowed: Sequence[str] | CatalogMask | Tensor | None = None,
        denied: Sequence[str] | None = None,
        on_unknown: str = "error",
        on_empty: str = "error",
        user_ids: Sequence[str] | str | None = None,
        cold_share: float = 0.0,
    ) -> list[Any]:
        """Return the best items for a history, or a list of such lists for a batch of histories.

        Args:
            histories: item ids, oldest first; or a list of such lists. Lists may be tuples, arrays, columns of tables
                or generators; whole numbers stand for their digits.
            top_k: items wanted, a whole number; fewer come back only where fewer are legal.
            exclude_seen: leave out the items of the history.
            allowed: only these items may be recommended; item ids, or a mask that serves many calls, as `mask` makes
                it, or a bool `[N]` or `[B, N]` over the rows of the present catalog (lines are taken in the order of
                the histories).
            denied: these items may not be recommended.
            on_unknown: `error`, or `drop` history items that the catalog does not hold.
            on_empty: `error`, or `popularity` to answer an empty history with the most clicked items.
            user_ids: one per history (or the one user's id), needed by generators trained with user tokens.
            cold_share: keep at least this share of the first places, at any length, for items without a click in
                training, such as added ones, where there are any (after the epsilon of TIGER, arXiv 2305.05065).

        Returns:
            `Recommendation(item_id, score, fields)` best first; the score is that of the model (`fields["source"]`: a
            generator gives sums of natural-log probabilities), for answers by popularity the log of the smoothed share
            of training clicks (`fields["source"] == "popularity"`).

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for an empty history, what is no list of ids (None, a set, a float among them), a mask of
                another catalog or number of requests, or an option that does not exist.
        """
        _check_choice("on_unknown", on_unknown, ("error", "drop"))
        _check_choice("on_empty", on_empty, ("error", "popularity"))
        if not isinstance(exclude_seen, bool | np.bool_):
            raise ValueError(f"exclude_seen must be True or False, got {exclude_seen!r:.80}")
        if not _is_share(cold_share):
            raise ValueError(f"cold_share is a share in [0, 1], got {cold_share!r:.80}")
        snapshot = self.snapshot  # the whole request is answered by one
        # a longer list than the catalog would hold padding alone
        top_k = min(whole_number(top_k, "top_k"), len(snapshot.catalog))
        batch, is_single = _as_batch(histories)
        users = self._users(user_ids, len(batch))
        rows = [_rows(snapshot, history, on_unknown) for history in batch]
        base = snapshot.base_mask(allowed, denied)
        if base is not None and base.batch is not None:
            check_batch(len(rows), base.batch)
        answers: list[list[Recommendation]] = [[] for _ in rows]
        filled = [number for number, history in enumerate(rows) if len(history)]
        empty = [number for number, history in enumerate(rows) if not len(history)]
        if empty and on_empty == "error":
            raise ValueError(
                f"history {empty[0]} is empty; give at least one item the catalog holds, or pass on_empty='popularity'"
            )
        for number in empty:
            answers[number] = popular(snapshot, top_k, None if base is None else base.take([number]))
        for start in range(0, len(filled), BATCH):
            part = filled[start : start + BATCH]
            own = None if users is None else [users[number] for number in part]
            mask = None if base is None else base.take(part)
            if exclude_seen:
                seen = pad_rows([rows[number] for number in part])
                mask = CatalogMask(len(snapshot.catalog), denied=seen) if mask is None else mask.without(seen)
            ranked = self._rank(snapshot, [rows[number] for number in part], top_k, mask, own, cold_share)
            for number, answer in zip(part, ranked, strict=True):
                answers[number] = answer
        return answers[0] if is_single else answers

    def mask(self, *, allowed: Sequence[str] | None = None, denied: Sequence[str] | None = None) -> CatalogMask:
        """Return the mask of items that may be recommended (the stock of a shop, a category, fresh items).

        Build it once and hand it to any number of `recommend(..., allowed=mask)`: ids are looked up and the mask is
        compiled for the model only once. Arguments and errors are those of `CatalogMask.from_item_ids`.

        It stays right while the catalog changes: items added later are allowed where it only names `denied` ones, and
        not where it names `allowed` ones; removed items are never recommended, whatever a mask says. After a rollback
        and other additions its rows are other items: `recommend` then raises ValueError, and it must be built again.
        """
        return self.snapshot.mask(allowed=allowed, denied=denied)

    def _rank(
        self,
        snapshot: CatalogSnapshot,
        histories: list[np.ndarray],
        top_k: int,
        mask: CatalogMask | None,
        user_ids: list[str] | None,
        cold_share: float,
    ) -> list[list[Recommendation]]:
        rows = pad_rows(histories)
        extra = {} if user_ids is None else {"user_ids": user_ids}
        ranking = self.ranker_for(top_k, snapshot).rank(rows, top_k=top_k, mask=mask, **extra)
        if (places := num_cold_items(cold_share, top_k)) and snapshot.has_cold_items:
            ranker = self.ranker_for(places, snapshot)
            cold = ranker.rank(rows, top_k=places, mask=snapshot.cold_mask(mask), **extra)
            ranking = with_cold_item_quota(ranking, cold, cold_share)
        return [
            [answer_of(snapshot, row, score, self.source) for row, score in zip(items, scores, strict=True) if row >= 0]
            for items, scores in zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
        ]

    def _users(self, user_ids: Sequence[str] | str | None, histories: int) -> list[str] | None:
        if not self.needs_user_ids:
            return None
        is_one = item_id_text(user_ids) is not None
        given = [] if user_ids is None else [user_ids] if is_one else user_ids
        users = item_id_list(given, name="user_ids", what="user ids")
        if len(users) != histories:
            raise ValueError(
                f"this generator was trained with user tokens and needs one user id per history, got {len(users)} for "
                f"{histories}; pass user_ids="
            )
        return users


def _rows(snapshot: CatalogSnapshot, history: Sequence[str], on_unknown: str) -> np.ndarray:
    if on_unknown == "drop":
        history = [item for item in history if item in snapshot.catalog]
    return np.asarray(snapshot.catalog.rows_of(history), dtype=np.int64)


def _as_batch(histories: Any) -> tuple[list[list[str]], bool]:
    """Return the histories as a list of lists, and whether a single one was given."""
    if isinstance(histories, np.ndarray) and histories.ndim == 2:
        histories = list(histories)
    entries = ordered_list(histories, name="histories", what="item ids or a list of such lists")
    is_list = [_is_list(entry) for entry in entries]
    if not any(is_list):
        return [item_id_list(entries, name="the history")], True
    if not all(is_list):
        wrong = entries[is_list.index(False)]
        raise ValueError(
            f"expected item ids (strings) only or lists of them only, got {wrong!r:.80} in a list of {len(entries)}; "
            "convert ids by str, and make every history of a batch a list"
        )
    return [item_id_list(entry, name=f"history {number}") for number, entry in enumerate(entries)], False


def _is_list(entry: Any) -> bool:
    """Tell whether an entry is a history, or meant as one, and no id."""
    return isinstance(entry, Iterable) and not isinstance(entry, str | bytes)


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r:.80}")


def checked_device(device: torch.device | str) -> torch.device:
    """Return a device that is there; raise ValueError for another."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
        if place.type == "meta":
            raise RuntimeError("a model there has no weights")
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device must be one that torch has here, such as 'cpu' or 'cuda', got {device!r:.80} ({error})"
        ) from error
    return place
