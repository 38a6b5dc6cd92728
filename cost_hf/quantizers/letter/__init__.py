"""LETTER (arXiv 2405.07314): an RQ-VAE aligned with collaborative vectors, with diverse codes."""

from cost_hf.quantizers.letter.options import LetterOptions

__all__ = ["LetterOptions"]
