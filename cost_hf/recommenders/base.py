"""The base class of all recommenders: item ids in, ranked items out."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedModel

from cost_hf.files import DamagedFileError, content_digest
from cost_hf.garbage import collection_paused
from cost_hf.generators.collation import pad_rows
from cost_hf.generators.pretrained import BaseModel
from cost_hf.plugins import declare_recommender, declared_recommenders, import_recommender, load_plugins
from cost_hf.quantizers.base import Quantizer
from cost_hf.recommenders.catalog_changes import Journal
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.catalog_updates import CatalogUpdates
from cost_hf.recommenders.item_evidence import ItemEvidence
from cost_hf.recommenders.list_constraints import ConstrainedList, ValueLimits, constrained_lists, num_cold_items
from cost_hf.recommenders.new_clicks import NewClicks
from cost_hf.recommenders.rankers import Ranker, Ranking, exact_ranker, training_clicks
from cost_hf.recommenders.repository import (
    MANIFEST,
    check_kind,
    check_no_results,
    hub_commit,
    locate,
    read_manifest,
    read_saved_catalog,
    read_whole,
    save_versions,
    save_whole,
)
from cost_hf.run_updates import NUMBER
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask, check_batch
from cost_hf.semantic_ids.item_ids import item_id_list, item_id_text, ordered_list
from cost_hf.semantic_ids.item_list import ItemList, ItemRows, describe_digest, describe_items
from cost_hf.semantic_ids.options import whole_number
from cost_hf.semantic_ids.where import Where

# histories that are ranked at once; on CPUs more of them gain nothing, and share fewer lengths
BATCH = 64
CPU_BATCH = 32
DEEPER = 50  # items that a search lists where some of them may be left out, at least; most rankers know them anyway
METHODS = "cost_hf.methods"  # package and entry point group of the plugins that define kinds of recommenders
declare_recommender("generator", "cost_hf.recommenders.generative")


class Recommendation(NamedTuple):
    """One recommended item: its id, its score and what is known about it (`title`, `source`)."""

    item_id: str
    score: float
    fields: dict[str, Any]


class Recommender(CatalogUpdates):
    """Recommends items for histories of item ids. Arguments are those of `CatalogUpdates`; subclasses rank.

    A kind of recommender is a subclass with a name of its own, `kind`, which its saved directory carries; it defines
    `ranker_for`, `identity`, `_write_own_parts`, `_read_parts` and how new items enter its catalog (`CatalogUpdates`).

    Attributes:
        kind: name of the class in saved directories.
        source: value of `fields["source"]` in its recommendations.
        catalog_class: class of its catalogs, `Catalog` where items have semantic IDs.
        needs_user_ids: whether `recommend` needs the ids of the users.
        takes_clicks: whether `update_from` learns from clicks that came after training.
        num_new_clicks: how many it has learned from so since it was loaded or trained.
        published_files: regular expression of the files that this kind saves besides those that every kind has
            (catalog, popularity, journal, text encoder); no other file is published.
        has_own_code: whether the class of `network` is defined in the folder of its method, so that its sources are
            published with its weights (`AutoModel.from_pretrained(..., trust_remote_code=True)`).
        packages: distributions that this kind needs besides those that cost_hf requires, as in requirements.txt.
        parts: recommenders that this one is made of, by name.
        fixed_parts: names of the parts that take no new items.
        quantizer: model that gives item vectors their codes; None for kinds and copies without one.
        base: pretrained model that an adapter belongs to; None for whole weights.
        directory: where it was loaded from; None for one that was made in memory.
        hub_commits: last commit that it knows of each (Hub id, revision): that it was loaded from or pushed.
        update: number of the update of its run that trained it last; 0 for the training itself.
    """

    kind: ClassVar[str]
    source: ClassVar[str] = "model"
    catalog_class: ClassVar[type[ItemRows]] = ItemList
    published_files: ClassVar[str] = ""
    has_own_code: ClassVar[bool] = False
    kinds: ClassVar[dict[str, type["Recommender"]]] = {}
    needs_user_ids: bool = False
    takes_clicks: bool = False
    num_new_clicks: int = 0
    packages: ClassVar[tuple[str, ...]] = ()
    parts: Mapping[str, "Recommender"] = {}
    fixed_parts: Sequence[str] = ()
    quantizer: Quantizer | None = None
    base: BaseModel | None = None
    directory: Path | None = None
    hub_commits: Mapping[tuple[str, str], str] = {}
    update: int = 0

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the kind for `from_pretrained`."""
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
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
            name_or_path: of the run, directory or Hub repository.
            revision: branch, tag or commit of a Hub repository.
            token: for a private repository; by default the one that `hf auth login` stored.
            device: where the model computes, as for `to`; the CPU by default.

        Raises:
            ValueError: where the parts do not belong together (both digests are named), or for a device that this
                machine does not have.
            OSError: where nothing is found.

        Examples:
            >>> import tempfile
            >>> from cost_hf import Recommender
            >>> from cost_hf.recommenders.example import example_recommender
            >>> with tempfile.TemporaryDirectory() as directory:
            ...     example_recommender().save_pretrained(directory)
            ...     recommender = Recommender.from_pretrained(directory)
            >>> recommender.kind, len(recommender.catalog)
            ('generator', 6)
        """
        chosen = None if device is None else checked_device(device)
        # absolute: text encoder and older catalogs load on first use, whatever the working directory is by then
        directory = locate(name_or_path, revision=revision, token=token).absolute()
        try:
            with collection_paused():
                recommender = class_of(directory).read(directory)
        except StrictDataclassError as error:  # a configuration whose sizes no model can have
            raise DamagedFileError(f"{directory} holds a config.json that defines no model: {error}") from error
        commit = hub_commit(name_or_path, directory)
        if commit is not None:
            recommender.hub_commits = {(str(name_or_path), revision or "main"): commit}
        return recommender if chosen is None else recommender.to(chosen)

    @classmethod
    def read(cls, directory: str | Path, *, revision: str | None = None, **options: Any) -> Self:
        """Load a recommender of this kind; `from_pretrained` loads any kind.

        Args:
            directory: as for `from_pretrained`.
            revision: of a Hub id.
            options: of a kind's own, such as `generator`: its model, where that is loaded already.

        Raises:
            OSError: where the directory holds no recommender, or a file can't be read.
            ValueError: for a recommender of another kind, a damaged file, or parts that do not belong together.
        """
        source = locate(directory, revision=revision).absolute()

        def read_parts(manifest: dict[str, Any]) -> Any:
            check_kind(source, manifest, cls.kind)
            found = cls._read_parts(source, manifest, **options)
            found.update = manifest.get(NUMBER, 0)
            return found

        recommender: Self = read_whole(source, read_parts)
        recommender.directory = source
        return recommender

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the whole recommender into `directory`, in place of one that is there; other files stay.

        Where anything fails, a full disk or a killed process, the old files are as they were.

        Raises:
            ValueError: for parts that do not belong together, or, after `update_from`, for the directory of a run or
                of a published recommender, whose results describe the counts before.
            OSError: where the directory can't be written to, or another process keeps it locked.
        """
        with self._writing:
            self._check_parts()
            if self.num_new_clicks:
                check_no_results(directory)
            save_whole(directory, self, self._write_own_parts)
            self._note_stored()

    def save_catalog(self, directory: str | Path) -> None:
        """Write the changes of `add_items` and its like into the directory that this recommender was loaded from.

        Catalog and journal are written first; all changes take effect by the rename of the manifest. Of several
        processes one writes at a time.

        Raises:
            ValueError: where the directory holds the weights of another recommender, or another process has changed its
                catalog since this one was loaded: load it again and repeat the change.
            OSError: where the directory can't be written to, or another process keeps it locked.
        """
        with self._writing:  # a change of another thread comes before the save or after it
            save_versions(directory, self)
            self._note_stored()

    def update_from(self, clicks: Any, *, counted: Sequence[int] | None = None) -> int:
        """Count clicks that came after training; requests read them from the next one on, and nothing is trained.

        Counts add up: the result is that of counting all clicks at once. The clicks of one call are counted once; the
        same call again counts them again. Popularity follows (answers to empty histories, ties, `cold_share`).

        Where users continue sequences of which a part was counted before, pass the whole sequences and mark that part:
        what follows what, and which items a user has, goes across the boundary. New users need no mark.

        Args:
            clicks: a DataFrame, `datasets.Dataset` or path of a parquet, csv, tsv or jsonl file, with `user_id`,
                `item_id` and `timestamp` or `position`; an optional column `counted` is true in the rows of clicks that
                were counted before, the first of their user, and an optional column `event_weight` has what each click
                counts, as `cost_hf.data.tables.read_interactions(clicks, options=recipe.data)` makes it. Or a list of
                sequences of item ids, oldest first.
            counted: of sequences: how many first clicks of each were counted before; none by default.

        Returns:
            How many clicks were counted.

        Raises:
            KeyError: for an item that the catalog does not hold; add it first (`add_items`).
            ValueError: for clicks that can't be read, a part that was counted before according to `counted` and is not
                in the counts, or a kind of recommender that learns by training alone. Nothing has changed then.
        """
        if not self.takes_clicks:
            raise ValueError(
                f"a recommender of kind {self.kind!r} learns from clicks by training alone; train its run on with them "
                "by `cost-hf update`, or use a counting method"
            )
        with self._writing:
            new = NewClicks.read(clicks, self.catalog, counted=counted)
            self._add_clicks(new)
            self.num_new_clicks += len(new)
        return len(new)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        licence: str | None = None,
    ) -> str | None:
        """Publish this recommender, as it is in memory, by one commit to a model repository on the Hub.

        Titles, texts and what is made of their words are published only where the licence of the data is known: that
        of the run or repository that the recommender was loaded from, or `licence`. The card shows the evaluation
        results found there, unless the weights have changed since; a recommender without results gets a card without
        figures. Files in the repository that belong to no recommender stay.

        Args:
            repo_id: `org/name`; made where it does not exist.
            private: make a new repository private; True refuses an existing public one.
            revision: branch that receives the commit, made where it does not exist; `main` by default.
            token: with write access; by default the one that `hf auth login` stored.
            commit_message: first line of the commit.
            create_pr: open a pull request in place of a commit.
            licence: of the data, for a recommender that comes from no run.

        Returns:
            Address of the commit or pull request; None where the repository holds all of it already.

        Raises:
            PublishError: where the Hub refuses or can't be reached, or where somebody else has committed to `repo_id`
                since this recommender was loaded from it: nothing has changed there, load it again and repeat.
            ValueError: for what may not be published (text vectors without a licence, an adapter of a model in a local
                directory), a file that this kind does not have, or a public repository with `private`.
        """
        # the only upward import: publishing needs cards and reports, which are above; .importlinter allows it
        from cost_hf.hub.upload import push_recommender

        return push_recommender(
            self,
            repo_id,
            private=private,
            revision=revision,
            token=token,
            commit_message=commit_message,
            create_pr=create_pr,
            licence=licence,
        )

    def with_catalog(self, catalog: ItemRows) -> Self:
        """Return a recommender of the same weights over another catalog, with no journal and no older catalogs.

        Args:
            catalog: begins with the items of training, as the present one does.

        Raises:
            ValueError: for a catalog that these weights were not trained for.
        """
        other = copy.copy(self)
        other.journal = Journal()
        other.versions = ()
        other._clicks = self._clicks[: len(catalog)]
        other.snapshot = other._snapshot_of(catalog)
        other._note_stored()
        if other.identity != self.identity:
            raise ValueError(
                f"the catalog does not belong to these weights: they have {self.identity}, with this catalog "
                f"{other.identity}; take a catalog of the same training"
            )
        return other

    def after_training(self, popularity: np.ndarray) -> Self:
        """Return the recommender over the same catalog after its weights were trained on.

        Older catalogs are gone: they are of the clicks before.

        Args:
            popularity: what was clicked in training by now, of every catalog row, `[N]`.
        """
        other = copy.copy(self)
        other.versions = ()
        other._clicks = training_clicks(popularity)
        other.snapshot = other._fresh_snapshot()
        return other

    def with_saved_catalog(self, directory: str | Path, manifest: Mapping[str, Any]) -> Self:
        """Return a recommender of the same weights over the catalog that a directory holds now, with its journal.

        Args:
            directory: that holds these weights: the manifests of then and now `differ_in_catalog_alone`.
            manifest: of the directory now.

        Raises:
            OSError: where a file can't be read.
            ValueError: for a damaged file, or a catalog that does not belong to these weights.
        """
        parts = read_saved_catalog(Path(directory), manifest, self.catalog_class)
        other = copy.copy(self)
        other.journal = parts["journal"].followed_by(())
        other.versions = tuple(parts["versions"])
        other.snapshot = other._next_snapshot(parts["catalog"])
        other._note_stored()
        entries = {name: manifest.get(name) for name in other.identity}
        if other.identity != entries:
            raise ValueError(
                f"the catalog in {directory} has {other.identity}, {MANIFEST} asks for {entries}; copy the whole "
                "directory of one run"
            )
        return other

    def without_users(self) -> Self:
        """Return a copy that holds no ids of users, as it is published; this one where it holds none anyway."""
        return self

    def without_metadata(self) -> Self:
        """Return a copy without titles, columns, journal and older catalogs (which hold them)."""
        return self.with_catalog(self.catalog.without_metadata())

    def merge(self) -> Self:
        """Add an adapter to the weights of its base, in place; kinds without adapters stay as they are."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device, in place; answers are the same up to rounding."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return kind, catalog and size in one line."""
        levels = getattr(self.catalog, "level_sizes", None)
        sids = "" if levels is None else f", levels {'x'.join(map(str, levels))}"
        place = "" if self.network is None else f" on {self.network.device}"
        return (
            f"{type(self).__name__}({self.kind}, {describe_items(self.catalog)}{sids}, {self.num_parameters:,} weights"
            f"{place}, catalog {describe_digest(self.catalog)})"
        )

    @property
    def identity(self) -> dict[str, str]:
        """Digests of what a catalog must have in common with the weights; entries of the manifest."""
        raise NotImplementedError

    @property
    def search_settings(self) -> dict[str, Any]:
        """What lists depend on besides weights and catalog, as JSON; empty for kinds that score the whole catalog."""
        return {}

    @property
    def model_digest(self) -> str:
        """Digest of what lists depend on besides the catalog: weights or counts, and how they are searched.

        It reads all weights, which takes about a second per GB. Changes of the catalog do not change it.
        """
        clicks = np.trim_zeros(self._clicks, "b")
        parts = [[name, part.model_digest] for name, part in self.parts.items()]
        weights = self._weights()
        arrays = [part for name in sorted(weights) for part in (name, *_raw_bytes(weights[name]))]
        return content_digest("cost_hf.model.1", self.kind, self.identity, self.search_settings, parts, clicks, *arrays)

    @property
    def sid_keys(self) -> np.ndarray | None:
        """Number of each row's group of equal model-level codes, `[N]`; None without semantic IDs."""
        return None

    @classmethod
    def has_semantic_ids(cls) -> bool:
        """Tell whether items of this kind have semantic IDs."""
        return issubclass(cls.catalog_class, Catalog)

    @property
    def can_explain(self) -> bool:
        """Whether `recommend(..., explain=True)` has anything to say: semantic IDs, item texts, or parts."""
        return ItemEvidence.of(self, self.catalog).is_known

    @property
    def new_item_inputs(self) -> tuple[str, ...]:
        """What `add_items` takes for a new item: any of `texts`, `vectors`, `codes`; empty where it takes none."""
        inputs = tuple(name for name, by_codes in (("vectors", False), ("codes", True)) if self._takes_new(by_codes))
        has_vectors_of_texts = self.encodes_texts or not self.needs_vectors
        return ("texts", *inputs) if has_vectors_of_texts and "vectors" in inputs else inputs

    def text_vectors(self, catalog: Any) -> np.ndarray | None:
        """Return the item text vectors `[N, E]` that a catalog of this recommender holds; None for none."""
        return getattr(catalog, "vectors", None)

    def learned_item_vectors(self, snapshot: CatalogSnapshot) -> np.ndarray | None:
        """Return item vectors `[N, D]` that the model has learned without texts; None for kinds that learn none."""
        return None

    @property
    def carries_text_vectors(self) -> bool:
        """Whether saved files hold vectors of item texts, which are published only under a licence of the data."""
        return getattr(self.catalog, "vectors", None) is not None

    @property
    def reads_columns(self) -> bool:
        """Whether lists depend on columns of the catalog, which are published only under a licence of the data."""
        return False

    @property
    def auto_class(self) -> str | None:
        """Name of the transformers Auto class that loads the saved weights without this package; None for none."""
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
        where: Where | None = None,
        diversify: Mapping[str, int] | None = None,
        on_unknown: str = "error",
        on_empty: str = "error",
        user_ids: Sequence[str] | str | None = None,
        cold_share: float = 0.0,
        explain: bool = False,
        exact: bool = False,
    ) -> list[Any]:
        """Return the best items for a history, or a list of such lists for a batch of histories.

        Args:
            histories: item ids, oldest first; or a list of such lists. Lists may be tuples, arrays, columns of tables
                or generators; whole numbers stand for their digits.
            top_k: items wanted, a whole number; fewer come back only where fewer are legal.
            exclude_seen: leave out the items of the history.
            allowed: only these items may be recommended: item ids, a mask that serves many calls (see `mask`), or a
                bool `[N]` or `[B, N]` over the rows of the present catalog (one line per history, in their order).
            denied: these items may not be recommended.
            where: only items whose columns fulfil these conditions, inside the search: `{"price": (None, 50),
                "category": ["a", "b"], "in_stock": True}` takes bounds, both included, values to choose from, or one
                value; or a pyarrow expression over `catalog.columns`. Equal filters are compiled once for every state
                of the columns.
            diversify: most items of a list with the same value of a column, as in `{"brand": 2}`; the list is filled
                from deeper ranks, as if the ranking of the whole catalog were filtered. Items without a value are not
                counted. A hybrid ranks candidates of its parts; where these are left out, it ranks further ones.
            on_unknown: `error`, or `drop` history items that the catalog does not hold.
            on_empty: `error`, or `popularity` to answer an empty history with the most clicked items.
            user_ids: one per history (or the one user's id), needed by generators trained with user tokens.
            cold_share: share of the first places, at any length, that is reserved for items without a click in
                training, such as added ones, where there are any (after the epsilon of TIGER, arXiv 2305.05065).
            explain: add `fields["explanation"]`, for recommenders that have any of this: the `semantic_id` of the item
                and history items that share leading codes with it (`shared_prefixes`; where levels are parallel,
                `shared_codes`, any of them); history items with the `nearest_texts`, by cosine; of a hybrid, the ranks
                in the lists of its parts (`parts`) and what the score is the sum of (`base_value` and `effects`).
                `among` is whether the item was searched for among `all items` or, for `cold_share`, among `cold items`.
                `cost_hf.explanation_text` puts it into words. Answers by popularity have none.
            exact: search until the list is proved to hold the best items of the whole catalog by the model's scores,
                or the budget of `beam_search` is spent. `fields["is_exact"]` is whether the position of an answer is
                proved; where it is not, `fields["bound"]` is the highest score that an item which the search did not
                return could have. Recommenders that score the whole catalog are exact anyway.

        Returns:
            `Recommendation(item_id, score, fields)` best first; the score is that of the model (`fields["source"]`: a
            generator gives sums of natural-log probabilities), for answers by popularity the log of the smoothed share
            of training clicks (`fields["source"] == "popularity"`).

        Raises:
            KeyError: for an item that the catalog does not hold.
            ValueError: for an empty history, what is no list of ids (None, a set, a float among them), a mask of
                another catalog or number of requests, a filter by a column that is not there, by values of another type
                or that no item fulfils, an option that does not exist, or `exact` with a recommender
                that scores candidates alone.

        Examples:
            >>> from cost_hf.recommenders.example import example_recommender
            >>> recommender = example_recommender()
            >>> answers = recommender.recommend(["kettle", "teapot"], top_k=3)
            >>> len(answers), {answer.item_id for answer in answers} & {"kettle", "teapot"}
            (3, set())
            >>> [answer.item_id for answer in recommender.recommend(["kettle"], allowed=["teacup"])]
            ['teacup']
            >>> found = recommender.recommend(["kettle"], where={"price": (None, 25), "in_stock": True})
            >>> sorted(answer.item_id for answer in found)
            ['press', 'teacup']
            >>> brands = recommender.catalog.columns
            >>> found = recommender.recommend(["kettle"], diversify={"brand": 1})
            >>> sorted(brands.value("brand", recommender.catalog.row_of(answer.item_id)) for answer in found)
            ['Alba', 'Brisa', 'Corva']
            >>> batch = recommender.recommend([["kettle"], []], top_k=1, on_empty="popularity")
            >>> batch[1][0].fields
            {'title': 'kettle for tea', 'source': 'popularity'}
            >>> [answer.fields["is_exact"] for answer in recommender.recommend(["kettle"], top_k=2, exact=True)]
            [True, True]
        """
        _check_choice("on_unknown", on_unknown, ("error", "drop"))
        _check_choice("on_empty", on_empty, ("error", "popularity"))
        if explain and not self.can_explain:
            raise ValueError(
                f"this recommender of kind {self.kind} can't explain its answers: it has neither semantic IDs nor item "
                "texts nor parts; leave out explain"
            )
        for name, flag in (("exclude_seen", exclude_seen), ("exact", exact)):
            if not isinstance(flag, bool | np.bool_):
                raise ValueError(f"{name} must be True or False, got {flag!r:.80}")
        if not _is_share(cold_share):
            raise ValueError(f"cold_share is a share in [0, 1], got {cold_share!r:.80}")
        snapshot = self.snapshot  # the whole request is answered by one
        # a longer list than the catalog would hold padding alone
        top_k = min(whole_number(top_k, "top_k"), len(snapshot.catalog))
        batch, is_single = _as_batch(histories)
        users = self._users(user_ids, len(batch))
        rows = [_rows(snapshot, history, on_unknown) for history in batch]
        base = snapshot.base_mask(allowed, denied, where)
        limits = ValueLimits.of(diversify, snapshot.catalog.columns)
        if base is not None and base.batch is not None:
            check_batch(len(rows), base.batch)
        answers: list[list[Recommendation]] = [[] for _ in rows]
        filled = [number for number, history in enumerate(rows) if len(history)]
        empty = [number for number, history in enumerate(rows) if not len(history)]
        if empty and on_empty == "error":
            found = "holds no item of the catalog" if len(batch[empty[0]]) else "is empty"
            raise ValueError(
                f"history {empty[0]} {found}; give at least one item the catalog holds, or pass on_empty='popularity'"
            )
        for number in empty:
            answers[number] = _popular(snapshot, top_k, None if base is None else base.take([number]), limits)
            if exact:
                _add_proofs(answers[number], len(answers[number]))
        # histories of a batch are padded to the longest of them
        filled.sort(key=lambda number: len(rows[number]))
        size = self._batch_size
        for start in range(0, len(filled), size):
            part = filled[start : start + size]
            own = None if users is None else [users[number] for number in part]
            mask = None if base is None else base.take(part)
            if exclude_seen:
                seen = pad_rows([rows[number] for number in part])
                mask = CatalogMask(len(snapshot.catalog), denied=seen) if mask is None else mask.without(seen)
            ranked = self._rank(
                snapshot,
                [rows[number] for number in part],
                top_k,
                mask,
                own,
                limits=limits,
                cold_share=cold_share,
                explain=explain,
                exact=exact,
            )
            for number, answer in zip(part, ranked, strict=True):
                answers[number] = answer
        return answers[0] if is_single else answers

    def mask(
        self,
        *,
        allowed: Sequence[str] | None = None,
        denied: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> CatalogMask:
        """Return the mask of items that may be recommended (a selection of a shop, a category, fresh items).

        Build it once and hand it to any number of `recommend(..., allowed=mask)`: ids are looked up and the mask is
        compiled for the model only once. Arguments and errors are those of `CatalogMask.from_item_ids` and
        `CatalogMask.where`.

        It stays valid while the catalog changes: items added later are allowed where it only names `denied` ones, and
        not where it names `allowed` ones or a filter; removed items are never recommended. A filter is of the columns
        as they are now: where they change, pass `where` to `recommend`. After a rollback and other additions its rows
        are other items: `recommend` then raises ValueError, and it must be built again.
        """
        return self.snapshot.mask(allowed=allowed, denied=denied, where=where)

    @property
    def _batch_size(self) -> int:
        """How many histories are ranked at once."""
        networks = [part.network for part in (self, *self.parts.values())]
        is_on_cpu = all(network is None or network.device.type == "cpu" for network in networks)
        return CPU_BATCH if is_on_cpu else BATCH

    def _add_clicks(self, new: NewClicks) -> None:
        """Count clicks in the rows of the present catalog, popularity too, and make the snapshot that has them current.

        Defined by kinds with `takes_clicks`; where it raises, nothing has changed.
        """
        raise NotImplementedError

    def _takes_new(self, by_codes: bool) -> bool:
        try:
            self._require_encoder(by_codes=by_codes)
        except ValueError:
            return False
        return True

    def _fresh_snapshot(self) -> CatalogSnapshot:
        """Return the snapshot of the present catalog, with nothing of an earlier one."""
        return self._snapshot_of(self.catalog)

    def _weights(self) -> dict[str, Tensor]:
        """Return the weights that `model_digest` is of, by name."""
        return {} if self.network is None else self.network.state_dict()

    def _check_parts(self) -> None:
        """Raise ValueError where parts do not belong together, before anything is written."""

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        """Write what not every kind has into an empty folder; return its entries of the manifest."""
        raise NotImplementedError

    @classmethod
    def _read_parts(cls, *arguments: Any, **options: Any) -> Self:
        """Return the recommender of a directory of this kind, given the path, its manifest and the options of `read`.

        The files were compared with their digests in the manifest.
        """
        raise NotImplementedError

    def _rank(
        self,
        snapshot: CatalogSnapshot,
        histories: list[np.ndarray],
        top_k: int,
        mask: CatalogMask | None,
        user_ids: list[str] | None,
        *,
        limits: ValueLimits,
        cold_share: float,
        explain: bool,
        exact: bool,
    ) -> list[list[Recommendation]]:
        rows = pad_rows(histories)
        num_items = len(snapshot.catalog)
        places = num_cold_items(cold_share, top_k)
        searches: list[_Search] = []

        def search(is_cold: bool, requests: list[int], denied: list[np.ndarray] | None) -> Ranking:
            own_mask = mask if mask is None or len(requests) == len(rows) else mask.take(requests)
            if is_cold:
                own_mask = snapshot.cold_mask(own_mask)
            if denied is not None:
                left_out = pad_rows(denied)
                own_mask = CatalogMask(num_items, denied=left_out) if own_mask is None else own_mask.without(left_out)
            length = places if is_cold else top_k
            # the ranker of this length: one with more beams would rank otherwise
            ranker = self.ranker_for(length, snapshot)
            asked = min(max(length, DEEPER), num_items) if limits.groups and not exact else length
            extra = {} if user_ids is None else {"user_ids": [user_ids[request] for request in requests]}
            ranking = (exact_ranker(ranker) if exact else ranker).rank(
                rows[requests], top_k=asked, mask=own_mask, **extra
            )
            searches.append(_Search("cold items" if is_cold else "all items", requests, ranking.items, own_mask, extra))
            return ranking

        share = cold_share if places and snapshot.has_cold_items else 0.0
        lists = constrained_lists(search, len(rows), top_k, share=share, limits=limits)
        answers = [[_answer(snapshot, row, own.scores[row], self.source) for row in own.items] for own in lists]
        if exact:
            for answer, own in zip(answers, lists, strict=True):
                _add_proofs(answer, own.num_exact, own.bound)
        if explain:
            self._add_explanations(snapshot, rows, searches, lists, answers)
        return answers

    def _add_explanations(
        self,
        snapshot: CatalogSnapshot,
        histories: Tensor,
        searches: Sequence["_Search"],
        lists: Sequence[ConstrainedList],
        answers: Sequence[Sequence[Recommendation]],
    ) -> None:
        """Add to every answer its explanation: by its search, and by what items have in common."""
        for number, search in enumerate(searches):
            if not any(number in lists[request].searches.values() for request in search.requests):
                continue
            found = self._explanations(snapshot, histories[search.requests], search.items, search.mask, **search.extra)
            for request, own in zip(search.requests, found, strict=True):
                for row, item in zip(lists[request].items, answers[request], strict=True):
                    if lists[request].searches[row] == number:
                        item.fields["explanation"] = {"among": search.among, **own.get(item.item_id, {})}
        evidence = ItemEvidence.of(self, snapshot.catalog)
        for own_list, history, answer in zip(lists, histories.tolist(), answers, strict=True):
            shared = evidence.explain(own_list.items, [row for row in history if row >= 0])
            for item, entry in zip(answer, shared, strict=True):
                item.fields["explanation"] |= entry

    def _explanations(
        self, snapshot: CatalogSnapshot, histories: Tensor, items: Tensor, mask: CatalogMask | None, **extra: Any
    ) -> list[dict[str, dict[str, Any]]]:
        """Return explanations of a kind's own by item id, one dict a history; by default there are none.

        Args:
            snapshot: state of the catalog that the request reads.
            histories: rows `[B, T]`.
            items: rows of the listed items `[B, R]`.
            mask: items that might be listed.
            extra: other arguments of the request that listed the items.
        """
        return [{} for _ in histories]

    def _users(self, user_ids: Sequence[str] | str | None, histories: int) -> list[str] | None:
        if not self.needs_user_ids:
            return None
        is_one = item_id_text(user_ids) is not None
        given = [] if user_ids is None else [user_ids] if is_one else user_ids
        users = item_id_list(given, name="user_ids", what="user ids")
        if len(users) != histories:
            raise ValueError(
                f"this generator was trained with user tokens and needs one user id per history, got {len(users)} for "
                f"{histories}; pass user_ids=, with any unused id for a new user"
            )
        return users


@dataclass(frozen=True, eq=False)
class _Search:
    """One search for some of the requests of a batch, and what explains the items that it listed.

    Attributes:
        among: which items were searched.
        requests: their indices, b of them.
        items: catalog rows `[b, R]`.
        mask: items that it might list.
        extra: other arguments of the ranker.
    """

    among: str
    requests: list[int]
    items: Tensor
    mask: CatalogMask | None
    extra: dict[str, Any]


def class_of(directory: str | Path) -> type[Recommender]:
    """Return the class of the recommender in a directory; methods are imported where its kind is not known yet.

    Raises:
        ValueError: for a kind that no installed package defines, or a damaged manifest.
    """
    kind = read_manifest(directory)["kind"]
    if kind not in Recommender.kinds and not import_recommender(kind):
        load_plugins(METHODS)  # a method declares the kinds of recommenders of its own
        import_recommender(kind)
    if kind not in Recommender.kinds:
        known = sorted({*Recommender.kinds, *declared_recommenders()})
        raise ValueError(
            f"{directory} holds a recommender of kind {kind!r}, this version knows {', '.join(known)}; use the release "
            "of cost_hf, or install the package, that wrote it"
        )
    return Recommender.kinds[kind]


def _popular(
    snapshot: CatalogSnapshot, top_k: int, mask: CatalogMask | None, limits: ValueLimits
) -> list[Recommendation]:
    """Return the most clicked items, with the logarithms of their smoothed shares of training clicks."""
    order = snapshot.popularity_order
    clicks = snapshot.popularity
    allowed = order if mask is None else order[mask.dense(1)[0].cpu().numpy()[order]]
    best = np.array(limits.first(allowed.tolist(), top_k), dtype=np.int64) if limits.groups else allowed[:top_k]
    shares = np.log((clicks[best] + 1) / (clicks.sum() + len(clicks)))
    return [
        _answer(snapshot, row, share, "popularity") for row, share in zip(best.tolist(), shares.tolist(), strict=True)
    ]


def _add_proofs(answer: list[Recommendation], num_exact: int, bound: float = -np.inf) -> None:
    """Add to the fields of a list whether positions are proved, and the bound where they are not."""
    for position, entry in enumerate(answer):
        entry.fields["is_exact"] = position < num_exact
        if position >= num_exact:
            entry.fields["bound"] = bound


def _answer(snapshot: CatalogSnapshot, row: int, score: float, source: str) -> Recommendation:
    """Return a catalog row as an answer."""
    titles = snapshot.catalog.titles
    title = None if titles is None else titles[row]
    fields = {"source": source} if title is None else {"title": title, "source": source}
    return Recommendation(snapshot.catalog.item_ids[row], score, fields)


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


def _raw_bytes(weights: Tensor) -> tuple[str, np.ndarray]:
    """Return type, shape and bytes of a tensor; numpy lacks some types, such as bf16."""
    flat = weights.detach().cpu().contiguous().reshape(-1)
    return f"{weights.dtype}{tuple(weights.shape)}", flat.view(torch.uint8).numpy()


def checked_device(device: torch.device | str) -> torch.device:
    """Return a device that this machine has; raise ValueError for another."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
        if found.type == "meta":
            raise RuntimeError("a model there has no weights")
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device must be one that torch has here, such as 'cpu' or 'cuda', got {device!r:.80} ({error})"
        ) from error
    return found
