"""Where a recommender lies: finding its directory, its manifest, and changing its catalog there in one step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub import snapshot_download
from safetensors.numpy import load_file, save_file

from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.files import atomic_path, read_json, write_json
from cost_hf.recommender.changes import Version, read_journal, write_journal
from cost_hf.recommender.sources import check_source

if TYPE_CHECKING:
    from cost_hf.recommender.door import BaseRecommender

FORMAT = 4  # 4: the prompt stands in the manifest; an adapter may stand in place of whole weights
MANIFEST, POPULARITY, ENCODER = "recommender.json", "popularity.safetensors", "encoder"


def locate(name_or_path: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Return the recommender directory of a run, of such a directory itself, or of a Hub id (downloaded or cached).

    Raises:
        OSError: where nothing is found.
    """
    path = Path(name_or_path)
    for candidate in (path, path / "recommender"):
        if (candidate / MANIFEST).is_file():
            return candidate
    if path.exists():
        raise OSError(f"{path} holds no {MANIFEST}; give a finished run directory or its recommender/ folder")
    check_source(name_or_path)
    found = Path(snapshot_download(str(name_or_path), revision=revision, token=token))
    if not (found / MANIFEST).is_file():
        raise OSError(f"the Hub repository {str(name_or_path)!r} holds no {MANIFEST}; give that of a recommender")
    return found


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read the manifest of a recommender directory; raise ValueError for another format."""
    manifest = read_json(Path(directory) / MANIFEST)
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{directory} has recommender format {manifest['format']!r}, this version reads {FORMAT}; "
            "use the cost_hf release that wrote it, or train again"
        )
    return manifest


def update_manifest(directory: str | Path, **entries: Any) -> None:
    """Change entries of a written manifest, such as `num_beams`, and nothing else."""
    path = Path(directory) / MANIFEST
    write_json(path, read_json(path) | entries)


def check_parts(directory: Path, parts: Sequence[tuple[str, str | None, str | None]]) -> None:
    """Raise ValueError for the first (name, digest found, digest wanted) that differ."""
    for part, found, wanted in parts:
        if found != wanted:
            raise ValueError(
                f"{part} in {directory} has digest {found}, {MANIFEST} asks for {wanted}; "
                "the files do not belong together: copy the whole directory of one run"
            )


def version_entries(recommender: "BaseRecommender") -> dict[str, Any]:
    """Return what a manifest says of catalog, versions and journal."""
    return {
        "catalog": recommender.catalog.stem,
        "catalog_digest": recommender.catalog.digest,
        "catalog_history": [version.stem for version in recommender.versions],
        "journal": len(recommender.journal),
    }


def write_catalog_parts(directory: Path, recommender: "BaseRecommender") -> dict[str, Any]:
    """Write what every kind has beside its network: catalogs, journal, popularity, encoder; return manifest entries."""
    write_versions(directory, recommender)
    with atomic_path(directory / POPULARITY) as temporary:
        save_file({"popularity": recommender.popularity}, temporary)
    if recommender.encoder is not None:
        recommender.encoder.save(directory / ENCODER)
    digest = None if recommender.encoder is None else recommender.encoder.digest
    return {
        "format": FORMAT,
        "kind": recommender.kind,
        "encoder_digest": digest,
        **version_entries(recommender),
        **recommender.identity,
    }


def read_catalog_parts(directory: Path, manifest: dict[str, Any], load: Callable[..., Any]) -> dict[str, Any]:
    """Read what `write_catalog_parts` wrote, as arguments of a recommender.

    Args:
        load: reads a catalog of this kind: `load(directory, stem=...)`.

    Raises:
        ValueError: for a catalog or text encoder that is not the manifest's; both digests are named.
    """
    catalog = load(directory, stem=manifest["catalog"])
    clicks = load_file(directory / POPULARITY)["popularity"]
    encoder = ItemEncoder.load(directory / ENCODER) if (directory / ENCODER).is_dir() else None
    parts = [("the catalog", catalog.digest, manifest["catalog_digest"])]
    if encoder is not None:
        parts.append(("the text encoder", encoder.digest, manifest["encoder_digest"]))
    check_parts(directory, parts)
    return {
        "catalog": catalog,
        "popularity": np.pad(clicks, (0, max(0, len(catalog) - len(clicks))))[: len(catalog)],
        "encoder": encoder,
        "journal": read_journal(directory, manifest["journal"]),
        "versions": [Version(stem, partial(load, directory, stem=stem)) for stem in manifest["catalog_history"]],
    }


def write_versions(directory: Path, recommender: "BaseRecommender") -> None:
    """Write the present catalog, the older ones that are not there yet, and the journal."""
    for version in recommender.versions:
        if not (directory / f"{version.stem}.safetensors").is_file():
            version.load().save(directory, stem=version.stem)
    recommender.catalog.save(directory, stem=recommender.catalog.stem)
    write_journal(directory, recommender.journal)


def save_versions(directory: str | Path, recommender: "BaseRecommender") -> None:
    """Bring catalog and journal of a written recommender up to date; weights are not touched.

    Raises:
        ValueError: where the directory is of another recommender, or was changed since this one was read from it.
    """
    target = Path(directory)
    manifest = read_manifest(target)
    identity = recommender.identity
    check_parts(
        target, [(f"the {name} of this recommender", mine, manifest.get(name)) for name, mine in identity.items()]
    )
    known = [recommender.catalog.version, *(change.before for change in recommender.journal[:1])][-1]
    seen = manifest["journal"]
    if 0 < seen <= len(recommender.journal):
        known = recommender.journal[seen - 1].after
    if seen > len(recommender.journal) or manifest["catalog"] != f"catalog-{known[:16]}":
        raise ValueError(
            f"the catalog in {target} is {manifest['catalog']} after {seen} changes, which this recommender does not "
            "know: something else has changed it; load it again and repeat the change"
        )
    write_versions(target, recommender)
    update_manifest(target, **version_entries(recommender))
    named = {recommender.catalog.stem, *(version.stem for version in recommender.versions)}
    for path in target.glob("catalog-*"):
        if path.stem not in named:
            path.unlink()
