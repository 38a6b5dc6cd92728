"""cost_hf: generative recommendation with semantic IDs on the Hugging Face stack.

Importing the package registers the quantizer with `AutoConfig` and `AutoModel`, and two pipelines, `semantic-id` and
`generative-recommendation`: at once where transformers is there, else as soon as it is imported. Heavy parts load on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cost_hf.registration import register_with_transformers

if TYPE_CHECKING:
    from cost_hf.experiments.pipeline import Run, train
    from cost_hf.quantizers.cost import CostConfig, CostModel, CostOutput
    from cost_hf.recommenders.base import Recommender
    from cost_hf.search.beam_search import beam_search
    from cost_hf.search.captured_search import CapturedSearch
    from cost_hf.search.catalog_scores import score_catalog
    from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
    from cost_hf.semantic_ids.catalog import Catalog
    from cost_hf.semantic_ids.catalog_mask import CatalogMask
    from cost_hf.semantic_ids.trie import SidTrie
    from cost_hf.semantic_ids.vocabulary import SidVocabulary

__version__ = "0.1.0"
register_with_transformers()

_HOMES = {
    "CostConfig": "cost_hf.quantizers.cost",
    "CostModel": "cost_hf.quantizers.cost",
    "CostOutput": "cost_hf.quantizers.cost",
    "Run": "cost_hf.experiments.pipeline",
    "train": "cost_hf.experiments.pipeline",
    "beam_search": "cost_hf.search.beam_search",
    "CapturedSearch": "cost_hf.search.captured_search",
    "score_catalog": "cost_hf.search.catalog_scores",
    "SidLogitsProcessor": "cost_hf.search.logits_processor",
    "prefix_allowed_tokens_fn": "cost_hf.search.logits_processor",
    "Recommender": "cost_hf.recommenders.base",
    "Catalog": "cost_hf.semantic_ids.catalog",
    "CatalogMask": "cost_hf.semantic_ids.catalog_mask",
    "SidTrie": "cost_hf.semantic_ids.trie",
    "SidVocabulary": "cost_hf.semantic_ids.vocabulary",
}

__all__ = [
    "CapturedSearch",
    "Catalog",
    "CatalogMask",
    "CostConfig",
    "CostModel",
    "CostOutput",
    "Recommender",
    "Run",
    "SidLogitsProcessor",
    "SidTrie",
    "SidVocabulary",
    "beam_search",
    "prefix_allowed_tokens_fn",
    "score_catalog",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cost_hf' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
