"""Methods beside the semantic-ID generator: dense models that rank the catalog directly, on the same inputs.

Importing this room makes every kind of recommender known to `Recommender.from_pretrained`.
"""

from cost_hf.methods.sasrec_recommender import SasRecRecommender
from cost_hf.recommender.recommender import Recommender

__all__ = ["Recommender", "SasRecRecommender"]
