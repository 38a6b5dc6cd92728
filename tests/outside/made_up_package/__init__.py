"""A package of somebody else: a dense method and a quantizer, known to cost_hf by entry points alone."""
