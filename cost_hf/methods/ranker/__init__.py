"""Learned ranking of the candidates of several methods."""

from cost_hf.methods.ranker.method import Ranker

__all__ = ["Ranker"]
