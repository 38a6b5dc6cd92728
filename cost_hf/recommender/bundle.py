"""A generative recommender on disk: every part it needs, and the digests that say the parts belong together.

The directory is a stock transformers model (so its Auto class loads it) with `custom_generate/` (constrained without
this package), `vocabulary.json`, `quantizer/`, `recommender.json` and what every kind has (`write_catalog_parts`).
The manifest is removed first and written last: a directory without it is no recommender.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from cost_hf.files import atomic_path, write_json
from cost_hf.quantizer import CostModel
from cost_hf.recommender.repository import MANIFEST, check_parts, read_catalog_parts, read_manifest, write_catalog_parts
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from cost_hf.recommender.recommender import Recommender

PROTOCOL = ("max_history", "num_beams", "normalization")
CUSTOM_GENERATE = "custom_generate"


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
    if recommender.quantizer is not None:
        with atomic_path(target / "quantizer") as temporary:
            recommender.quantizer.save_pretrained(temporary)
    entries = write_catalog_parts(target, recommender)
    write_json(target / MANIFEST, entries | {name: getattr(recommender, name) for name in PROTOCOL})


def read_bundle(source: Path, *, generator: PreTrainedModel | None = None) -> dict[str, Any]:
    """Read all parts of a recommender directory, as arguments of `Recommender`.

    Args:
        source: as `locate` finds it.
        generator: the model, where it is loaded already.

    Raises:
        ValueError: where a part does not belong to the others; both digests are named.
    """
    manifest = read_manifest(source)
    parts = read_catalog_parts(source, manifest, Catalog.load)
    vocabulary = SidVocabulary.load(source)
    generator = _read_generator(source) if generator is None else generator
    quantizer = CostModel.from_pretrained(source / "quantizer") if (source / "quantizer").is_dir() else None
    learned = getattr(generator.config, "semantic_ids", {})
    assigned: list[tuple[str, str | None]] = [
        ("the assignment of the catalog", parts["catalog"].lineage),
        ("the assignment that the generator learned", learned.get("assignment_digest")),
    ]
    if quantizer is not None:
        assigned.append(("the quantizer", assignment_digest(quantizer)))
    spelled: list[tuple[str, str | None]] = [
        ("the vocabulary", vocabulary.digest),
        ("the vocabulary that the generator learned", learned.get("vocabulary_digest")),
    ]
    check_parts(source, [(*part, manifest["assignment_digest"]) for part in assigned])
    check_parts(source, [(*part, manifest["vocabulary_digest"]) for part in spelled])
    return {
        "generator": generator,
        "vocabulary": vocabulary,
        "quantizer": quantizer,
        "tokenizer": AutoTokenizer.from_pretrained(source) if (source / "tokenizer_config.json").is_file() else None,
        **parts,
        **{name: manifest[name] for name in PROTOCOL},
    }


def _read_generator(folder: Path) -> PreTrainedModel:
    is_encoder_decoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
    auto = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
    return auto.from_pretrained(folder)
