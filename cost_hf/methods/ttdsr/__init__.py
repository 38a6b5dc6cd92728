"""TTDSR / ED² (arXiv 2409.09253): a language model whose semantic IDs follow it while it is trained."""

from cost_hf.methods.ttdsr.method import Ttdsr

__all__ = ["Ttdsr"]
