"""SASRec (arXiv 1808.09781): self-attention over item ids, frozen text vectors or both, ranking the whole catalog."""

from cost_hf.methods.sasrec.method import SasRec

__all__ = ["SasRec"]
