"""LightGCN (arXiv 2002.02126): user and item vectors from the graph of clicks, without text and without order."""

from cost_hf.methods.lightgcn.method import LightGcn

__all__ = ["LightGcn"]
