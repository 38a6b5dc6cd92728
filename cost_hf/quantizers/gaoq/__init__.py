"""GAOQ (ReSID, arXiv 2602.02338): balanced k-means in two levels, with codes aligned across parents."""

from cost_hf.quantizers.gaoq.options import GaoqOptions

__all__ = ["GaoqOptions"]
