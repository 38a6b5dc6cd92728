"""Reciprocal-rank fusion of the lists of several methods."""

from cost_hf.methods.fusion.method import ReciprocalRankFusion

__all__ = ["ReciprocalRankFusion"]
