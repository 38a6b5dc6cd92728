"""Checking room: what a practitioner should know of a data set before any training."""

from cost_hf.checking.check import CheckResult, check_data
from cost_hf.checking.problems import Problem

__all__ = ["CheckResult", "Problem", "check_data"]
