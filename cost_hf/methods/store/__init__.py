"""One language model that makes codes of item texts and recommends by them (STORE-style, arXiv 2409.07276v1)."""

from cost_hf.methods.store.method import Store

__all__ = ["Store"]
