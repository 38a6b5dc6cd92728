"""CoSeRec: contrastive learning on sequences with informative augmentation (arXiv 2108.06479)."""
