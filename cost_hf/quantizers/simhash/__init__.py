"""SimHash (Charikar, STOC 2002): signs of random projections as codes, a control without training."""

from cost_hf.quantizers.simhash.options import SimhashOptions

__all__ = ["SimhashOptions"]
