"""COBRA (arXiv 2503.02453): coarse semantic IDs are generated, and dense vectors choose among their items."""

from cost_hf.methods.cobra.method import Cobra

__all__ = ["Cobra"]
