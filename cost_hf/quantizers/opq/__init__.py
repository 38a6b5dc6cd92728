"""Optimized product quantization (Ge et al., CVPR 2013): one code per part of the rotated item vector."""

from cost_hf.quantizers.opq.options import OpqOptions

__all__ = ["OpqOptions"]
