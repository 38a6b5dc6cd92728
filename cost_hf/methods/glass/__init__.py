"""GLASS (arXiv 2602.05663): a generator of semantic IDs that reads long histories level by level."""

from cost_hf.methods.glass.method import Glass

__all__ = ["Glass"]
