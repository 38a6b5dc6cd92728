"""A generative recommender on disk: every part it needs, and the digests that say the parts belong together.

The directory is a stock transformers model (so its Auto class loads it) with `custom_generate/` (constrained without
this package), `vocabulary.json`, `catalog-<version>.*`, `popularity.safetensors`, `quantizer/`, `encoder/` and
`recommender.json`. The manifest is removed first and written last: a directory without it is no recommender.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from cost_hf.data.item_encoder import FILE_NAME as ENCODER_FILE
from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.files import atomic_path, write_json
from cost_hf.quantizer import CostModel
from cost_hf.recommender.changes import CatalogChange, Version, read_journal
from cost_hf.recommender.repository import (
    FORMAT,
    MANIFEST,
    check_parts,
    read_manifest,
    version_entries,
    write_versions,
)
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from cost_hf.recommender.recommender import Recommender

PROTOCOL = ("max_history", "num_beams", "normalization")
CUSTOM_GENERATE = "custom_generate"


@dataclass(frozen=True)
class Bundle:
    """The parts of a recommender; `protocol` holds how it was trained and judged, the entries of `PROTOCOL`."""

    generator: PreTrainedModel
    tokenizer: Any
    catalog: Catalog
    vocabulary: SidVocabulary
    popularity: np.ndarray
    quantizer: CostModel | None
    encoder: ItemEncoder | None
    journal: tuple[CatalogChange, ...]
    versions: tuple[Version, ...]
    protocol: dict[str, Any]


def write_bundle(directory: str | Path, recommender: "Recommender") -> None:
    """Write all parts into `directory`, the manifest last."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    (target / MANIFEST).unlink(missing_ok=True)
    recommender.generator.config.semantic_ids = recommender.identity
    recommender.generator.save_pretrained(target)
    if recommender.tokenizer is not None:
        recommender.tokenizer.save_pretrained(target)
    with atomic_path(target / CUSTOM_GENERATE / "generate.py") as temporary:
        shutil.copyfile(Path(__file__).parent / CUSTOM_GENERATE / "generate.py", temporary)
    recommender.vocabulary.save(target)
    write_versions(target, recommender)
    with atomic_path(target / "popularity.safetensors") as temporary:
        save_file({"popularity": np.asarray(recommender.popularity, dtype=np.int64)}, temporary)
    if recommender.quantizer is not None:
        with atomic_path(target / "quantizer") as temporary:
            recommender.quantizer.save_pretrained(temporary)
    if recommender.encoder is not None:
        recommender.encoder.save(target / "encoder")
    manifest = {
        "format": FORMAT,
        "kind": recommender.kind,
        "encoder_digest": None if recommender.encoder is None else recommender.encoder.digest,
        **version_entries(recommender),
        **recommender.identity,
        **{name: getattr(recommender, name) for name in PROTOCOL},
    }
    write_json(target / MANIFEST, manifest)


def read_bundle(source: Path, *, generator: PreTrainedModel | None = None) -> Bundle:
    """Read all parts of a recommender directory.

    Args:
        source: as `locate` finds it.
        generator: the model, where it is loaded already.

    Raises:
        ValueError: where a part does not belong to the others; both digests are named.
    """
    manifest = read_manifest(source)
    catalog, vocabulary = Catalog.load(source, stem=manifest["catalog"]), SidVocabulary.load(source)
    generator = _read_generator(source) if generator is None else generator
    quantizer = CostModel.from_pretrained(source / "quantizer") if (source / "quantizer").is_dir() else None
    encoder = ItemEncoder.load(source / "encoder") if (source / "encoder" / ENCODER_FILE).is_file() else None
    learned = getattr(generator.config, "semantic_ids", {})
    parts = [
        ("the catalog", catalog.digest, manifest["catalog_digest"]),
        ("the assignment of the catalog", catalog.lineage, manifest["assignment_digest"]),
        ("the vocabulary", vocabulary.digest, manifest["vocabulary_digest"]),
        *(
            (f"the {name} that the generator learned", learned.get(f"{name}_digest"), manifest[f"{name}_digest"])
            for name in ("vocabulary", "assignment")
        ),
    ]
    if quantizer is not None:
        parts.append(("the quantizer", assignment_digest(quantizer), manifest["assignment_digest"]))
    if encoder is not None:
        parts.append(("the text encoder", encoder.digest, manifest["encoder_digest"]))
    check_parts(source, parts)
    clicks = load_file(source / "popularity.safetensors")["popularity"]
    return Bundle(
        generator=generator,
        tokenizer=AutoTokenizer.from_pretrained(source) if (source / "tokenizer_config.json").is_file() else None,
        catalog=catalog,
        vocabulary=vocabulary,
        popularity=np.pad(clicks, (0, max(0, len(catalog) - len(clicks))))[: len(catalog)],
        quantizer=quantizer,
        encoder=encoder,
        journal=read_journal(source, manifest["journal"]),
        versions=tuple(_version(source, stem) for stem in manifest["catalog_history"]),
        protocol={name: manifest[name] for name in PROTOCOL},
    )


def _version(source: Path, stem: str) -> Version:
    return Version(stem, lambda: Catalog.load(source, stem=stem))


def _read_generator(folder: Path) -> PreTrainedModel:
    is_encoder_decoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
    auto = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
    return auto.from_pretrained(folder)
