"""Evaluation of rankers on items: ranks, metrics, bootstrap intervals, significance tests, quality of semantic IDs."""
