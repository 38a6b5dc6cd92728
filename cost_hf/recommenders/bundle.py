"""A generative recommender on disk: every part it needs, and the digests that say the parts belong together.

The directory is a stock transformers model (so its Auto class loads it) with `custom_generate/` (constrained without
this package), `vocabulary.json`, `quantizer/`, `recommender.json` and what every kind has (`read_catalog_parts`). With
LoRA a peft adapter stands in the model's place, and the manifest names the base model and its digest.
"""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from cost_hf.files import DamagedFileError, check_fields, load_all_weights, readable_load_errors
from cost_hf.generators.adapters import load_adapted
from cost_hf.generators.pretrained import BaseModel, auto_class
from cost_hf.generators.prompts import PromptLayout
from cost_hf.plugins import load_plugins
from cost_hf.quantizers.cost import CostModel
from cost_hf.recommenders.repository import (
    MANIFEST,
    check_kind,
    check_parts,
    read_catalog_parts,
    read_whole,
    save_whole,
)
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.sizes import MAX_HISTORY, MAX_RANKED
from cost_hf.semantic_ids.vocabulary import SidVocabulary

if TYPE_CHECKING:
    from cost_hf.recommenders.generative import GenerativeRecommender

METHODS = "cost_hf.methods"  # package and group of plugins that register model classes
PROTOCOL = ("max_history", "num_beams", "normalization")
CUSTOM_GENERATE, QUANTIZER = "custom_generate", "quantizer"
FIELDS = {
    "vocabulary_digest": str,
    "assignment_digest": str,
    "max_history": int,
    "num_beams": int,
    "normalization": str,
    "prompt": dict,
}
BASE_FIELDS = {"name": str, "revision": str | None, "digest": str, "added_tokens": int}


def write_bundle(directory: str | Path, recommender: "GenerativeRecommender") -> None:
    """Write all parts in place of a recommender that is there; where anything fails, that one stays.

    Raises:
        ValueError: for a quantizer that did not make the catalog's codes; what is there stays.
        OSError: where the directory can't be written to.
    """
    if recommender.quantizer is not None:
        digest = assignment_digest(recommender.quantizer)
        if digest != recommender.catalog.quantizer_digest:
            raise ValueError(
                f"the quantizer has assignment digest {digest}, the catalog's codes {recommender.catalog.quantizer_digest}; "
                "save the quantizer that they were made with"
            )
    save_whole(directory, recommender, partial(_write_own_parts, recommender))


def _write_own_parts(recommender: "GenerativeRecommender", folder: Path) -> dict[str, Any]:
    recommender.generator.config.semantic_ids = recommender.identity
    recommender.generator.save_pretrained(folder)
    if recommender.tokenizer is not None:
        recommender.tokenizer.save_pretrained(folder)
    if recommender.base is None:  # transformers puts it into models that it loads from here, not into adapters
        (folder / CUSTOM_GENERATE).mkdir()
        shutil.copyfile(
            Path(__file__).parent / CUSTOM_GENERATE / "generate.py", folder / CUSTOM_GENERATE / "generate.py"
        )
    recommender.vocabulary.save(folder)
    if recommender.quantizer is not None:
        recommender.quantizer.save_pretrained(folder / QUANTIZER)
    entries: dict[str, Any] = {name: getattr(recommender, name) for name in PROTOCOL}
    entries["prompt"] = asdict(recommender.layout)
    if recommender.base is not None:
        (folder / "README.md").unlink(missing_ok=True)  # peft's card knows nothing of the recommender
        entries["base"] = asdict(recommender.base)
    return entries


def read_bundle(source: Path, *, generator: PreTrainedModel | None = None) -> dict[str, Any]:
    """Read all parts of a recommender directory, as arguments of `GenerativeRecommender`.

    Args:
        source: as `locate` finds it.
        generator: the model, where it is loaded already.

    Raises:
        OSError: where a file, or the base model of an adapter, can't be read.
        ValueError: for a damaged file, or a part that does not belong to the others; both digests are named.
    """
    return read_whole(source, lambda manifest: _read_parts(source, manifest, generator))


def _read_parts(source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None) -> dict[str, Any]:
    check_kind(source, manifest, "generator")
    _check_entries(source, manifest)
    parts = read_catalog_parts(source, manifest, Catalog.load)
    _check_bounds(source, manifest, num_items=len(parts["catalog"]))
    vocabulary = SidVocabulary.load(source)
    check_parts(source, [("the vocabulary", vocabulary.digest, manifest["vocabulary_digest"])])
    tokenizer = None
    if (source / "tokenizer_config.json").is_file():
        with readable_load_errors("the tokenizer", source):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    base = BaseModel(**manifest["base"]) if "base" in manifest else None
    if generator is None:
        generator = _read_generator(source) if base is None else load_adapted(source, base, vocabulary, tokenizer)
    quantizer = None
    if (source / QUANTIZER).is_dir():
        quantizer = load_all_weights("the quantizer", source / QUANTIZER, CostModel.from_pretrained)
    # whole weights say in their config what they learned; an adapter's files are those that the manifest names
    learned = getattr(generator.config, "semantic_ids", {}) if base is None else manifest
    assigned: list[tuple[str, str | None]] = [
        ("the assignment of the catalog", parts["catalog"].quantizer_digest),
        ("the assignment that the generator learned", learned.get("assignment_digest")),
    ]
    if quantizer is not None:
        assigned.append(("the quantizer", assignment_digest(quantizer)))
    check_parts(source, [(*part, manifest["assignment_digest"]) for part in assigned])
    spelled = ("the vocabulary that the generator learned", learned.get("vocabulary_digest"))
    check_parts(source, [(*spelled, manifest["vocabulary_digest"])])
    layout = PromptLayout(*(tuple(manifest["prompt"][part]) for part in ("before", "after")))
    rows = generator.get_input_embeddings().weight.shape[0]
    highest = max(vocabulary.size - 1, *layout.before, *layout.after)
    if highest >= rows:
        raise DamagedFileError(
            f"{source}: vocabulary and prompt go up to token {highest}, and the generator has {rows} rows of tokens; "
            "the files do not belong together: copy the whole directory of one run"
        )
    return {
        "generator": generator,
        "vocabulary": vocabulary,
        "quantizer": quantizer,
        "tokenizer": tokenizer,
        "base": base,
        "layout": layout,
        **parts,
        **{name: manifest[name] for name in PROTOCOL},
    }


def _check_bounds(source: Path, manifest: dict[str, Any], *, num_items: int) -> None:
    """Raise ValueError for a size that no recommender of this catalog takes, before anything of that size is made."""
    for name, most in {"max_history": MAX_HISTORY, "num_beams": max(MAX_RANKED, num_items)}.items():
        if not 1 <= manifest[name] <= most:
            raise DamagedFileError(
                f"{source / MANIFEST} has {name}={manifest[name]!r}, expected 1 to {most}; save the recommender with "
                "another"
            )


def _check_entries(source: Path, manifest: dict[str, Any]) -> None:
    """Raise ValueError for an entry of a generator's manifest that no recommender has."""
    path = source / MANIFEST
    check_fields(manifest, FIELDS, source=path)
    check_fields(manifest["prompt"], {"before": list[int], "after": list[int]}, source=f"{path}, prompt")
    if min((0, *manifest["prompt"]["before"], *manifest["prompt"]["after"])) < 0:
        raise DamagedFileError(f"{path} has prompt={manifest['prompt']!r:.80}, expected token ids; copy it again")
    if "base" in manifest:
        check_fields(manifest, {"base": dict}, source=path)
        check_fields(manifest["base"], BASE_FIELDS, source=f"{path}, base")
        if set(manifest["base"]) != set(BASE_FIELDS):
            raise DamagedFileError(f"{path} has base={manifest['base']!r:.80}, expected {', '.join(BASE_FIELDS)} alone")


def _read_generator(folder: Path) -> PreTrainedModel:
    """Load a generator by the Auto class of its configuration; a method registers its own model classes there."""
    with readable_load_errors("the generator", folder):
        model_type = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
        if model_type not in CONFIG_MAPPING:
            load_plugins(METHODS)
        auto = auto_class(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    return load_all_weights("the generator", folder, auto.from_pretrained, trust_remote_code=False)
