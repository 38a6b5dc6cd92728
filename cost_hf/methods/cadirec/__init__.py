"""CaDiRec: contrastive learning on sequences whose substitutes a diffusion model makes (arXiv 2405.09369)."""
