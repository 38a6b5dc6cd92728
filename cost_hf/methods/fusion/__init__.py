"""Fusion of several methods."""

from cost_hf.methods.fusion.method import Fusion

__all__ = ["Fusion"]
