"""Recommendation by generating semantic IDs (TIGER, arXiv 2305.05065): codes -> catalog -> generator -> beam search.

What sets published systems apart is mostly the codes (`codes.kind`), the generator and its loss. A method with a model
of its own derives from `GenerativeMethod` and overrides single steps: the model (`build_backbone`), what it learns from
(`training_inputs`, `train`), how beams become a ranking (`ranker`), what answers requests (`make_recommender`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from cost_hf.generators.options import AdapterOptions, GeneratorOptions, TaskOptions, TrainingOptions
from cost_hf.methods.base import (
    DataFacts,
    Estimate,
    Fitted,
    Method,
    MethodOptions,
    Variant,
    WarmStart,
    Workspace,
    collaborative_method,
    register,
)
from cost_hf.methods.generative.teacher_method import teacher_method
from cost_hf.quantizers.base import CodesOptions
from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.options import MOVING_POLICIES, CatalogOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cost_hf.data.options import DataOptions
    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.options import ItemFacts
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.generative import GenerativeRecommender
    from cost_hf.recommenders.rankers import Ranker
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie
    from cost_hf.semantic_ids.vocabulary import SidVocabulary

logger = logging.getLogger(__name__)
# LETTER's T5 (arXiv 2405.07314) with every prefix as an example; the shared embedding learns faster, because T5 starts
# it with a standard deviation of 1, which AdamW hardly moves at the rate of the other weights
T5 = {
    "generator.kind": "seq2seq",
    "generator.size": "letter",
    "generator.dropout": 0.1,
    "training.learning_rate": 1.0e-3,
    "training.embedding_learning_rate_multiplier": 15.0,
    # from scratch, whatever the base recipe has
    "generator.backbone": None,
    "generator.prompt": "bare",
    "generator.embedding_init": None,
    "adapter.r": None,
    "adapter.alpha": None,
    "adapter.dropout": 0.0,
    "adapter.target_modules": None,
    "tasks.weights": {"next_item": 1.0},
}
COMPARED = ("cost", "random")  # kinds of codes that a comparison has where no row is named


@dataclass
class SearchOptions:
    """Recipe section `search`: how beams are scored, and how often a search without the trie is looked at."""

    normalization: str = field(
        default="vocabulary",
        metadata={
            "help": "scores of the search: over the whole vocabulary, as generate() gives them, or over each level's "
            "codes (level)"
        },
    )
    invalid_users: int = field(
        default=256, metadata={"help": "test cases on which unconstrained generate() is checked for invalid SIDs"}
    )

    def validate(self) -> None:
        """Raise ValueError for values that no search can have."""
        check_normalization(self.normalization, field="search.normalization")
        if self.invalid_users < 1:
            raise ValueError(f"search.invalid_users must be at least 1, got {self.invalid_users!r}")


@dataclass
class GenerativeOptions(MethodOptions):
    """Sections of a generator of semantic IDs."""

    codes: CodesOptions = field(default_factory=CodesOptions.of)
    catalog: CatalogOptions = field(default_factory=CatalogOptions)
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.generator.backbone is None:
            self._check_scratch()
        if self.training.teacher is not None:
            teacher_method(self.training.teacher).options.validate()
        if self.tasks.title_tasks and find_spec("rouge_score") is None:
            raise ValueError(
                f"tasks.weights names {', '.join(self.tasks.title_tasks)}, which are evaluated by ROUGE, and "
                "rouge-score is not installed; pip install cost-hf[titles], or leave them out"
            )
        if self.training.first_items and self.generator.kind == "causal":
            raise ValueError(
                "training.first_items is for generator.kind seq2seq; the causal generator learns first items anyway, "
                "so leave it out"
            )
        if self.catalog.reference is None and self.codes.has_parallel_levels and self.training.substitute_share:
            raise ValueError(
                f"training.substitute_share replaces items by others with the same first codes, and codes of kind "
                f"{self.codes.kind!r} have levels that do not depend on each other, so that such items are not alike; "
                "set it to 0, or take another codes.kind"
            )
        if self.catalog.reference is None and self.catalog.collisions in MOVING_POLICIES:
            self._check_distances()
        if self.catalog.reference is None and self.codes.needs_collaborative_vectors:
            collaborative_method(self.codes.collaborative_method).check_item_width(
                self.codes.collaborative_dim, field=f"codes.{self.codes.collaborative_dim_field}"
            )

    def used_sections(self) -> dict[str, Any]:
        """Return the sections that act: no codes where the identifiers are published ones."""
        has_codes = self.catalog.reference is None
        return {name: section for name, section in self.sections().items() if has_codes or name != "codes"}

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for values that do not fit the items; log where an appended level tells nothing apart."""
        super().check_items(items)
        codes = self.codes
        if self.catalog.reference is None and self.catalog.collisions == "append" and codes.gives_unique_codes:
            logger.warning(
                "no two items share codes of kind %s, so the level that catalog.collisions=append adds to every "
                "semantic ID is nearly empty; set catalog.collisions to %s",
                codes.kind,
                codes.collisions or "none",
            )

    def _check_distances(self) -> None:
        """Raise for codes without a model, whose items no distances can move."""
        if not self.codes.follows_reassignment:
            raise ValueError(
                f"catalog.collisions={self.catalog.collisions!r} moves items by the distances of a quantizer, and "
                f"codes of kind {self.codes.kind!r} have none; set catalog.collisions to append or none"
            )

    def _check_scratch(self) -> None:
        """Raise for what needs a pretrained generator."""
        if self.adapter.r is not None:
            raise ValueError(
                f"adapter.r={self.adapter.r!r} needs a generator.backbone: LoRA keeps a model's weights, and those "
                "of one from scratch are random; name a backbone, or set adapter.r to null"
            )
        if self.tasks.text_tasks:
            raise ValueError(
                f"tasks.weights names {', '.join(self.tasks.text_tasks)}, which need a generator.backbone that knows "
                "words; name one, or leave them out"
            )


OptionsT = TypeVar("OptionsT", bound=GenerativeOptions)


class GenerativeMethod(Method[OptionsT], Generic[OptionsT]):
    """Steps of a generator of semantic IDs; a method overrides those in which it differs.

    Attributes:
        names_items: whether batches hold the catalog rows of their tokens and labels, for models that read more of an
            item than its tokens.
        long_history: most items before a label that batches hold besides the prompt (`long_rows`), for models that read
            more of a history than the prompt; 0 for none.
        weighs_labels: whether `data.event_weights` apply to the loss, which is of the tokens of items alone then.
    """

    names_items: ClassVar[bool] = False
    long_history: ClassVar[int] = 0
    weighs_labels: ClassVar[bool] = True
    needs_text_vectors: ClassVar[bool] = True
    selects_on_validation: ClassVar[bool] = True
    options_class: ClassVar[type[MethodOptions]] = GenerativeOptions

    @property
    def is_control(self) -> bool:  # type: ignore[override]
        """True where the codes are those of a control."""
        return self.options.catalog.reference is None and self.options.codes.is_control

    @property
    def requires_texts(self) -> bool:  # type: ignore[override]
        """True where the quantizer reads the item texts."""
        return self.options.catalog.reference is None and self.options.codes.reads_texts

    @property
    def can_warm_start(self) -> bool:  # type: ignore[override]
        """True where the training is that of this class, or the method has a warm start of its own."""
        own = type(self)
        return own.train is GenerativeMethod.train or own.warm_start is not GenerativeMethod.warm_start

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit the quantizer, assign semantic IDs and train the generator."""
        from cost_hf.methods.codes_stage import codes_stage
        from cost_hf.methods.generative.teacher import teacher_stage
        from cost_hf.methods.generative.training import generator_stage, training_curve

        teacher_stage(workspace, self.options.training, seed=seed)
        codes = None
        if self.options.catalog.reference is None:
            codes = codes_stage(workspace, self.options.codes, seed=seed)
        catalog = self.build_catalog(workspace, codes, seed=seed)
        recommender = generator_stage(self, workspace, catalog, codes, seed=seed)
        curves = {"training": training_curve(workspace)}
        if codes is not None and len(codes.history) > 1:
            curves["quantizer"] = codes.history
        return Fitted(recommender, curves, {"codes": codes})

    def build_catalog(self, workspace: Workspace, codes: CodesResult | None, *, seed: int) -> Catalog:
        """Return the catalog of the data's items.

        Args:
            workspace: of the run.
            codes: of the items; None for those of a reference.
            seed: of what is trained for the catalog alone.
        """
        from cost_hf.methods.codes_stage import build_catalog

        is_parallel = self.options.codes.has_parallel_levels
        return build_catalog(workspace, self.options.catalog, codes, has_parallel_levels=is_parallel)

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained generator, or the pretrained one with its vocabulary."""
        from cost_hf.generators.backbones import build_backbone

        model = None if codes is None else codes.model
        init = self.options.generator.embedding_init
        levels = []
        if model is not None:
            vectors_of = self._mapped_vectors(model) if init == "mapped" else model.level_vectors
            found = [vectors_of(level) for level in range(catalog.model_levels)]
            levels = [vectors for vectors in found if vectors is not None]
        return build_backbone(
            self.options.generator,
            catalog,
            seed=seed,
            adapter=self.options.adapter,
            tasks=self.options.tasks,
            level_vectors=levels,
            users=self.user_vocabulary(),
        )

    def user_vocabulary(self) -> SidVocabulary | None:
        """Return the tokens of users' semantic IDs, without ids of a tokenizer yet; None where users have none."""
        return None

    def _mapped_vectors(self, model: Any) -> Callable[[int], Tensor]:
        """Return what gives the code vectors of a level in the space of the embeddings of a language model."""
        if not hasattr(model, "token_vectors"):
            raise ValueError(
                f"generator.embedding_init mapped takes codes that a language model made of texts, and codes of kind "
                f"{self.options.codes.kind!r} were not; set it to codebook or text"
            )
        return model.token_vectors

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed, for the digest of the stage."""
        from cost_hf.methods.generative.teacher import teacher_parts
        from cost_hf.methods.generative.training import pretraining_parts

        options = self.options
        generator = dataclasses.asdict(options.generator)
        own = [generator, options.training.content(), *pretraining_parts(options, workspace)]
        return [*own, *teacher_parts(workspace, options.training)]

    def train(
        self,
        workspace: Workspace,
        backbone: Backbone,
        prompts: Sequence[PromptBuilder],
        catalog: Catalog,
        trie: SidTrie,
        *,
        folder: Path,
        seed: int,
    ) -> list[dict[str, float]]:
        """Train the backbone's model in place, in every process, and return the log of the run."""
        from cost_hf.methods.generative.training import train

        return train(self, workspace, backbone, prompts, catalog, trie, folder=folder, seed=seed).history

    def fitted_catalog(self, catalog: Catalog, stored: Catalog) -> Catalog:
        """Return the catalog that the finished weights belong to: the one that training began with.

        A method whose codes change in training takes them from the stored recommender, where they stay.

        Args:
            catalog: of the data's items, as training begins.
            stored: of the recommender on disk, in which items may have been added and removed since.
        """
        return catalog

    def ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return what ranks validation users with a model in training.

        Args:
            model: in eval mode.
            prompts, trie: of the catalog.
            catalog: the items.
            popularity: their training clicks, `[N]`.
            beams: of the search.
        """
        from cost_hf.recommenders.beam_ranker import BeamRanker

        return BeamRanker(model, prompts, trie, num_beams=beams)

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a generator with fresh weights for an estimate of costs, and the catalog as it needs it.

        Args:
            catalog: with the sizes of the recipe.
            item_dim: width of the item text vectors.
        """
        from cost_hf.generators.backbones import build_backbone

        return build_backbone(self.options.generator, catalog, seed=0), catalog

    def evaluation_ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return a ranker that costs what the recommender's does; arguments are those of `ranker`."""
        return self.ranker(model, prompts, trie, catalog, popularity, beams=beams)

    def search_settings(self, workspace: Workspace) -> dict[str, Any]:
        """Return the arguments of the recommender that set its search, which may change without another training.

        Each is an attribute of the recommender and an entry of its manifest.
        """
        return {"num_beams": workspace.evaluation.num_beams, "normalization": self.options.search.normalization}

    def recommender_class(self) -> type[GenerativeRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.recommenders.generative import GenerativeRecommender

        return GenerativeRecommender

    def make_recommender(
        self, workspace: Workspace, backbone: Backbone, catalog: Catalog, codes: CodesResult | None
    ) -> GenerativeRecommender:
        """Return the recommender of a trained backbone."""
        from cost_hf.methods.generative.training import recommender_parts

        parts = recommender_parts(self, workspace, codes)
        return self.recommender_class()(backbone, catalog, **parts)

    def warm_start(self, recommender: GenerativeRecommender, start: WarmStart) -> Fitted:
        """Train the generator, or its adapter, on for next items; vocabulary, codes and quantizer stay.

        Text tasks and a teacher's targets belong to the training from scratch.
        """
        from cost_hf.methods.generative.warm_start import train_on

        return train_on(self, recommender, start)

    def attach_catalog(self, model: Any, catalog: Catalog, popularity: np.ndarray) -> None:
        """Give a model what its training reads of the items, where it is more than their tokens.

        Args:
            model: trained next.
            catalog: the items.
            popularity: their training clicks, `[N]`.
        """

    def estimate(self, facts: DataFacts) -> Estimate | str:
        """Measure training steps of quantizer and generator, and searches, on this machine."""
        from cost_hf.methods.generative.estimate import estimate

        return estimate(self, facts)

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return sections `semantic_ids` and, where the recipe has text tasks, `titles`."""
        from cost_hf.methods.generative.generated_titles import title_scores
        from cost_hf.methods.generative.sid_description import describe_semantic_ids

        recommender: Any = fitted.recommender
        described = describe_semantic_ids(recommender.catalog, fitted.parts["codes"], workspace)
        titles = title_scores(self.options.tasks, workspace, targets, recommender, seed=seed)
        return {"semantic_ids": described} | ({"titles": titles} if titles else {})

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return constraint and scores of the search, and how often it would leave the catalog without the trie."""
        from cost_hf.methods.generative.training import shares_of_invalid

        recommender: Any = fitted.recommender
        normalization = self.options.search.normalization
        codes = {"vocabulary": "the full vocabulary", "level": "the codes of each level"}[normalization]
        return {
            "constraint": "trie",
            "normalization": normalization,
            "score": f"sum of natural-log probabilities over {codes}",
            "max_history": recommender.max_history,
            "shares": shares_of_invalid(self.options.search, recommender, workspace, targets),
        }

    def examples(self, fitted: Fitted, workspace: Workspace) -> list[dict[str, Any]]:
        """Return a few items with their nearest texts and the items that share most of their SID."""
        from cost_hf.methods.generative.sid_description import neighbour_examples

        recommender: Any = fitted.recommender
        return neighbour_examples(recommender.catalog, workspace.text_vectors(), seed=workspace.data_seed)

    def input_parts(self) -> list[Any]:
        """Return the digests of a backbone's weights, and of files of identifiers and templates."""
        from cost_hf.methods.generative.training import outside_parts

        return outside_parts(self.options)

    def check_data(self, options: DataOptions) -> None:
        """Raise ValueError for weights of several values, where the model or its teacher has a loss without them."""
        teacher = self.options.training.teacher
        if teacher is not None:
            teacher_method(teacher).check_data(options)
        if not self.weighs_labels and len({weight for weight in options.event_weights.values() if weight}) > 1:
            raise ValueError(
                f"method {self.name} has a loss of its own, which learns all events alike, got data.event_weights of "
                f"several values above 0: {options.event_weights}; use one value and 0 for what is not to be learned, "
                "or another method"
            )

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for options, those of the teacher too, that do not fit the items."""
        super().check_items(items)
        if self.options.training.teacher is not None:
            teacher_method(self.options.training.teacher).check_items(items)

    def check_paths(self) -> None:
        """Raise FileNotFoundError for identifiers, templates or a backbone that are not there."""
        reference = self.options.catalog.reference
        templates = self.options.tasks.templates
        backbone = self.options.generator.backbone
        if reference is not None and not Path(reference).is_file():
            raise FileNotFoundError(f"catalog.reference {reference!r} is no file; check the path")
        if templates is not None and not Path(templates).is_dir():
            raise FileNotFoundError(f"tasks.templates {templates!r} is no directory; check the path")
        if backbone is not None and is_local_path(backbone) and not Path(backbone).is_dir():
            raise FileNotFoundError(
                f"generator.backbone {backbone!r} is no directory; check the path, or give a Hub id"
            )


@register
class SemanticIdGenerator(GenerativeMethod[GenerativeOptions]):
    """A generator of semantic IDs with the models of transformers."""

    name = "sid_generator"
    family = "generative"
    summary = "generator of semantic IDs"

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for every kind of codes, under the base recipe's generator and under LETTER's T5."""
        CodesOptions.load_kinds()
        for kind, options in CodesOptions.kinds.items():
            changes: dict[str, Any] = {"catalog.reference": None, "codes.kind": kind}
            if options.collisions is not None:
                changes["catalog.collisions"] = options.collisions
            text = f"generator of semantic IDs of kind {kind}"
            yield Variant(kind, cls.name, changes, text, is_compared=kind in COMPARED)
            yield Variant(f"t5_{kind}", cls.name, changes | T5, f"T5 of LETTER's size on semantic IDs of kind {kind}")


def is_local_path(name: str) -> bool:
    """Return whether a model is named by a path, not by a Hub id."""
    return Path(name).is_absolute() or name.startswith((".", "~"))
