"""Generators of semantic IDs: codes, catalog, generator (TIGER, CoST, LETTER are kinds of its codes)."""

from cost_hf.methods.generative.method import GenerativeMethod, GenerativeOptions, SearchOptions, SemanticIdGenerator

__all__ = ["GenerativeMethod", "GenerativeOptions", "SearchOptions", "SemanticIdGenerator"]
