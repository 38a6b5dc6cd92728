"""Repositories as folders: staged from a run or a recommender, then read back and checked before anything is published.

A folder may hold only the files of its kind: no checkpoint, pickle or table of users is published by accident.
"""

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

from cost_hf.data.encoders import ItemEncoder
from cost_hf.data.text_vectors import read_texts
from cost_hf.files import LOCK, read_object, write_json
from cost_hf.hub import MERGED, REPO_TYPES
from cost_hf.hub.cards import Contents, eval_result_files, render_card
from cost_hf.hub.redaction import Licence, is_local_path, without_local_paths
from cost_hf.hub.remote_code import published_sources, save_with_code
from cost_hf.quantizers.base import Quantizer, load_quantizer, reads_texts
from cost_hf.recommenders.base import Recommender, class_of
from cost_hf.recommenders.repository import (
    CATALOG_FILES,
    ENCODER,
    FIELDS,
    MANIFEST,
    QUANTIZER,
    WEIGHT_FILES,
    read_manifest,
    renew_files,
)
from cost_hf.run_updates import RECORD, is_updated
from cost_hf.stages import require_finished
from cost_hf.yaml_text import read_yaml

logger = logging.getLogger(__name__)
CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
ENCODER_FILES = r"(encoder\.json|vocabulary\.json|lsa\.safetensors|model/[\w./-]+\.(json|safetensors|txt|model))"
PACKAGE = r"cost_hf/[\w./-]+\.(py|jinja|yaml|css|js|svg)"
FILES = {  # of every repository of a part, as regular expressions
    "quantizer": rf"README\.md|generation_config\.json|{WEIGHT_FILES}",
    "recommender": (
        rf"README\.md|\.eval_results/\w+\.yaml|results\.json|handler\.py|requirements\.txt|{PACKAGE}"
        rf"|{CATALOG_FILES}|{ENCODER}/{ENCODER_FILES}"
    ),
    "dataset": r"README\.md|items\.parquet",
    "space": rf"README\.md|app\.py|requirements\.txt|demo\.json|{PACKAGE}",
}
HANDLER = '''"""Answers the requests of an Inference Endpoint by the copy of the package in this repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cost_hf.hub.handler import EndpointHandler  # noqa: E402

__all__ = ["EndpointHandler"]
'''


@dataclass(frozen=True)
class StagedRepository:
    """A folder that is ready to be published.

    Attributes:
        part: `quantizer`, `recommender`, `dataset` or `space`.
        repo_id: of the repository on the Hub.
        folder: its files.
    """

    part: str
    repo_id: str
    folder: Path

    @property
    def repo_type(self) -> str:
        """Type of the repository on the Hub."""
        return REPO_TYPES[self.part]

    @property
    def files(self) -> list[str]:
        """Paths of all files below the folder, sorted."""
        paths = (path for path in self.folder.rglob("*") if path.is_file() and path.name != LOCK)
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)

    @property
    def allowed(self) -> str:
        """Regular expression of the files that this repository may hold."""
        own = [FILES[self.part]]
        if self.part == "recommender":
            for path in sorted(self.folder.rglob(MANIFEST)):  # its own, and those of recommenders inside
                inside = path.parent.relative_to(self.folder).as_posix()
                kind = class_of(path.parent).published_files or "(?!)"
                own.append(kind if inside == "." else rf"{re.escape(inside)}/({CATALOG_FILES}|{kind})")
        if self.repo_type == "model" and (self.folder / "config.json").is_file():
            own += [re.escape(name) for name in sorted(published_sources(self.folder))]
        return "|".join(own)


class RunPublication:
    """Stages the repositories of one finished run.

    Args:
        run: the run directory.
        target: an empty folder; every repository gets one below it.
        repo_ids: repository id of every part that is published.
        weights: one of `WEIGHTS`, for a LoRA run; by default the adapter where its base model is on the Hub.

    Attributes:
        parts: that the run can be published as; an updated one as a recommender alone.

    Raises:
        OSError: where there is no such directory.
        UnfinishedRunError: where the run is not finished; `DamagedFileError` where a file of it was changed since.
        ValueError: for an adapter whose base model is a local directory, or `weights` of a run without adapter.
    """

    def __init__(self, run: str | Path, target: Path, repo_ids: Mapping[str, str], *, weights: str | None = None):
        self.run = Path(run)
        self.target = target
        self.repo_ids = dict(repo_ids)
        if not self.run.is_dir():
            raise FileNotFoundError(f"{run} is no directory; give the directory of a finished run")
        require_finished(self.run, checked=None)
        self.is_updated = is_updated(self.run)
        self.results = read_object(self.run / "evaluation" / "results.json")
        # the licence may be added to the recipe when everything is computed
        self.licence = licence_of_run(self.run)
        self.results["recipe"]["data"]["licence"] = self.licence.name
        loaded = Recommender.from_pretrained(self.run)
        _choose_weights(loaded, weights)
        self.recommender = publishable(loaded, self.licence)
        has = {"quantizer": loaded.quantizer is not None, "dataset": loaded.has_semantic_ids()}
        self.parts = tuple(part for part in REPO_TYPES if has.get(part, True))
        if self.is_updated:
            logger.warning(
                "%s was updated after its evaluation, so its recommender is published without figures and its other "
                "repositories stay as they are",
                self.run,
            )
            self.parts = ("recommender",)

    def stage(self, part: str) -> StagedRepository:
        """Stage the repository of one part and check it."""
        if self.is_updated and part != "recommender":
            raise ValueError(
                f"the card of a {part} repository shows the results of {self.run}, which was updated after its "
                "evaluation; publish the recommender alone (--what recommender)"
            )
        folder = self.target / part
        folder.mkdir(parents=True)
        write = {
            "quantizer": self._write_quantizer,
            "recommender": self._write_recommender,
            "dataset": self._write_dataset,
            "space": self._write_space,
        }[part]
        write(folder)
        if part != "recommender":
            write_card(
                part,
                folder,
                results=self.results,
                contents=contents_of(self.recommender, self.licence),
                repo_id=self.repo_ids[part],
                related=self.repo_ids,
            )
        staged = StagedRepository(part, self.repo_ids[part], folder)
        check(staged)
        return staged

    def _write_quantizer(self, folder: Path) -> None:
        quantizer: Any = self.recommender.quantizer
        if quantizer is None:
            raise ValueError(f"{self.run} has no quantizer to publish; leave it out of --what")
        require_hub_reader(quantizer)
        save_with_code(quantizer, folder)
        if not reads_texts(quantizer):
            _set_text_encoder(folder / "config.json", self.recommender.encoder)

    def _write_recommender(self, folder: Path) -> None:
        write_recommender(self.recommender, folder, self.licence)
        describe_recommender(
            self.recommender,
            folder,
            self.licence,
            results=None if self.is_updated else self.results,
            repo_id=self.repo_ids["recommender"],
            related=self.repo_ids,
        )

    def _write_dataset(self, folder: Path) -> None:
        if "dataset" not in self.parts:
            raise ValueError(f"{self.run} has no semantic IDs to publish as a data set; leave it out of --what")
        catalog = self.recommender.catalog
        catalog.to_parquet(folder / "items.parquet")
        if not self.licence.allows_texts:
            return
        table = pq.read_table(folder / "items.parquet")
        # items added later have none
        texts = dict(zip(catalog.item_ids, read_texts(self.run / "vectors"), strict=False))
        column = pa.array([texts.get(item) for item in table["item_id"].to_pylist()], pa.string())
        pq.write_table(table.append_column("text", column), folder / "items.parquet")

    def _write_space(self, folder: Path) -> None:
        if "recommender" not in self.repo_ids:
            raise ValueError("the demo needs its recommender on the Hub; add recommender to --what")
        _add_package(folder, _packages_of(self.recommender))
        shutil.copyfile(folder / "cost_hf" / "hub" / "space" / "space_app.py", folder / "app.py")
        write_json(folder / "demo.json", {"recommender": self.repo_ids["recommender"]})


def publishable(recommender: Recommender, licence: Licence) -> Recommender:
    """Return a copy with the parts that may be published; the model is shared.

    It knows no users. Without a licence of the data it has no titles, and no encoder that holds words or values of
    items.

    Raises:
        ValueError: for a text encoder whose directory does not exist any more.
    """
    known = recommender.without_users()
    copied = copy(known) if licence.allows_texts else known.without_metadata()
    encoder = recommender.encoder
    if encoder is not None and encoder.holds_item_values:
        copied.encoder = encoder if licence.allows_texts else None
    elif encoder is not None and encoder.missing_directory is not None:
        raise ValueError(
            f"the text encoder {str(encoder.missing_directory)!r} does not exist any more; put it back to publish"
        )
    return copied


def write_recommender(recommender: Recommender, folder: Path, licence: Licence) -> None:
    """Write a `publishable` recommender with all that it needs elsewhere: sources of its model, encoder, this package.

    Raises:
        ValueError: for vectors of texts, or columns that lists depend on, without a licence of the data, and for a
            quantizer that reads texts by a model in a local directory.
    """
    if recommender.carries_text_vectors and not licence.allows_texts:
        raise ValueError(
            "this recommender holds vectors of item texts, and data.licence is not set, so it may not be published; "
            "the same run with --data.licence NAME computes nothing anew"
        )
    if recommender.reads_columns and not licence.allows_texts:
        raise ValueError(
            "this recommender ranks by columns of the items, and data.licence is not set, so it may not be published; "
            "the same run with --data.licence NAME computes nothing anew"
        )
    for own in (recommender, *recommender.parts.values()):
        require_hub_reader(own.quantizer)
    recommender.save_pretrained(folder)
    if recommender.has_own_code and recommender.network is not None:
        save_with_code(recommender.network, folder, auto_class=recommender.auto_class or "AutoModel")
    if recommender.encoder is not None:
        recommender.encoder.save(folder / ENCODER, bundle_weights=True)
    if recommender.quantizer is not None and not reads_texts(recommender.quantizer):
        _set_text_encoder(folder / QUANTIZER / "config.json", recommender.encoder)
    renew_files(folder)
    (folder / "handler.py").write_text(HANDLER, encoding="utf-8")
    _add_package(folder, _packages_of(recommender))


def describe_recommender(
    recommender: Recommender,
    folder: Path,
    licence: Licence,
    *,
    results: Mapping[str, Any] | None,
    repo_id: str,
    related: Mapping[str, str],
) -> None:
    """Write card and results into the folder of `write_recommender`.

    Args:
        results: content of results.json; None where none describe these weights.
        repo_id: of the repository.
        related: repository ids by part.
    """
    if results is not None:
        write_json(folder / "results.json", without_local_paths(results))
        for path, text in eval_result_files(results, dataset_id=related.get("dataset")).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    generates_items = (folder / "custom_generate" / "generate.py").is_file()
    write_card(
        "recommender",
        folder,
        results=results,
        contents=contents_of(recommender, licence, generates_items=generates_items),
        repo_id=repo_id,
        related=related,
    )


def contents_of(recommender: Recommender, licence: Licence, *, generates_items: bool = False) -> Contents:
    """Return what the card of a `publishable` recommender describes."""
    packages = tuple(_packages_of(recommender))
    return Contents.of(recommender, licence=licence.name, generates_items=generates_items, packages=packages)


def write_card(part: str, folder: Path, **facts: Any) -> None:
    """Write `README.md`; arguments are those of `render_card`."""
    (folder / "README.md").write_text(render_card(part, **facts), encoding="utf-8")


def read_results(directory: Path) -> dict[str, Any]:
    """Return the results of a recommender: published with it, or those of the finished run that it belongs to.

    Args:
        directory: of the recommender.

    Raises:
        FileNotFoundError: where there are none, or where the run was updated after its evaluation.
        UnfinishedRunError: where the run is not finished; `DamagedFileError` where its results were changed since.
    """
    if (directory / "results.json").is_file():
        return read_object(directory / "results.json")
    run = directory.parent
    path = run / "evaluation" / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} came without results.json, and {run} holds no results of a run")
    if is_updated(run):
        raise FileNotFoundError(
            f"the results of {run} are of the model that it trained, and it was updated since; {RECORD} has the "
            "figures of the updates"
        )
    require_finished(run, checked=["evaluation"])
    return read_object(path)


def licence_of_run(run: Path) -> Licence:
    """Return the licence of the data that the recipe of a finished run states."""
    recipe: Any = read_yaml((run / "recipe.yaml").read_text(encoding="utf-8"))
    return Licence.of(recipe)


def describes(results_of: Path, folder: Path) -> bool:
    """Tell whether a saved recommender has the weights and settings of another, so that its results hold for both.

    Catalogs may differ: results are those of the catalog of the training.

    Args:
        results_of: directory of the recommender that was evaluated.
        folder: directory of the other one.
    """

    def identity(directory: Path) -> dict[str, Any]:
        manifest = read_manifest(directory)
        pattern = class_of(directory).published_files
        own = {name: digest for name, digest in manifest["files"].items() if re.fullmatch(pattern, name)}
        weights = {name: digest for name, digest in own.items() if name.endswith(".safetensors")}
        entries = {name: value for name, value in manifest.items() if name not in FIELDS}
        return {"kind": manifest["kind"], "weights": weights, **entries}

    return identity(results_of) == identity(folder)


def check(staged: StagedRepository) -> None:
    """Raise ValueError where a staged folder is not what its kind of repository may hold."""
    links = [path for path in staged.folder.rglob("*") if path.is_symlink()]
    if links:
        raise ValueError(f"{links[0]} is a symbolic link, and only files are published; put the file itself there")
    allowed = re.compile(staged.allowed)
    stray = [path for path in staged.files if not allowed.fullmatch(path)]
    if stray:
        raise ValueError(
            f"{len(stray)} files do not belong into a {staged.part} repository, first {stray[0]!r}; take them out of "
            "the model or the text encoder that writes them, or leave this part out of --what"
        )
    CARDS[staged.repo_type].load(staged.folder / "README.md", ignore_metadata_errors=False)
    if staged.part == "quantizer":
        load_quantizer(staged.folder)
    if staged.part == "recommender":
        encoder = Recommender.from_pretrained(staged.folder).encoder
        if encoder is not None and encoder.bundled:
            encoder.require()  # loads the weights and compares their digest


def _add_package(folder: Path, others: Sequence[str]) -> None:
    """Add the sources of this package and its requirements: no index has this version, so the copy runs on its own.

    Args:
        others: distributions that are needed besides.
    """
    try:
        needs = requires("cost-hf") or []
    except PackageNotFoundError as error:
        raise ValueError(
            "cost_hf runs here without being installed, so its requirements are not known; pip install it to publish"
        ) from error
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.md", "py.typed")
    shutil.copytree(Path(__file__).parents[1], folder / "cost_hf", ignore=ignored)
    lines = [*(line for line in needs if "extra ==" not in line), *others]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _packages_of(recommender: Recommender) -> list[str]:
    """Return the distributions besides cost_hf that a recommender and its parts need, or that define their classes."""
    modules = set()
    needed = set()
    for own in (recommender, *recommender.parts.values()):
        classes = [type(part) for part in (own, own.network, own.quantizer) if part is not None]
        modules |= {kind.__module__.partition(".")[0] for kind in classes}
        needed |= set(own.packages)
    foreign = modules - {"cost_hf", "peft", "transformers", "transformers_modules"}
    distributions = packages_distributions() if foreign else {}  # reads the files of all that is installed
    return sorted({name for module in foreign for name in distributions.get(module, [module])} | needed)


def _choose_weights(recommender: Recommender, weights: str | None) -> None:
    """Merge an adapter where `weights` requests it, or where its base is a local directory."""
    base = recommender.base
    if base is None:
        if weights is not None:
            raise ValueError(f"--weights {weights} is for LoRA runs, and this one has no adapter; leave it out")
        return
    if weights == "adapter":
        require_hub_base(recommender, remedy="use --weights merged, or train on the model's Hub id")
    if weights == MERGED or (weights is None and is_local_path(base.name)):
        recommender.merge()


def require_hub_base(recommender: Recommender, *, remedy: str) -> None:
    """Raise ValueError for an adapter whose base model is a local directory."""
    base = recommender.base
    if base is not None and is_local_path(base.name):
        raise ValueError(
            f"the adapter belongs to {Path(base.name).name!r}, a directory of this machine, so nobody could load it; "
            f"{remedy}"
        )


def require_hub_reader(quantizer: Quantizer | None) -> None:
    """Raise ValueError for a quantizer that reads texts by a language model in a local directory."""
    if reads_texts(quantizer) and (is_local_path(quantizer.base_name) or Path(quantizer.base_name).is_dir()):
        raise ValueError(
            f"codes of new items are made by {Path(quantizer.base_name).name!r}, a directory of this machine, so "
            "nobody could make them; train on the Hub id of that model to publish"
        )


def _set_text_encoder(path: Path, encoder: ItemEncoder | None) -> None:
    """Write into a quantizer's configuration what plain transformers needs to encode texts; no local directory."""
    is_local = encoder is None or encoder.bundled or is_local_path(encoder.name)
    settings = None if encoder is None or is_local else encoder.settings
    config = {name: value for name, value in read_object(path).items() if name != "text_encoder"}
    write_json(path, config if settings is None else config | {"text_encoder": settings})
