"""The evaluation stage of a run: all rankers on the same cases, and everything that is said about them."""

from cost_hf.experiments.evaluation_stage import MAIN_ROW, REPORT, SEEN, Candidates, judge

__all__ = ["MAIN_ROW", "REPORT", "SEEN", "Candidates", "judge"]
