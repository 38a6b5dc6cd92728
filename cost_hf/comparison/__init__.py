"""`cost-hf compare`: systems and baselines on one split and one evaluator, with verdicts and a recommendation."""

from cost_hf.comparison.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
