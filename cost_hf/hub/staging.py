"""Folders as they will stand on the Hub: staged from a run, then read back and checked before anything leaves.

A folder may hold only files that its kind has: a checkpoint, a pickle or a table of users can't go out by accident.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

import cost_hf
from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import LOCK, check_fields, read_json, read_object, write_json
from cost_hf.hub.cards import eval_result_files, render_card
from cost_hf.hub.licence import Licence
from cost_hf.hub.parts import REPO_TYPES
from cost_hf.hub.places import is_place, without_places
from cost_hf.hub.remote_code import save_with_code
from cost_hf.quantizers.base import load_quantizer
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import renew_files
from cost_hf.stages import require_finished

CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
ADAPTER = r"adapter_config\.json|adapter_model\.safetensors"
NETWORK = r"config\.json|generation_config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
TOKENIZER = r"tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|spiece\.model"
ENCODER = r"encoder/(encoder\.json|vocabulary\.json|lsa\.safetensors|model/[\w./-]+\.(json|safetensors|txt|model))"
PACKAGE = r"cost_hf/[\w./-]+\.(py|jinja|yaml|css|js|svg)"
ALLOWED = {
    "quantizer": rf"README\.md|{NETWORK}|\w+_cost\.py",
    "recommender": (
        rf"README\.md|\.eval_results/\w+\.yaml|{NETWORK}|{ADAPTER}|{TOKENIZER}|{ENCODER}|quantizer/({NETWORK})|\w+_sasrec\.py"
        r"|custom_generate/generate\.py|recommender\.json|vocabulary\.json|catalog-[0-9a-f]{16}\.(safetensors|parquet)"
        r"|popularity\.safetensors|journal\.jsonl|results\.json|handler\.py|requirements\.txt"
        rf"|{PACKAGE}"
    ),
    "dataset": r"README\.md|items\.parquet",
    "space": rf"README\.md|app\.py|requirements\.txt|demo\.json|{PACKAGE}",
}
HANDLER = '''"""Answers the requests of an Inference Endpoint by the package that lies beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cost_hf.hub.handler import EndpointHandler  # noqa: E402

__all__ = ["EndpointHandler"]
'''


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be published.

    Attributes:
        part: `quantizer`, `recommender`, `dataset` or `space`.
        repo_id: where it goes.
        folder: the files.
    """

    part: str
    repo_id: str
    folder: Path

    @property
    def repo_type(self) -> str:
        """Kind of repository on the Hub."""
        return REPO_TYPES[self.part]

    @property
    def files(self) -> list[str]:
        """Paths of all files below the folder, sorted."""
        paths = (path for path in self.folder.rglob("*") if path.is_file() and path.name != LOCK)
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)


class Stage:
    """Stages the parts of one finished run.

    Args:
        run: the run directory.
        target: an empty folder; every part gets one below it.
        repo_ids: repository id of every part that is published.
        weights: one of `WEIGHTS`, for a LoRA run; by default the adapter where its base model is on the Hub.

    Raises:
        OSError: where there is no such directory.
        UnfinishedRunError: where the run is not finished; `DamagedFileError` where a file of it was changed since.
        ValueError: for an adapter whose base model is a directory of this machine, or `weights` of a run without one.
    """

    def __init__(self, run: str | Path, target: Path, repo_ids: Mapping[str, str], *, weights: str | None = None):
        self.run, self.target, self.repo_ids = Path(run), target, dict(repo_ids)
        if not self.run.is_dir():
            raise FileNotFoundError(f"{run} is no directory; give the directory of a finished run")
        require_finished(self.run, checked=None)
        self.recipe = Recipe.load(str(self.run / "recipe.yaml")).to_dict()
        self.results = read_json(self.run / "evaluation" / "results.json")
        self.licence = Licence.of(self.recipe)
        self.results["recipe"]["data"]["licence"] = self.licence.name
        self.recommender = Recommender.from_pretrained(self.run)
        _choose_weights(self.recommender, weights)
        self.recommender.encoder = _may_leave(self.recommender.encoder, self.licence)
        if isinstance(self.recommender, GenerativeRecommender) and self.recommender.quantizer is not None:
            self.recommender.quantizer.config.text_encoder = _settings(self.recommender.encoder)

    def part(self, name: str) -> Staged:
        """Stage one part and check it."""
        folder = self.target / name
        folder.mkdir(parents=True)
        {
            "quantizer": self._quantizer,
            "recommender": self._recommender,
            "dataset": self._dataset,
            "space": self._space,
        }[name](folder)
        kind = "sasrec" if name == "recommender" and self.recommender.kind == "sasrec" else name
        card = render_card(
            kind,
            results=self.results,
            repo_id=self.repo_ids[name],
            related=self.repo_ids,
            has_texts=self.licence.allows_texts,
            has_encoder=self.recommender.encoder is not None,
            is_adapter=getattr(self.recommender, "base", None) is not None,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        staged = Staged(name, self.repo_ids[name], folder)
        check(staged)
        return staged

    def _quantizer(self, folder: Path) -> None:
        if not isinstance(self.recommender, GenerativeRecommender) or self.recommender.quantizer is None:
            raise ValueError(f"{self.run} has no quantizer to publish; leave it out of --what")
        save_with_code(self.recommender.quantizer, folder)

    def _recommender(self, folder: Path) -> None:
        if getattr(self.recommender.catalog, "vectors", None) is not None and not self.licence.allows_texts:
            raise ValueError(
                "a SASRec on texts carries the text vectors of its items, and data.licence is not set, so it may not "
                "leave; the same run with --data.licence NAME computes nothing anew"
            )
        system = self.recommender if self.licence.allows_texts else _without_titles(self.recommender)
        system.save_pretrained(folder)
        if system.kind == "sasrec":
            save_with_code(system.network, folder)
        if system.encoder is not None:
            system.encoder.save(folder / "encoder", bundle_weights=True)
        renew_files(folder)
        write_json(folder / "results.json", without_places(self.results))
        for path, text in eval_result_files(self.results, dataset_id=self.repo_ids.get("dataset")).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        (folder / "handler.py").write_text(HANDLER, encoding="utf-8")
        _add_package(folder)

    def _dataset(self, folder: Path) -> None:
        if not isinstance(self.recommender, GenerativeRecommender):
            raise ValueError(f"{self.run} has no semantic IDs to publish as a data set; leave it out of --what")
        catalog = self.recommender.catalog
        if not self.licence.allows_texts:
            replace(catalog, titles=None).to_parquet(folder / "items.parquet")
            return
        catalog.to_parquet(folder / "items.parquet")
        table = pq.read_table(folder / "items.parquet")
        header = read_object(self.run / "vectors" / "vectors.json")
        check_fields(header, {"texts": list[str]}, source=self.run / "vectors" / "vectors.json")
        held = dict(zip(catalog.item_ids, header["texts"], strict=False))  # items of later have none
        column = pa.array([held.get(item) for item in table["item_id"].to_pylist()], pa.string())
        pq.write_table(table.append_column("text", column), folder / "items.parquet")

    def _space(self, folder: Path) -> None:
        if "recommender" not in self.repo_ids:
            raise ValueError("the demo needs the recommender beside it; add recommender to --what")
        _add_package(folder)
        shutil.copyfile(folder / "cost_hf" / "hub" / "space" / "space_app.py", folder / "app.py")
        write_json(folder / "demo.json", {"recommender": self.repo_ids["recommender"]})


def check(staged: Staged) -> None:
    """Raise ValueError where a staged folder is not what its kind of repository may hold."""
    links = [path for path in staged.folder.rglob("*") if path.is_symlink()]
    if links:
        raise ValueError(f"{links[0]} is a symbolic link, and only files are published; put the file itself there")
    stray = [path for path in staged.files if not re.fullmatch(ALLOWED[staged.part], path)]
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
            encoder.encoder  # noqa: B018  reading it loads the weights and compares their digest


def _add_package(folder: Path) -> None:
    """Add the sources of this package and what they need: no index has this version, so the copy runs on its own."""
    try:
        needs = requires("cost-hf") or []
    except PackageNotFoundError as error:
        raise ValueError(
            "cost_hf runs here without being installed, so nobody knows what it needs; pip install it to publish"
        ) from error
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(Path(cost_hf.__file__).parent, folder / "cost_hf", ignore=ignored)
    lines = [line for line in needs if "extra ==" not in line]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _choose_weights(system: Any, weights: str | None) -> None:
    """Merge an adapter where that is asked for, or where nobody else could load its base."""
    base = getattr(system, "base", None)
    if base is None:
        if weights is not None:
            raise ValueError(f"--weights {weights} is for LoRA runs, and this one has no adapter; leave it out")
        return
    if weights == "adapter" and is_place(base.name):
        raise ValueError(
            f"the adapter belongs to {Path(base.name).name!r}, a directory of this machine, so nobody could load it; "
            "use --weights merged, or train on the model's Hub id"
        )
    if weights == "merged" or (weights is None and is_place(base.name)):
        system.merge()


def _may_leave(encoder: ItemEncoder | None, licence: Licence) -> ItemEncoder | None:
    """Return the text encoder, where it may leave: an lsa is made of the words of the texts."""
    if encoder is None or encoder.options.model == "lsa":
        return encoder if licence.allows_texts else None
    directory = Path(encoder.options.model)
    if directory.is_absolute() and not directory.is_dir() and not encoder.bundled:
        raise ValueError(f"the text encoder {str(directory)!r} is not there any more; put it back to publish the run")
    return encoder


def _settings(encoder: ItemEncoder | None) -> dict[str, Any] | None:
    """Return what plain transformers needs to encode texts; a directory of this machine means nothing elsewhere."""
    settings = None if encoder is None else encoder.settings
    is_local = encoder is not None and (encoder.bundled or is_place(encoder.options.model))
    return None if is_local else settings


def _without_titles(system: Any) -> Any:
    """Return the recommender without titles; its journal and older catalogs, which had them, stay behind."""
    parts = {name: getattr(system, name) for name in ("popularity", "encoder")}
    catalog = replace(system.catalog, titles=None)
    if not isinstance(system, GenerativeRecommender):
        return type(system)(system.network, catalog, **parts)
    names = ("max_history", "num_beams", "normalization", "layout", "tokenizer", "base", "quantizer")
    options = {name: getattr(system, name) for name in names}
    return type(system)(system.generator, catalog, system.vocabulary, **parts, **options)
