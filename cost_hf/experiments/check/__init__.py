"""Checking room: what a practitioner should know of a data set before any training."""

from cost_hf.experiments.check.check import CheckResult, check_data
from cost_hf.experiments.check.problems import Problem

__all__ = ["CheckResult", "Problem", "check_data"]
