"""FAMAE of ReSID (arXiv 2602.02338): item vectors from ids and categorical columns, learned from clicks."""

from cost_hf.item_vectors.famae.options import FamaeOptions

__all__ = ["FamaeOptions"]
