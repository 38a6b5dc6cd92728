"""A recommender on disk: every part it needs, and the digests that say the parts belong together.

The directory holds `generator/` (a stock transformers model), `vocabulary.json`, `catalog-<digest>.*`,
`popularity.safetensors` and `recommender.json`. The manifest names the catalog and is written last, so its atomic
rename is the step at which a new catalog takes effect.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from cost_hf.files import atomic_path, read_json, write_json
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

FORMAT = 2  # 2: the protocol names the normalization of scores
MANIFEST = "recommender.json"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
PROTOCOL = ("max_history", "num_beams", "normalization")


@dataclass(frozen=True)
class Bundle:
    """The parts of a recommender; `protocol` holds how it was trained and judged, the entries of `PROTOCOL`."""

    generator: PreTrainedModel
    tokenizer: Any
    catalog: Catalog
    vocabulary: SidVocabulary
    popularity: np.ndarray
    protocol: dict[str, Any]


def write_bundle(
    directory: str | Path,
    *,
    generator: PreTrainedModel,
    tokenizer: Any,
    catalog: Catalog,
    vocabulary: SidVocabulary,
    popularity: np.ndarray,
    protocol: dict[str, Any],
) -> None:
    """Write all parts into `directory`, the manifest last."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    generator.config.semantic_ids = {"vocabulary": vocabulary.digest, "assignment": catalog.lineage}
    with atomic_path(target / "generator") as temporary:
        generator.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    vocabulary.save(target)
    stem = f"catalog-{catalog.digest[:16]}"
    catalog.save(target, stem=stem)
    with atomic_path(target / "popularity.safetensors") as temporary:
        save_file({"popularity": np.asarray(popularity, dtype=np.int64)}, temporary)
    manifest = {
        "format": FORMAT,
        "catalog": stem,
        "catalog_digest": catalog.digest,
        "catalog_parent": None,
        "vocabulary_digest": vocabulary.digest,
        "assignment_digest": catalog.lineage,
    }
    write_json(target / MANIFEST, manifest | protocol)


def update_protocol(directory: str | Path, **protocol: Any) -> None:
    """Change entries of a written recommender's protocol, such as `num_beams`, and nothing else."""
    path = Path(directory) / MANIFEST
    write_json(path, read_json(path) | protocol)


def read_bundle(name_or_path: str | Path) -> Bundle:
    """Read all parts of a run directory, a recommender directory or a Hub id.

    Raises:
        ValueError: where a part does not belong to the others; both digests are named.
        OSError: where nothing is found.
    """
    source = _locate(name_or_path)
    manifest = read_json(source / MANIFEST)
    if "catalog" not in manifest:
        raise ValueError(
            f"{source} holds a recommender of kind {manifest.get('kind')!r} without semantic IDs; load it by its own "
            "class (sasrec: cost_hf.methods.sasrec_recommender.SasRecRecommender)"
        )
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{source} has recommender format {manifest['format']!r}, this version reads {FORMAT}; "
            "use the cost_hf release that wrote it, or train again"
        )
    catalog, vocabulary = Catalog.load(source, stem=manifest["catalog"]), SidVocabulary.load(source)
    generator, tokenizer = _read_generator(source / "generator")
    learned = getattr(generator.config, "semantic_ids", {})
    for part, found, wanted in (
        ("the catalog", catalog.digest, manifest["catalog_digest"]),
        ("the assignment of the catalog", catalog.lineage, manifest["assignment_digest"]),
        ("the vocabulary", vocabulary.digest, manifest["vocabulary_digest"]),
        ("the assignment that the generator learned", learned.get("assignment"), manifest["assignment_digest"]),
        ("the vocabulary that the generator learned", learned.get("vocabulary"), manifest["vocabulary_digest"]),
    ):
        if found != wanted:
            raise ValueError(
                f"{part} in {source} has digest {found}, {MANIFEST} asks for {wanted}; "
                "the files do not belong together: copy the whole directory of one run"
            )
    popularity = load_file(source / "popularity.safetensors")["popularity"]
    return Bundle(generator, tokenizer, catalog, vocabulary, popularity, {name: manifest[name] for name in PROTOCOL})


def _read_generator(folder: Path) -> tuple[PreTrainedModel, Any]:
    is_encoder_decoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
    auto = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return auto.from_pretrained(folder), AutoTokenizer.from_pretrained(folder) if has_tokenizer else None


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    for candidate in (path, path / "recommender"):
        if (candidate / MANIFEST).is_file():
            return candidate
    if path.exists():
        raise OSError(f"{path} holds no {MANIFEST}; give a finished run directory or its recommender/ folder")
    if not HUB_ID.fullmatch(str(name_or_path)):
        raise FileNotFoundError(f"{str(name_or_path)!r} is neither a directory nor a Hub id (org/name); check the path")
    return Path(snapshot_download(str(name_or_path)))
