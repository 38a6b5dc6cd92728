"""The directory of a recommender: finding it, its manifest, and changing its catalog there in one step.

The manifest names every file of the recommender with its sha256 and carries a digest of itself; all of them are checked
on every load, which takes a few seconds per GB. Lines are only added to the file of the journal, so the manifest
counts the changes, says how many of them the file does not hold, and has the digest of its lines. Loading takes no lock
and writes nothing; if another process saves meanwhile, the directory is read again.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from safetensors.numpy import save_file

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import (
    PLAIN_NAME,
    DamagedFileError,
    atomic_path,
    check_fields,
    check_file_digests,
    check_size,
    content_digest,
    file_digest,
    file_digests,
    first_line,
    locked,
    read_object,
    read_tensors,
    readable_os_errors,
    refuse_link_out,
    write_json,
)
from cost_hf.recommenders.catalog_changes import (
    JOURNAL_FILE,
    Journal,
    Version,
    journal_file,
    read_journal,
    write_journal,
)
from cost_hf.recommenders.sources import check_source
from cost_hf.replacing import REPLACED, replacing, settle
from cost_hf.run_updates import NUMBER, require_own_update, served_update
from cost_hf.semantic_ids.item_columns import ItemColumns
from cost_hf.semantic_ids.item_list import ItemRows
from cost_hf.stages import is_run, require_finished, require_own

if TYPE_CHECKING:
    from cost_hf.recommenders.base import Recommender

FORMAT = 6  # 6: catalogs have columns in files of their own, and the manifest holds the version of the present one
MANIFEST = "recommender.json"
RESULTS = "results.json"  # of a published recommender
POPULARITY = "popularity.safetensors"
ENCODER = "encoder"  # folders
QUANTIZER = "quantizer"
PARTS = "parts"  # the recommenders that a hybrid is made of
FIELDS = {
    "format": int,
    "kind": str,
    "catalog": str,
    "catalog_version": str,
    "catalog_digest": str,
    "catalog_history": list[str],
    "journal": int,
    "journal_digest": str,
    "popularity_rows": int,
    "encoder_digest": str | None,
    "files": dict[str, str],
    "manifest_digest": str,
}
JOURNAL_DROPPED = "journal_dropped"  # entry of a manifest: changes that the journal does not hold, where there are any
# entries that change with the catalog alone
OF_CATALOG = (
    "catalog",
    "catalog_version",
    "catalog_digest",
    "catalog_history",
    "journal",
    "journal_digest",
    JOURNAL_DROPPED,
    "manifest_digest",
)
STEM = re.compile(r"(catalog-[0-9a-f]{16})(-([0-9a-f]{16}))?")  # of items, and of columns where there are any
CATALOG_FILE = re.compile(r"catalog-[0-9a-f]{16}\.(safetensors|parquet)|columns-[0-9a-f]{16}\.parquet")
OF_CHANGES = re.compile(rf"{JOURNAL_FILE.pattern}|{CATALOG_FILE.pattern}")
DIGEST = re.compile(r"[0-9a-f]{64}")
HUB_ERRORS = (HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled, OSError)
# names of saved files, as regular expressions
CATALOG_FILES = rf"recommender\.json|popularity\.safetensors|{OF_CHANGES.pattern}"
WEIGHT_FILES = r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
ADAPTER_FILES = r"adapter_config\.json|adapter_model\.safetensors"
TOKENIZER_FILES = r"tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|spiece\.model"
GENERATOR_FILES = rf"generation_config\.json|vocabulary\.json|{WEIGHT_FILES}|{ADAPTER_FILES}|{TOKENIZER_FILES}"
# what a directory may hold of an older recommender besides the files that its manifest names
PART = re.compile(rf"{CATALOG_FILES}|{GENERATOR_FILES}|special_tokens_map\.json|added_tokens\.json")
FOLDERS = {
    QUANTIZER: re.compile(WEIGHT_FILES),
    ENCODER: re.compile(r"encoder\.json|vocabulary\.json|lsa\.safetensors|model/.*"),
    "custom_generate": re.compile(r"generate\.py|__pycache__/.*"),
    PARTS: re.compile(r"[\w.-]+/.+"),
}
LARGE = (".parquet", ".safetensors")  # files that are not read into memory as they are
ATTEMPTS = 10  # to read a directory that others change
Result = TypeVar("Result")


def locate(name_or_path: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Return the recommender directory of a run, of such a directory itself, or of a Hub id (downloaded or cached).

    Raises:
        OSError: where nothing is found, or it can't be opened.
        UnfinishedRunError: for the directory of a run that is not finished.
    """
    name = str(name_or_path)
    path = Path(os.path.expanduser(name))  # noqa: PTH111  an unknown user leaves the path as it is
    with readable_os_errors():
        for candidate in (path, path / "recommender"):
            if (candidate / MANIFEST).is_file() or (candidate / REPLACED).is_dir():
                if candidate != path and is_run(path):
                    require_finished(path)
                    _require_own(path, candidate)
                return candidate
        if is_run(path):
            require_finished(path)
        if path.exists():
            raise OSError(f"{path} holds no {MANIFEST}; give a finished run directory or its recommender/ folder")
    check_source(name)
    try:
        found = Path(snapshot_download(name, revision=revision, token=token))
    except HUB_ERRORS as error:
        raise FileNotFoundError(
            f"{name}: no such directory; taken for a Hub id it can't be downloaded either, and is not in the cache "
            f"({type(error).__name__}: {first_line(error)}); check the path, or the id and the network"
        ) from error
    if not (found / MANIFEST).is_file():
        raise OSError(f"the Hub repository {name!r} holds no {MANIFEST}; give that of a recommender")
    return found


def hub_commit(name: str | Path, directory: Path) -> str | None:
    """Return the commit that a directory found by `locate` was downloaded at; None for a local one.

    Args:
        name: as `locate` was given it.
        directory: as `locate` returned it: a snapshot in the Hub's cache, `models--org--name/snapshots/<commit>`.
    """
    is_snapshot = directory.parent.name == "snapshots"
    is_of_name = directory.parent.parent.name == f"models--{str(name).replace('/', '--')}"
    return directory.name if is_snapshot and is_of_name else None


def _require_own(run: Path, directory: Path) -> None:
    """Raise `DamagedFileError` where the recommender in a run directory is not the one that the run wrote."""
    manifest = read_manifest(directory)
    update = served_update(run, manifest)
    if update is not None:
        require_own_update(run, update, manifest["files"])
        return
    # a save after changes of the catalog writes the clicks of new items, too
    require_own(run, directory.name, manifest["files"], mutable=[POPULARITY])


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read and check the manifest of a recommender directory; an interrupted save is undone first.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for another format, or for a manifest that was edited or damaged; its first wrong field is named.
    """
    path = Path(directory) / MANIFEST
    for attempt in (1, 2):
        settle(directory, MANIFEST)
        refuse_link_out(path, Path(directory))
        try:
            content = read_object(path)
            break
        except FileNotFoundError:
            if attempt == 2:  # at the first attempt a save may have begun meanwhile
                raise FileNotFoundError(
                    f"{directory} holds no {MANIFEST}; give a finished run directory or its recommender/ folder"
                ) from None
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: the directory has recommender format {content.get('format')!r}, this version reads {FORMAT}; "
            "use the cost_hf release that wrote it, or train again"
        )
    check_fields(content, FIELDS, source=path)
    check_fields(content, {name: int for name in (NUMBER, JOURNAL_DROPPED) if name in content}, source=path)
    try:
        digest = _manifest_digest(content)
    except ValueError as error:  # half a character, which JSON can spell and UTF-8 can't
        raise DamagedFileError(f"{path} holds text that is none ({error}); copy it again") from error
    if content["manifest_digest"] != digest:
        raise DamagedFileError(
            f"{path} has the digest {digest}, expected {content['manifest_digest']}; it was edited or damaged: copy it "
            "again, or change the recommender in Python and save it"
        )
    for stem in (content["catalog"], *content["catalog_history"]):
        if not STEM.fullmatch(stem):
            raise DamagedFileError(
                f"{path} names the catalog {stem!r:.80}, expected catalog- and 16 hex digits, once or twice"
            )
    if not DIGEST.fullmatch(content["catalog_version"]):
        raise DamagedFileError(f"{path} has catalog_version={content['catalog_version']!r:.80}, expected a sha256")
    for name, digest in content["files"].items():
        if not _is_inside(name) or not DIGEST.fullmatch(digest):
            raise DamagedFileError(
                f"{path} names the file {name!r:.80} with digest {digest!r:.80}, expected a path inside the directory "
                "and a sha256"
            )
    for stem in (content["catalog"], *content["catalog_history"]):
        for name in _files_of(stem):
            if name not in content["files"]:
                raise DamagedFileError(f"{path} has no digest of {name}, which it names; copy the directory again")
    for name in ("journal", "popularity_rows"):
        if content[name] < 0:
            raise DamagedFileError(f"{path} has {name}={content[name]!r}, expected 0 or more; copy it again")
    if not 0 <= content.get(JOURNAL_DROPPED, 0) <= content["journal"]:
        raise DamagedFileError(
            f"{path} has {JOURNAL_DROPPED}={content[JOURNAL_DROPPED]!r}, expected 0 to {content['journal']}, the "
            "changes so far; copy it again"
        )
    return content


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and name.isprintable() and "\\" not in name and not {"..", "/"} & set(parts) and name[0] != "/"


def _manifest_digest(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "manifest_digest"}
    return content_digest("cost_hf.manifest.1", rest)


def _write_manifest(directory: Path, content: Mapping[str, Any]) -> None:
    write_json(directory / MANIFEST, {**content, "manifest_digest": _manifest_digest(content)}, durable=True)


def update_manifest(directory: str | Path, **entries: Any) -> None:
    """Change entries of a written manifest, such as `num_beams`, and nothing else."""
    target = Path(directory)
    with locked(target):
        _write_manifest(target, read_manifest(target) | entries)


def renew_files(directory: str | Path) -> None:
    """Record all files of a recommender directory, which holds nothing else, in its manifest."""
    update_manifest(directory, files=_part_digests(Path(directory)))


def _part_digests(directory: Path) -> dict[str, str]:
    """Return the digests of all files but the manifest and the journal; those of recommenders inside are parts too."""
    found = file_digests(directory)
    return {name: digest for name, digest in found.items() if name != MANIFEST and not JOURNAL_FILE.fullmatch(name)}


def read_whole(directory: Path, read: Callable[[dict[str, Any]], Result]) -> Result:
    """Check all files of a recommender directory and return `read(manifest)`.

    If another process saves into it meanwhile, it is read again.

    Raises:
        OSError: where a file can't be read.
        ValueError: for a damaged file, or whatever else `read` finds; the file is named.
    """
    for _ in range(ATTEMPTS):
        stamp = _stamp(directory)
        manifest = read_manifest(directory)
        try:
            _check_strays(directory, manifest["files"])
            for name in manifest["files"]:
                if PurePosixPath(name).suffix not in LARGE and (directory / name).is_file():
                    check_size(directory / name)
            check_file_digests(directory, manifest["files"], follows_links=True)
            result = read(manifest)
        except (OSError, ValueError):
            if read_manifest(directory) == manifest and _stamp(directory) == stamp:
                raise
            continue
        if _stamp(directory) == stamp:
            return result
        after = read_manifest(directory)
        # catalogs are named by their content, so a new one does not affect what was read
        if after != manifest and _without_catalogs(after["files"]) == _without_catalogs(manifest["files"]):
            return result
    raise OSError(f"{directory} was changed {ATTEMPTS} times while it was read; try again")


def _stamp(directory: Path) -> tuple[int, int, int] | None:
    """Return what changes with every save into a directory, also where a later one brings an equal manifest back."""
    try:
        found = (directory / MANIFEST).stat()
    except OSError:  # in the middle of a save
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _without_catalogs(files: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if not CATALOG_FILE.fullmatch(Path(name).name)}


def _check_strays(directory: Path, files: Mapping[str, str]) -> None:
    """Raise `DamagedFileError` for a file that would be loaded as a part and that the manifest does not name."""
    unnamed = [path.name for path in directory.iterdir() if PART.fullmatch(path.name)]
    # an interrupted write may leave journals and catalogs, which are never read
    strays = {name for name in unnamed if name != MANIFEST and not OF_CHANGES.fullmatch(name)}
    for folder, pattern in FOLDERS.items():
        inside = (directory / folder).iterdir() if (directory / folder).is_dir() else ()
        strays |= {f"{folder}/{path.name}" for path in inside if pattern.fullmatch(path.name)}
    for name in sorted(strays - set(files)):
        raise DamagedFileError(
            f"{directory / name} is no part of the recommender: {MANIFEST} does not name it; move it away, or copy the "
            "directory again"
        )


def check_parts(directory: Path, parts: Sequence[tuple[str, str | None, str | None]]) -> None:
    """Raise ValueError for the first (name, digest found, digest wanted) that differ."""
    for part, found, wanted in parts:
        if found != wanted:
            raise ValueError(
                f"{part} in {directory} has digest {found}, {MANIFEST} asks for {wanted}; "
                "the files do not belong together: copy the whole directory of one run"
            )


def check_kind(directory: Path, manifest: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError for a recommender of another kind."""
    if manifest["kind"] != kind:
        raise ValueError(
            f"{directory} holds a recommender of kind {manifest['kind']!r}, expected {kind!r}; load it by "
            "Recommender.from_pretrained"
        )


def save_whole(directory: str | Path, recommender: "Recommender", write: Callable[[Path], dict[str, Any]]) -> None:
    """Write a recommender in place of one that is there: all of it, or nothing where anything fails.

    Args:
        write: writes the parts that not every kind has into an empty folder; returns their manifest entries.
    """
    with replacing(directory, MANIFEST, old=_parts_in) as staged:
        own = write(staged)
        entries = _write_catalog_parts(staged, recommender) | own
        if recommender.update:
            entries[NUMBER] = recommender.update
        _write_manifest(staged, entries | {"files": _part_digests(staged)})


def replace_whole(directory: str | Path, source: Path) -> None:
    """Put a copy of the recommender in `source` in place of one that is there: all of it, or nothing where it fails.

    Whatever else is in the directory, such as the log of a training, goes with the old recommender.
    """
    with replacing(directory, MANIFEST, old=_visible) as staged:
        copy_recommender(source, staged)


def copy_recommender(source: Path, target: Path) -> None:
    """Copy what a recommender directory holds; the target may exist."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


def _visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def check_no_results(directory: str | Path) -> None:
    """Raise ValueError for a recommender directory with evaluation results, which describe what is stored there."""
    target = Path(directory).absolute()
    run = target.parent if (target / MANIFEST).is_file() and is_run(target.parent) else None
    if run is not None or (target / RESULTS).is_file():
        raise ValueError(
            f"{run or target} holds evaluation results, which are of the counts before; save the recommender to "
            "another directory (update-catalog: --output_dir)"
        )


def _parts_in(directory: Path) -> set[str]:
    """Return the names of files and folders that belong to the recommender in a directory."""
    named: set[str] = set()
    if (directory / MANIFEST).is_file():
        try:
            files = read_object(directory / MANIFEST).get("files")
        except (OSError, ValueError):
            files = None  # a damaged one: its parts are known by their names
        named = (
            {PurePosixPath(name).parts[0] for name in files if _is_inside(name)} if isinstance(files, dict) else set()
        )
    found = {path.name for path in directory.iterdir() if PLAIN_NAME.fullmatch(path.name)}
    parts = {name for name in found if name in named or (PART.fullmatch(name) and not (directory / name).is_dir())}
    for name in found & set(FOLDERS):
        paths = [path for path in (directory / name).rglob("*") if path.is_file()]
        if all(FOLDERS[name].fullmatch(path.relative_to(directory / name).as_posix()) for path in paths):
            parts.add(name)
    return parts


def _catalog_entries(recommender: "Recommender") -> dict[str, Any]:
    return {
        "catalog": recommender.catalog.stem,
        "catalog_version": recommender.catalog.version,
        "catalog_digest": recommender.catalog.digest,
        "catalog_history": [version.stem for version in recommender.versions],
        "journal": recommender.journal.total,
    }


def _journal_entries(journal: Journal, digest: str) -> dict[str, Any]:
    return {"journal_digest": digest, **({JOURNAL_DROPPED: journal.dropped} if journal.dropped else {})}


def stored_journal(directory: Path, manifest: Mapping[str, Any]) -> Journal:
    """Read the journal of a recommender directory; raise what `read_journal` does."""
    dropped = manifest.get(JOURNAL_DROPPED, 0)
    return read_journal(directory, manifest["journal"], dropped=dropped, digest=manifest["journal_digest"])


def _write_catalog_parts(directory: Path, recommender: "Recommender") -> dict[str, Any]:
    """Write what every kind has (catalogs, journal, popularity, encoder); return its manifest entries."""
    for version in (*recommender.versions, Version.held(recommender.catalog)):
        _write_version(directory, version)
    with atomic_path(directory / POPULARITY) as temporary:
        save_file({"popularity": recommender.popularity}, temporary)
    if recommender.encoder is not None:
        recommender.encoder.save(directory / ENCODER)
    return {
        "format": FORMAT,
        "kind": recommender.kind,
        "encoder_digest": None if recommender.encoder is None else recommender.encoder.digest,
        "popularity_rows": len(recommender.popularity),
        **_journal_entries(recommender.journal, write_journal(directory, recommender.journal)),
        **_catalog_entries(recommender),
        **recommender.identity,
    }


def _write_version(directory: Path, version: Version) -> list[Path]:
    """Write the files of a catalog that are not there yet, which are named by their content; return their paths.

    The columns come first, so that a reader that finds the items finds them.
    """
    missing = [directory / name for name in _files_of(version.stem) if not (directory / name).is_file()]
    if missing:
        catalog = version.load()
        stem, columns = _parts_of(version.stem)
        if columns is not None and directory / columns in missing:
            catalog.columns.save(directory / columns)
        if {path.stem for path in missing} & {stem}:
            catalog.save_items(directory, stem)
    return missing


def read_catalog_parts(directory: Path, manifest: dict[str, Any], kind: type[ItemRows]) -> dict[str, Any]:
    """Read what every kind has (catalog, popularity, encoder, journal, older catalogs), as arguments of a recommender.

    Args:
        kind: class of the catalog.

    Raises:
        ValueError: for a catalog or text encoder that is not the manifest's; both digests are named.
    """
    parts = _read_versions(directory, manifest, kind)
    encoder = ItemEncoder.load(directory / ENCODER) if (directory / ENCODER).is_dir() else None
    found = None if encoder is None else encoder.digest
    check_parts(directory, [("the text encoder", found, manifest["encoder_digest"])])
    clicks = _read_popularity(directory / POPULARITY, rows=manifest["popularity_rows"])
    num_items = len(parts["catalog"])
    popularity = np.pad(clicks, (0, max(0, num_items - len(clicks))))[:num_items]
    return {**parts, "popularity": popularity, "encoder": encoder}


def _read_versions(directory: Path, manifest: Mapping[str, Any], kind: type[ItemRows]) -> dict[str, Any]:
    """Read the catalog, the journal and, on demand, older catalogs."""
    catalog = load_version(kind, directory, manifest["catalog"])
    check_parts(directory, [("the catalog", catalog.digest, manifest["catalog_digest"])])
    if catalog.version != manifest["catalog_version"]:
        raise DamagedFileError(
            f"{directory / MANIFEST} has catalog_version {manifest['catalog_version']}, its catalog has "
            f"{catalog.version}; copy the directory again"
        )
    return {
        "catalog": catalog,
        "journal": stored_journal(directory, manifest),
        "versions": [
            Version(stem, partial(load_version, kind, directory, stem)) for stem in manifest["catalog_history"]
        ],
    }


def read_saved_catalog(directory: Path, manifest: Mapping[str, Any], kind: type[ItemRows]) -> dict[str, Any]:
    """Read catalog, journal and older catalogs alone, for a recommender whose other parts are in memory.

    Raises:
        OSError: where a file can't be read.
        ValueError: for a damaged file, or a catalog that is not the manifest's.
    """
    names = _files_of(manifest["catalog"])
    check_file_digests(directory, {name: manifest["files"][name] for name in names}, follows_links=True)
    return _read_versions(directory, manifest, kind)


def differ_in_catalog_alone(manifest: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two manifests name the same files but for those of the catalog and the journal."""

    def rest(content: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in content.items() if name not in OF_CATALOG}
        return own | {"files": _without_catalogs(content["files"])}

    return rest(manifest) == rest(other)


def read_catalog(directory: Path, kind: type[ItemRows], *, besides: Sequence[str] = ()) -> Any:
    """Read the present catalog of a recommender without its weights.

    Args:
        kind: class of the catalog.
        besides: other files that the caller reads; they are checked too.

    Raises:
        ValueError: for a damaged file, or a catalog that is not the manifest's.
    """
    manifest = read_manifest(directory)
    names = [*_files_of(manifest["catalog"]), *besides]
    check_file_digests(directory, {name: manifest["files"].get(name, "") for name in names}, follows_links=True)
    return load_version(kind, directory, manifest["catalog"])


def load_version(kind: type[ItemRows], directory: Path, stem: str) -> Any:
    """Read one version of a catalog; raise `DamagedFileError` where its name has another digest."""
    items, columns = _parts_of(stem)
    catalog = kind.load_items(directory, items)
    if columns is not None:
        own = ItemColumns.read(directory / columns, rows=len(catalog))
        try:
            catalog = catalog.with_columns(own)
        except ValueError as error:
            raise DamagedFileError(f"{directory / columns}: {error}; copy the directory again") from error
    if catalog.stem != stem:
        raise DamagedFileError(
            f"{directory / items}.safetensors and .parquet{'' if columns is None else f' and {columns}'} hold "
            f"{catalog.stem}; the files were changed or renamed: copy the directory again"
        )
    return catalog


def _read_popularity(path: Path, *, rows: int) -> np.ndarray:
    clicks = read_tensors(path).get("popularity")
    if clicks is None or clicks.shape != (rows,) or not np.issubdtype(clicks.dtype, np.integer):
        found = "none" if clicks is None else f"{clicks.dtype} {clicks.shape}"
        raise DamagedFileError(f"{path} holds clicks {found}, expected integers [{rows}]; copy the directory again")
    if clicks.min(initial=0) < 0:
        raise DamagedFileError(f"{path} holds {int(clicks.min())} clicks of an item, expected 0 or more; copy it again")
    return clicks


def _parts_of(stem: str) -> tuple[str, str | None]:
    """Return the stem of the files of items, and the file of columns where the catalog has any."""
    found = STEM.fullmatch(stem)
    if found is None:
        raise ValueError(f"{stem!r:.80} names no catalog, expected catalog- and 16 hex digits, once or twice")
    return found[1], None if found[3] is None else f"columns-{found[3]}.parquet"


def _files_of(stem: str) -> tuple[str, ...]:
    items, columns = _parts_of(stem)
    return f"{items}.parquet", f"{items}.safetensors", *(() if columns is None else (columns,))


def save_versions(directory: str | Path, recommender: "Recommender") -> None:
    """Bring catalog and journal of a written recommender up to date; weights are not touched.

    Raises:
        ValueError: where the directory is of another recommender, or was changed since this one was read from it.
        LockedError: where another process keeps it locked.
    """
    target = Path(directory)
    with locked(target):
        manifest = read_manifest(target)
        stored = stored_journal(target, manifest)  # a damaged journal is not continued
        _check_follows(target, manifest, recommender)
        entries = _catalog_entries(recommender)
        if manifest | entries == manifest:
            return
        held = _files_of_all((manifest["catalog"], *manifest["catalog_history"]))
        versions = [*recommender.versions, Version.held(recommender.catalog)]
        wanted = _files_of_all(version.stem for version in versions)
        files = {name: digest for name, digest in manifest["files"].items() if name not in held - wanted}
        written: list[Path] = []
        try:
            for name in wanted - held:  # what an interrupted write left may be damaged
                written.append(target / name)
                (target / name).unlink(missing_ok=True)
            for version in versions:
                for path in _write_version(target, version):
                    files[path.name] = file_digest(path)
            journal = _continued(stored, recommender.journal)
            is_same_file = journal.dropped == stored.dropped
            if not is_same_file:
                written.append(target / journal_file(journal.dropped))
            digest = write_journal(target, journal, kept=len(stored) if is_same_file else 0)
            _write_manifest(target, manifest | entries | _journal_entries(journal, digest) | {"files": files})
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        if not is_same_file:
            (target / journal_file(stored.dropped)).unlink(missing_ok=True)
        for name in held - wanted:  # files that the manifest did not name stay
            (target / name).unlink(missing_ok=True)


def _continued(stored: Journal, journal: Journal) -> Journal:
    """Return the journal to write: the changes that are stored, and those that a recommender made after them."""
    return journal if journal.dropped > stored.total else stored.followed_by(journal.since(stored.total))


def _files_of_all(stems: Iterable[str]) -> set[str]:
    return {name for stem in stems for name in _files_of(stem)}


def _check_follows(target: Path, manifest: dict[str, Any], recommender: "Recommender") -> None:
    """Raise ValueError where a recommender's catalog does not come from the one that is written."""
    check_kind(target, manifest, recommender.kind)
    stored = np.trim_zeros(_read_popularity(target / POPULARITY, rows=manifest["popularity_rows"]), "b")
    if not np.array_equal(stored, np.trim_zeros(recommender.popularity, "b")):
        raise ValueError(
            f"{target} holds the counts of other clicks than this recommender ({int(stored.sum())} and "
            f"{int(recommender.popularity.sum())} clicks); save_catalog writes catalogs alone: save_pretrained to a "
            "directory of its own writes both"
        )
    mine = recommender.identity
    check_parts(
        target, [(f"the {name} of this recommender", digest, manifest.get(name)) for name, digest in mine.items()]
    )
    seen = manifest["journal"]
    if seen < recommender.journal.dropped and recommender.version_after(seen) is None:
        raise ValueError(
            f"the catalog in {target} is {manifest['catalog']} after {seen} changes; this recommender made "
            f"{recommender.journal.total} and remembers the last {len(recommender.journal)}, so that nothing tells "
            "whether its catalog follows from that one: save_pretrained writes all of it in place of what is there"
        )
    if manifest["catalog_version"] != recommender.version_after(seen):
        raise ValueError(
            f"the catalog in {target} is {manifest['catalog']} after {seen} changes, which this recommender does not "
            "know: something else has changed it; load it again and repeat the change"
        )
