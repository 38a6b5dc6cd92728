"""LIGER (arXiv 2411.18814): generated candidates and items without clicks, ranked by their texts."""

from cost_hf.methods.liger.method import Liger

__all__ = ["Liger"]
