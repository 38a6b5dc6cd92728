"""TTDSR / ED² (arXiv 2409.09253) as a method: a language model with an index of items and users that follows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.ttdsr.options import BACKBONE, USER_TASKS, TtdsrOptions

if TYPE_CHECKING:
    from pathlib import Path

    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.ttdsr.recommender import TtdsrRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie
    from cost_hf.semantic_ids.vocabulary import SidVocabulary

LANGUAGE_MODEL = {
    "generator.kind": "causal",
    "generator.backbone": BACKBONE,
    "generator.prompt": "continuation",
    "generator.dropout": None,  # its own
    "generator.num_user_tokens": 0,
    "adapter.r": 8,
    "catalog.reference": None,
    "codes.kind": "rqvae",
    "codes.input_norm": "standardize",
}
STATIC = {"index.refresh_steps": None}
NO_USERS = {"users.in_prompt": False, **{f"tasks.weights.{name}": 0.0 for name in USER_TASKS}}
NO_ALIGNMENT = {"alignment.infonce_weight": 0.0, "alignment.mse_weight": 0.0}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "ttdsr": ({}, "language model with an index of items and users that follows it"),
    "ttdsr_static": (STATIC, "TTDSR with the index of the pretrained model"),
    "ttdsr_no_users": (NO_USERS, "TTDSR without semantic IDs of users"),
    "ttdsr_no_alignment": (NO_ALIGNMENT, "TTDSR without alignment of semantic IDs with texts"),
    "ttdsr_off": (STATIC | NO_USERS | NO_ALIGNMENT, "TTDSR with all of it off: the language model with LoRA"),
}


@register
class Ttdsr(GenerativeMethod[TtdsrOptions]):
    """A language model with LoRA whose semantic IDs of items and users are made of its own states."""

    name = "ttdsr"
    family = "generative"
    summary = "language model with an index that follows it (TTDSR)"
    options_class: ClassVar[type[MethodOptions]] = TtdsrOptions
    recommenders: ClassVar[Mapping[str, str]] = {"ttdsr": "cost_hf.methods.ttdsr.recommender"}

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method and one for each ablation, on a language model in any base recipe."""
        for name, (changes, text) in ROWS.items():
            yield Variant(name, cls.name, LANGUAGE_MODEL | changes, text)

    def fit(self, workspace: Workspace, *, seed: int) -> Fitted:
        """Fit the towers to states of the pretrained model, give semantic IDs, and train the model.

        Raises:
            ValueError: for several processes: the index is made, and refreshed, in one.
        """
        from cost_hf.methods.generative.training import generator_stage, training_curve
        from cost_hf.methods.ttdsr.stages import index_stage
        from cost_hf.methods.ttdsr.towers import ITEMS
        from cost_hf.stages import require_one_process

        require_one_process(f"method {self.name}")
        first = index_stage(workspace, self.options, seed=seed).codes[ITEMS]
        catalog = self.build_catalog(workspace, first, seed=seed)
        recommender = generator_stage(self, workspace, catalog, first, seed=seed)
        log = training_curve(workspace)
        curves = {"training": log, "quantizer": first.history, **index_curves(log)}
        return Fitted(recommender, curves, {"training": log})

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the pretrained model with the vocabularies of items and users."""
        from cost_hf.methods.ttdsr.stages import index_stage
        from cost_hf.methods.ttdsr.training import with_users
        from cost_hf.methods.ttdsr.user_texts import profile_items

        backbone = super().build_backbone(workspace, catalog, codes, seed=seed)
        users = index_stage(workspace, self.options, seed=seed).users(workspace)
        profiles = profile_items(workspace.data.split.train, self.options.users)
        return with_users(backbone, self.options, users, profiles)

    def user_vocabulary(self) -> SidVocabulary | None:
        """Return the tokens of users, in a namespace of their own."""
        from cost_hf.methods.ttdsr.stages import user_vocabulary

        return user_vocabulary(self.options)

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        from cost_hf.methods.ttdsr.stages import entity_texts, tower_options
        from cost_hf.methods.ttdsr.user_tasks import user_templates

        options = self.options
        own = [dataclasses.asdict(part) for part in (options.index, options.users, options.alignment)]
        codes = {name: part.content() for name, part in tower_options(options).items()}
        templates = {
            name: [dataclasses.asdict(template) for template in user_templates(name, options.tasks)]
            for name in options.tasks.user_tasks
        }
        return [*super().training_inputs(workspace), *own, codes, templates, entity_texts(workspace, options)]

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
        """Train the model in place while the index follows it, and return the log of the run."""
        from cost_hf.methods.ttdsr.training import train

        return train(self, workspace, backbone, prompts, catalog, trie, folder=folder, seed=seed)

    def fitted_catalog(self, catalog: Catalog, stored: Catalog) -> Catalog:
        """Return the items of the data with the frozen codes."""
        count = len(catalog)
        return dataclasses.replace(
            catalog, codes=stored.codes[:count], quantizer_digest=stored.quantizer_digest, moved=stored.moved
        )

    def recommender_class(self) -> type[TtdsrRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.ttdsr.recommender import TtdsrRecommender

        return TtdsrRecommender

    def make_recommender(
        self, workspace: Workspace, backbone: Backbone, catalog: Catalog, codes: CodesResult | None
    ) -> TtdsrRecommender:
        """Return the recommender of a trained model, which embeds new texts itself."""
        from cost_hf.methods.generative.training import recommender_parts
        from cost_hf.methods.ttdsr.training import frozen_codes, shown_users

        folder = workspace.stages.output_dir / workspace.folder
        catalog, codes = frozen_codes(folder, catalog, codes)
        parts = recommender_parts(self, workspace, codes) | {"encoder": None}
        return self.recommender_class()(
            backbone,
            catalog,
            max_text_tokens=self.options.index.max_text_tokens,
            item_template=workspace.vector_options.item_template,
            users=shown_users(backbone),
            **parts,
        )

    def describe(self, fitted: Fitted, workspace: Workspace, targets: Targets, *, seed: int) -> dict[str, Any]:
        """Return sections `semantic_ids`, `index` and, where the recipe has title tasks, `titles`."""
        from cost_hf.methods.generative.generated_titles import title_scores
        from cost_hf.methods.generative.sid_description import describe_semantic_ids

        recommender: Any = fitted.recommender
        # the quantizer reads states of the language model, which are not the vectors of the recipe
        described = {"semantic_ids": describe_semantic_ids(recommender.catalog, None, workspace)}
        described["index"] = describe_index(fitted.parts["training"])
        titles = title_scores(self.options.tasks, workspace, targets, recommender, seed=seed)
        return described | ({"titles": titles} if titles else {})


def index_curves(log: Sequence[Mapping[str, float]]) -> dict[str, list[dict[str, float]]]:
    """Return what a training log says of the index, as curves: changed shares, and perplexities of its towers."""
    refreshes = [record for record in log if "refresh_seconds" in record]
    curves = {
        "changed_share": [_values(record, lambda key: key.endswith("_changed")) for record in refreshes],
        "index_perplexity": [_values(record, lambda key: "_perplexity_" in key) for record in refreshes],
    }
    return {name: records for name, records in curves.items() if records}


def describe_index(log: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return section `index` of results.json: refreshes, drift since the last one, tokens and seconds of a step."""
    places = ("epoch", "step")
    refreshes = [dict(record) for record in log if "refresh_seconds" in record]
    drift = {name: value for record in log for name, value in record.items() if "_drift" in name}
    costs = {
        name: [record[name] for record in log if name in record] for name in ("tokens_per_step", "seconds_per_step")
    }
    means = {name: sum(values) / len(values) for name, values in costs.items() if values}
    terms = [
        {name: value for name, value in record.items() if name in places or name.endswith(("_infonce", "_mse"))}
        for record in log
        if "tokens_per_step" in record
    ]
    return {"refreshes": refreshes, **drift, **means, "alignment": terms}


def _values(record: Mapping[str, float], is_value: Any) -> dict[str, float]:
    return {key: value for key, value in record.items() if key == "epoch" or is_value(key)}
