"""CaDiRec (arXiv 2405.09369): contrastive learning on sequences whose substitutes a diffusion model makes."""

from cost_hf.methods.cadirec.method import CaDiRec

__all__ = ["CaDiRec"]
