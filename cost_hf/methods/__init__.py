"""Methods beside the semantic-ID generator: dense models that rank the catalog directly, on the same inputs.

Taking a name from this room makes every kind of recommender known to `Recommender.from_pretrained`. The names load on
first use, so that the options of a recipe can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cost_hf.methods.sasrec_recommender import SasRecRecommender
    from cost_hf.recommender.recommender import Recommender

__all__ = ["Recommender", "SasRecRecommender"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cost_hf.methods' has no attribute {name!r}; it has {', '.join(__all__)}")
    kinds = [import_module(home) for home in ("cost_hf.methods.sasrec_recommender", "cost_hf.recommender.recommender")]
    return next(getattr(kind, name) for kind in kinds if hasattr(kind, name))
