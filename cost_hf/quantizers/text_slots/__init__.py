"""Codes from slot tokens behind an item's text, read by a language model (STORE-style, arXiv 2409.07276v1)."""

from cost_hf.quantizers.text_slots.options import TextSlotsOptions

__all__ = ["TextSlotsOptions"]
