"""ACERec (arXiv 2602.13573): long parallel codes, merged to a few latents an item, predicted digit by digit at once."""

from cost_hf.methods.acerec.method import AceRec

__all__ = ["AceRec"]
