"""Recommendation by a generator of semantic IDs: generator, catalog, vocabulary, quantizer and text encoder together.

A saved directory is a stock transformers model, which its Auto class loads, with `custom_generate/` (constrained
generation without this package), `vocabulary.json`, `quantizer/`, `recommender.json` and what every kind has. With LoRA
a peft adapter takes the place of the model, and the manifest names the base model and its digest. Digests say which
parts belong together.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from cost_hf.data.encoders import ItemEncoder
from cost_hf.files import DamagedFileError, check_fields, content_digest, readable_load_errors
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.pretrained import BaseModel, auto_class
from cost_hf.generators.prompts import PromptBuilder, PromptLayout
from cost_hf.model_files import load_all_weights
from cost_hf.quantizers.base import Quantizer, reads_texts
from cost_hf.recommenders.base import checked_device
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.recommenders.catalog_changes import CatalogChange, Version
from cost_hf.recommenders.catalog_snapshot import CatalogSnapshot
from cost_hf.recommenders.coded import SidRecommender
from cost_hf.recommenders.repository import (
    GENERATOR_FILES,
    MANIFEST,
    QUANTIZER,
    WEIGHT_FILES,
    check_parts,
    read_catalog_parts,
)
from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from cost_hf.semantic_ids.options import MAX_HISTORY, MAX_RANKED, ranked_number, whole_number
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

CUSTOM_GENERATE = "custom_generate"
USERS = "users"  # folder of the vocabulary of users
PROTOCOL = ("max_history", "num_beams", "normalization")  # how histories are read and searched, in the manifest
FIELDS = {
    "vocabulary_digest": str,
    "assignment_digest": str,
    "max_history": int,
    "num_beams": int,
    "normalization": str,
    "prompt": dict,
}
BASE_FIELDS = {"name": str, "revision": str | None, "digest": str, "added_tokens": int}


class SidSnapshot(CatalogSnapshot):
    """A catalog of semantic IDs with the trie and the prompts that a search reads."""

    def __init__(self, catalog: Catalog, clicks: np.ndarray, prompts: PromptBuilder):
        super().__init__(catalog, clicks)
        self.prompts = prompts
        self.trie = SidTrie.from_catalog(catalog, popularity=self.popularity)


class GenerativeRecommender(SidRecommender):
    """Recommends catalog items by constrained generation of semantic IDs.

    Args:
        backbone: generator trained on the catalog's SIDs, with its vocabulary, prompts and tokenizer; the first layout
            is the prompt that recommends.
        catalog: the items.
        popularity: training clicks of every catalog row, `[N]`; answers empty histories and orders items of one SID.
        num_beams: beams of the search, raised to `top_k` where that is larger.
        normalization: of its scores, as for `beam_search`.
        quantizer: gives vectors their codes; None for codes that came without a model.
        encoder: gives texts their vectors.
        journal, versions: of `CatalogUpdates`.

    Raises:
        ValueError: for parts of different catalogs, or sizes that no search has.

    Examples:
        >>> from cost_hf.recommenders.example import example_recommender
        >>> recommender = example_recommender()
        >>> recommender.encode(["mug for tea"]).shape  # codes of 2 levels
        (1, 2)
        >>> recommender.catalog.level_sizes  # and the level that the catalog appends
        (4, 4, 8)
    """

    kind = "generator"
    source = "generator"
    published_files = rf"{GENERATOR_FILES}|{QUANTIZER}/({WEIGHT_FILES})|{CUSTOM_GENERATE}/generate\.py"
    snapshot: SidSnapshot

    def __init__(
        self,
        backbone: Backbone,
        catalog: Catalog,
        *,
        popularity: np.ndarray,
        num_beams: int = 50,
        normalization: str = "vocabulary",
        quantizer: Quantizer | None = None,
        encoder: ItemEncoder | None = None,
        journal: Sequence[CatalogChange] = (),
        versions: Sequence[Version] = (),
    ):
        check_normalization(normalization)
        whole_number(backbone.max_history, "max_history", most=MAX_HISTORY)
        ranked_number(num_beams, "num_beams", len(catalog))
        self.generator = backbone.model.eval()
        self.layout = backbone.layouts[0]
        self.max_history = backbone.max_history
        self.tokenizer = backbone.tokenizer
        self.base = backbone.base
        self.user_vocabulary = backbone.users
        self.num_beams = num_beams
        self.normalization = normalization
        self.needs_user_ids = backbone.vocabulary.num_user_tokens > 0
        super().__init__(
            catalog,
            popularity=popularity,
            vocabulary=backbone.vocabulary,
            quantizer=quantizer,
            encoder=encoder,
            journal=journal,
            versions=versions,
        )
        if self._shares_base and reads_texts(self.quantizer):
            from cost_hf.generators.adapters import bare_base  # peft takes a while to import

            self.quantizer.attach_base(bare_base(self.generator))

    def to(self, device: torch.device | str) -> Self:
        """Move the generator, and a quantizer that reads texts, to a device, in place; answers differ by rounding."""
        device = checked_device(device)
        self.generator.to(device)
        if reads_texts(self.quantizer):
            self.quantizer.to(device)
        return self

    def merge(self) -> Self:
        """Add an adapter to the weights of its base, in place; without one nothing changes.

        The recommender then needs no base model and saves whole weights, which their Auto class loads. Scores change
        by rounding alone. A quantizer that reads texts by the same base loads it anew with the next text.
        """
        if self.base is not None:
            if self._shares_base and reads_texts(self.quantizer):
                self.quantizer.release_base()
            self.generator = self.generator.merge_and_unload().eval()
            self.base = None
        return self

    @property
    def backbone(self) -> Backbone:
        """The generator with what it was made of, for more training."""
        return Backbone(
            self.generator,
            self.vocabulary,
            (self.layout,),
            self.max_history,
            tokenizer=self.tokenizer,
            base=self.base,
            users=self.user_vocabulary,
        )

    @property
    def _shares_base(self) -> bool:
        """Whether the quantizer reads texts by the model whose adapter the generator is."""
        return self.base is not None and reads_texts(self.quantizer) and self.quantizer.base_digest == self.base.digest

    @property
    def trie(self) -> SidTrie:
        """Index of the catalog's SIDs."""
        return self.snapshot.trie

    @property
    def prompts(self) -> PromptBuilder:
        """Layout of histories for this generator and catalog."""
        return self.snapshot.prompts

    @property
    def network(self) -> PreTrainedModel:
        """The generator."""
        return self.generator

    @property
    def auto_class(self) -> str | None:
        """Name of the Auto class of whole weights; None for an adapter, which needs its base."""
        return None if self.base is not None else auto_class(self.generator.config).__name__

    @property
    def identity(self) -> dict[str, str]:
        """The digests that tie catalog, quantizer and generator together."""
        return {"vocabulary_digest": self.vocabulary.digest, "assignment_digest": self.catalog.quantizer_digest}

    def ranker_for(self, top_k: int, snapshot: CatalogSnapshot | None = None) -> BeamRanker:
        """Return the beam search over the present (or the given) snapshot, with at least `top_k` beams."""
        at = snapshot if isinstance(snapshot, SidSnapshot) else self.snapshot
        return BeamRanker(
            self.generator,
            at.prompts,
            at.trie,
            num_beams=max(self.num_beams, top_k),
            normalization=self.normalization,
        )

    @property
    def search_settings(self) -> dict[str, Any]:
        """How histories are read and searched, as JSON."""
        return {name: getattr(self, name) for name in PROTOCOL} | {"prompt": asdict(self.layout)}

    @property
    def model_digest(self) -> str:
        """Digest of what lists depend on besides the catalog; with an adapter, of it and of the digest of its base."""
        own = super().model_digest
        return own if self.base is None else content_digest("cost_hf.adapted.1", own, self.base.digest)

    def prompt_inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return histories `[B, T]` (catalog rows, -1 pads on the right) as arguments of the generator's `generate()`.

        Args:
            histories: as for a ranker.
            user_ids: one per history, for generators trained with user tokens.
        """
        input_ids, attention_mask = self.prompts.inputs(histories, user_ids=user_ids)
        device = self.generator.device
        return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}

    def _weights(self) -> dict[str, Tensor]:
        if self.base is None:
            return super()._weights()
        from cost_hf.generators.adapters import adapter_weights  # peft takes a while to import

        # the rows of SID tokens in the base are never read, and another load makes others
        return adapter_weights(self.generator)

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        self._write_quantizer(folder)
        self.generator.config.semantic_ids = self.identity
        self.generator.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        if self.base is None:  # transformers runs it with models that it loads from here, not with adapters
            (folder / CUSTOM_GENERATE).mkdir()
            script = Path(CUSTOM_GENERATE) / "generate.py"
            shutil.copyfile(Path(__file__).parent / script, folder / script)
        self.vocabulary.save(folder)
        if self.user_vocabulary is not None:
            (folder / USERS).mkdir(exist_ok=True)
            self.user_vocabulary.save(folder / USERS)
        entries = self.search_settings
        if self.base is not None:
            (folder / "README.md").unlink(missing_ok=True)  # peft's card describes the adapter alone
            entries["base"] = asdict(self.base)
        return entries

    @classmethod
    def _read_parts(
        cls, source: Path, manifest: dict[str, Any], *, generator: PreTrainedModel | None = None
    ) -> "GenerativeRecommender":
        """Read all parts of a directory.

        Args:
            generator: its model, where that is loaded already.

        Raises:
            ValueError: for a damaged file, or a part that does not belong to the others; both digests are named.
        """
        return cls(**cls._read_arguments(source, manifest, generator))

    @classmethod
    def _read_arguments(
        cls, source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None
    ) -> dict[str, Any]:
        _check_entries(source, manifest)
        parts = read_catalog_parts(source, manifest, cls.catalog_class)
        _check_bounds(source, manifest, num_items=len(parts["catalog"]))
        backbone = _read_backbone(source, manifest, generator)
        quantizer = cls._read_quantizer(source)
        # whole weights hold in their config what they were trained on; an adapter's files are those of the manifest
        trained_on = manifest if backbone.base is not None else getattr(backbone.model.config, "semantic_ids", {})
        if not isinstance(trained_on, dict):
            raise DamagedFileError(
                f"semantic_ids of config.json in {source} must be an object of digests, got {trained_on!r:.80}; copy "
                "the directory again"
            )
        assigned: list[tuple[str, str | None]] = [
            ("the assignment of the catalog", parts["catalog"].quantizer_digest),
            ("the assignment that the generator learned", trained_on.get("assignment_digest")),
        ]
        if quantizer is not None:
            assigned.append(("the quantizer", assignment_digest(quantizer)))
        check_parts(source, [(*part, manifest["assignment_digest"]) for part in assigned])
        learned = ("the vocabulary that the generator learned", trained_on.get("vocabulary_digest"))
        check_parts(source, [(*learned, manifest["vocabulary_digest"])])
        search = {name: manifest[name] for name in ("num_beams", "normalization")}
        return {"backbone": backbone, "quantizer": quantizer, **parts, **search}

    def _snapshot_of(self, catalog: Any) -> SidSnapshot:
        return SidSnapshot(catalog, self._clicks, self._prompts_for(catalog))

    def _prompts_for(self, catalog: Catalog) -> PromptBuilder:
        return PromptBuilder.for_catalog(
            catalog,
            self.vocabulary,
            is_causal=not self.generator.config.is_encoder_decoder,
            max_history=self.max_history,
            layout=self.layout,
        )


def _read_backbone(source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None) -> Backbone:
    """Read the generator (unless it is given) with its vocabulary, prompt and tokenizer."""
    vocabulary = SidVocabulary.load(source)
    check_parts(source, [("the vocabulary", vocabulary.digest, manifest["vocabulary_digest"])])
    tokenizer = None
    if (source / "tokenizer_config.json").is_file():
        with readable_load_errors("the tokenizer", source):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    users = SidVocabulary.load(source / USERS) if (source / USERS).is_dir() else None
    base = BaseModel(**manifest["base"]) if "base" in manifest else None
    if generator is None and base is not None:
        from cost_hf.generators.adapters import load_adapted  # peft takes a while to import, and few need it

        generator = load_adapted(source, base, vocabulary, tokenizer, users)
    elif generator is None:
        generator = _read_generator(source)
    layout = PromptLayout(*(tuple(manifest["prompt"][part]) for part in ("before", "after")))
    rows = generator.get_input_embeddings().weight.shape[0]
    highest = max(vocabulary.size - 1, *layout.before, *layout.after)
    if highest >= rows:
        raise DamagedFileError(
            f"{source}: vocabulary and prompt go up to token {highest}, and the generator has {rows} rows of tokens; "
            "the files do not belong together: copy the whole directory of one run"
        )
    return Backbone(generator, vocabulary, (layout,), manifest["max_history"], tokenizer, base, users)


def _read_generator(folder: Path) -> PreTrainedModel:
    """Load a generator by the Auto class of its configuration, where a method registers model classes of its own."""
    with readable_load_errors("the generator", folder):
        auto = auto_class(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    return load_all_weights("the generator", folder, auto.from_pretrained, trust_remote_code=False)


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
