"""CoSeRec (arXiv 2108.06479): contrastive learning on sequences with informative augmentation."""

from cost_hf.methods.coserec.method import CoSeRec

__all__ = ["CoSeRec"]
