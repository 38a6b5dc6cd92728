"""Fitting codes to item vectors: the quantizer by `Trainer`, residual k-means, and codes that need no vectors."""
