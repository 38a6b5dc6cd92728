"""cost_hf: generative recommendation with semantic IDs on the Hugging Face stack.

Importing the package registers its models with the Auto classes of transformers, and two pipelines, `semantic-id` and
`generative-recommendation`: at once where transformers is there, else as soon as it is imported. Heavy parts load on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cost_hf.garbage import collection_paused
from cost_hf.registration import register_with_transformers
from cost_hf.version import __version__ as __version__

if TYPE_CHECKING:
    from cost_hf.evaluation.evaluate import evaluate
    from cost_hf.experiments.check.check import check
    from cost_hf.experiments.compare.compare import compare
    from cost_hf.experiments.drift.drift import drift
    from cost_hf.experiments.pipeline import Run, train
    from cost_hf.experiments.updates.options import UpdateOptions
    from cost_hf.experiments.updates.update import rollback_run, update_run
    from cost_hf.methods.base import Method, MethodOptions
    from cost_hf.quantizers.cost import CostConfig, CostModel, CostOutput
    from cost_hf.recommenders.base import Recommender
    from cost_hf.recommenders.explanations import explanation_text
    from cost_hf.recommenders.generative import GenerativeRecommender
    from cost_hf.search.beam_search import beam_search
    from cost_hf.search.captured_search import CapturedSearch
    from cost_hf.search.catalog_scores import score_catalog
    from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.catalog_mask import CatalogMask
    from cost_hf.semantic_ids.trie import SidTrie
    from cost_hf.semantic_ids.vocabulary import SidVocabulary

register_with_transformers()

_HOMES = {
    "train": "cost_hf.experiments.pipeline",
    "compare": "cost_hf.experiments.compare.compare",
    "check": "cost_hf.experiments.check.check",
    "drift": "cost_hf.experiments.drift.drift",
    "update_run": "cost_hf.experiments.updates.update",
    "rollback_run": "cost_hf.experiments.updates.update",
    "UpdateOptions": "cost_hf.experiments.updates.options",
    "evaluate": "cost_hf.evaluation.evaluate",
    "Run": "cost_hf.experiments.pipeline",
    "Recommender": "cost_hf.recommenders.base",
    "GenerativeRecommender": "cost_hf.recommenders.generative",
    "explanation_text": "cost_hf.recommenders.explanations",
    "Catalog": "cost_hf.semantic_ids.catalog",
    "CatalogMask": "cost_hf.semantic_ids.catalog_mask",
    "SidVocabulary": "cost_hf.semantic_ids.vocabulary",
    "SidTrie": "cost_hf.semantic_ids.trie",
    "SidLogitsProcessor": "cost_hf.search.logits_processor",
    "prefix_allowed_tokens_fn": "cost_hf.search.logits_processor",
    "beam_search": "cost_hf.search.beam_search",
    "score_catalog": "cost_hf.search.catalog_scores",
    "CapturedSearch": "cost_hf.search.captured_search",
    "CostConfig": "cost_hf.quantizers.cost",
    "CostModel": "cost_hf.quantizers.cost",
    "CostOutput": "cost_hf.quantizers.cost",
    "Method": "cost_hf.methods.base",
    "MethodOptions": "cost_hf.methods.base",
}

__all__ = [
    "CapturedSearch",
    "Catalog",
    "CatalogMask",
    "CostConfig",
    "CostModel",
    "CostOutput",
    "GenerativeRecommender",
    "Method",
    "MethodOptions",
    "Recommender",
    "Run",
    "SidLogitsProcessor",
    "SidTrie",
    "SidVocabulary",
    "UpdateOptions",
    "beam_search",
    "check",
    "compare",
    "drift",
    "evaluate",
    "explanation_text",
    "prefix_allowed_tokens_fn",
    "rollback_run",
    "score_catalog",
    "train",
    "update_run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with collection_paused():
            return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cost_hf' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
