"""HSTU (arXiv 2402.17152): gated attention without a softmax over a history of items."""

from cost_hf.methods.hstu.method import Hstu

__all__ = ["Hstu"]
