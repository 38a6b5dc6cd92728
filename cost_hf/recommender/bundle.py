"""A generative recommender on disk: every part it needs, and the digests that say the parts belong together.

The directory is a stock transformers model (so its Auto class loads it) with `custom_generate/` (constrained without
this package), `vocabulary.json`, `quantizer/`, `recommender.json` and what every kind has (`write_catalog_parts`). With
LoRA a peft adapter stands in the model's place, and the manifest names the base model and its digest. The manifest is
removed first and written last: a directory without it is no recommender.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from cost_hf.files import atomic_path, file_digest, write_json
from cost_hf.quantizer import CostModel
from cost_hf.recommender.adapters import CONFIG, WEIGHTS, load_adapted
from cost_hf.recommender.pretrained import BaseModel, auto_class
from cost_hf.recommender.prompts import PromptLayout
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
    for path in (*target.glob("*model*.safetensors*"), target / CONFIG, target / "config.json"):
        path.unlink(missing_ok=True)  # of the other form: an adapter, or whole weights
    recommender.generator.save_pretrained(target)
    if recommender.tokenizer is not None:
        recommender.tokenizer.save_pretrained(target)
    shutil.rmtree(target / CUSTOM_GENERATE, ignore_errors=True)
    if recommender.base is None:  # transformers puts it into models that it loads from here, not into adapters
        with atomic_path(target / CUSTOM_GENERATE / "generate.py") as temporary:
            shutil.copyfile(Path(__file__).parent / CUSTOM_GENERATE / "generate.py", temporary)
    recommender.vocabulary.save(target)
    if recommender.quantizer is not None:
        with atomic_path(target / "quantizer") as temporary:
            recommender.quantizer.save_pretrained(temporary)
    entries = write_catalog_parts(target, recommender) | {name: getattr(recommender, name) for name in PROTOCOL}
    entries["prompt"] = asdict(recommender.layout)
    if recommender.base is not None:
        (target / "README.md").unlink(missing_ok=True)  # peft's card knows nothing of the recommender
        entries["base"] = asdict(recommender.base) | {"adapter_digest": file_digest(target / WEIGHTS)}
    write_json(target / MANIFEST, entries)


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
    check_parts(source, [("the vocabulary", vocabulary.digest, manifest["vocabulary_digest"])])
    tokenizer = AutoTokenizer.from_pretrained(source) if (source / "tokenizer_config.json").is_file() else None
    base = None
    if "base" in manifest:
        known = dict(manifest["base"])
        check_parts(source, [("the adapter", file_digest(source / WEIGHTS), known.pop("adapter_digest"))])
        base = BaseModel(**known)
    if generator is None:
        generator = _read_generator(source) if base is None else load_adapted(source, base, vocabulary, tokenizer)
    quantizer = CostModel.from_pretrained(source / "quantizer") if (source / "quantizer").is_dir() else None
    # an adapter is known by its own digest; whole weights say in their config what they learned
    learned = getattr(generator.config, "semantic_ids", {}) if base is None else manifest
    assigned: list[tuple[str, str | None]] = [
        ("the assignment of the catalog", parts["catalog"].lineage),
        ("the assignment that the generator learned", learned.get("assignment_digest")),
    ]
    if quantizer is not None:
        assigned.append(("the quantizer", assignment_digest(quantizer)))
    check_parts(source, [(*part, manifest["assignment_digest"]) for part in assigned])
    spelled = ("the vocabulary that the generator learned", learned.get("vocabulary_digest"))
    check_parts(source, [(*spelled, manifest["vocabulary_digest"])])
    return {
        "generator": generator,
        "vocabulary": vocabulary,
        "quantizer": quantizer,
        "tokenizer": tokenizer,
        "base": base,
        "layout": PromptLayout(*(tuple(manifest["prompt"][part]) for part in ("before", "after"))),
        **parts,
        **{name: manifest[name] for name in PROTOCOL},
    }


def _read_generator(folder: Path) -> PreTrainedModel:
    return auto_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder)
