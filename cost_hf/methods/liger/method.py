"""LIGER (arXiv 2411.18814) as a method: a generator of semantic IDs whose candidates are ranked by a dense head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cost_hf.methods.base import Fitted, MethodOptions, Variant, Workspace, register
from cost_hf.methods.generative import GenerativeMethod
from cost_hf.methods.liger.options import LigerOptions

if TYPE_CHECKING:
    import numpy as np

    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.liger.recommender import LigerRecommender
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.rankers import Ranker
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.trie import SidTrie

# the ablations of the paper that keep semantic IDs at the input
ABLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "liger_dense": ({"dense.sid_weight": 0.0, "dense.candidates": "catalog"}, "dense retrieval alone"),
    "liger_no_dense": ({"dense.weight": 0.0}, "text input without the dense head, TIGER(T) of the paper"),
    "liger_off": ({"dense.weight": 0.0, "dense.text_input": False}, "neither of both: TIGER"),
}


@register
class Liger(GenerativeMethod[LigerOptions]):
    """Generative and dense retrieval in one model."""

    name = "liger"
    family = "hybrid"
    summary = "LIGER: generated candidates and unclicked items, ranked by text"
    options_class: ClassVar[type[MethodOptions]] = LigerOptions
    auto_models = "cost_hf.methods.liger.auto_liger"
    recommenders: ClassVar[Mapping[str, str]] = {"liger": "cost_hf.methods.liger.recommender"}

    @property
    def names_items(self) -> bool:  # type: ignore[override]
        """True where texts are read."""
        return self.options.dense.reads_text

    @property
    def weighs_labels(self) -> bool:  # type: ignore[override]
        """False where texts are read: the dense loss compares items that are all alike."""
        return not self.options.dense.reads_text

    @classmethod
    def variants(cls) -> Iterable[Variant]:
        """Yield a row for the method and one for each ablation."""
        yield Variant(cls.name, cls.name, description=cls.summary)
        for name, (changes, text) in ABLATIONS.items():
            yield Variant(name, cls.name, changes, f"LIGER: {text}")

    def build_catalog(self, workspace: Workspace, codes: CodesResult | None, *, seed: int) -> Catalog:
        """Return the catalog of the data's items, with their text vectors where they are read."""
        catalog = super().build_catalog(workspace, codes, seed=seed)
        if not self.options.dense.reads_text:
            return catalog
        return catalog.with_vectors(list(catalog.item_ids), workspace.text_vectors().vectors)

    def build_backbone(
        self, workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
    ) -> Backbone:
        """Return the untrained model."""
        from cost_hf.methods.liger.training import build_liger
        from cost_hf.methods.training_stages import training_clicks

        options = self.options
        return build_liger(options.generator, options.dense, catalog, popularity=training_clicks(workspace), seed=seed)

    def attach_catalog(self, model: Any, catalog: Catalog, popularity: np.ndarray) -> None:
        """Give a model the texts of the items, where it reads any."""
        from cost_hf.methods.liger.training import attach_catalog

        attach_catalog(model, catalog, popularity)

    def training_inputs(self, workspace: Workspace) -> list[Any]:
        """Return what the weights depend on beside catalog, split and seed."""
        dense = dataclasses.asdict(self.options.dense)
        searched = ("candidates", "constrained", "top_k")  # what follows after training alone
        return [*super().training_inputs(workspace), {name: dense[name] for name in dense if name not in searched}]

    def ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return the ranking of the items of training; by beams alone without a dense head."""
        from cost_hf.methods.liger.ranker import LigerSearch
        from cost_hf.methods.liger.training import ranker_of

        dense = self.options.dense
        ranks_catalog = dense.weight > 0 and "catalog" in (dense.candidates, dense.validation)
        search = LigerSearch(num_beams=beams, ranks_catalog=ranks_catalog)
        return ranker_of(model, prompts, trie, catalog, popularity, search, only_clicked=True)

    def evaluation_ranker(
        self, model: Any, prompts: PromptBuilder, trie: SidTrie, catalog: Catalog, popularity: np.ndarray, *, beams: int
    ) -> Ranker:
        """Return the ranking of the candidates."""
        from cost_hf.methods.liger.ranker import LigerSearch
        from cost_hf.methods.liger.training import ranker_of

        search = LigerSearch(num_beams=beams, **self._candidates)
        return ranker_of(model, prompts, trie, catalog, popularity, search)

    def untrained(self, catalog: Catalog, item_dim: int) -> tuple[Backbone, Catalog]:
        """Return a model with fresh weights, and the catalog with vectors of noise where it reads texts."""
        from cost_hf.methods.benchmarking import with_noise
        from cost_hf.methods.liger.training import build_liger

        catalog = with_noise(catalog, item_dim) if self.options.dense.reads_text else catalog
        clicks = [1] * len(catalog)
        return build_liger(self.options.generator, self.options.dense, catalog, popularity=clicks, seed=0), catalog

    def recommender_class(self) -> type[LigerRecommender]:
        """Return the class that loads what `make_recommender` wrote."""
        from cost_hf.methods.liger.recommender import LigerRecommender

        return LigerRecommender

    def search_settings(self, workspace: Workspace) -> dict[str, Any]:
        """Return beams, normalization and what becomes a candidate."""
        return super().search_settings(workspace) | self._candidates

    def protocol(self, fitted: Fitted, workspace: Workspace, targets: Targets) -> dict[str, Any]:
        """Return candidates and score of the lists, and how often a free search leaves the catalog."""
        found = super().protocol(fitted, workspace, targets)
        dense = self.options.dense
        if dense.weight == 0:
            return found
        score = f"cosine of user and item text / {dense.temperature}"
        if dense.candidates == "catalog":
            return found | {"constraint": None, "candidates": "the whole catalog", "score": score}
        beams = "beams" if dense.constrained else "free beams that are items"
        nearest = f", the {dense.top_k} items nearest by cosine" if dense.top_k else ""
        return found | {
            "constraint": "trie" if dense.constrained else None,
            "candidates": f"{workspace.evaluation.num_beams} {beams}, all items without a training click{nearest}",
            "score": score,
        }

    @property
    def _candidates(self) -> dict[str, Any]:
        """Settings of the recommender that choose the candidates."""
        dense = self.options.dense
        return {
            "is_constrained": dense.constrained,
            "ranks_catalog": dense.candidates == "catalog",
            "dense_top_k": dense.top_k,
        }
