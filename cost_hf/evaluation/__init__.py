"""Judging: ranks of real items, baselines on the same cases, intervals over users, health of the semantic IDs."""
