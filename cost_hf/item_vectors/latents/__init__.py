"""Latents: item vectors that the encoder of a fitted quantizer makes of item texts' vectors."""

from cost_hf.item_vectors.latents.options import LatentOptions

__all__ = ["LatentOptions"]
