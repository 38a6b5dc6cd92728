"""PRISM (arXiv 2601.16556): its recommender (ISR), a generator of semantic IDs that also reads vectors of items."""

from cost_hf.methods.prism.method import Prism

__all__ = ["Prism"]
