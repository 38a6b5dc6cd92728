"""PRISM's purified semantic quantizer (arXiv 2601.16556): content and gated collaborative vectors, tag supervision."""

from cost_hf.quantizers.prism.options import PrismOptions

__all__ = ["PrismOptions"]
