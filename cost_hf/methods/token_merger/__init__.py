"""A T5 that reads long semantic IDs merged to a few latents an item, and writes them whole; an ablation of ACERec."""

from cost_hf.methods.token_merger.method import TokenMerger

__all__ = ["TokenMerger"]
