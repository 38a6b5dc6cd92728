"""Bulk work on Parquet files: item vectors, semantic IDs and recommendations for many rows, here or on Ray."""

ENGINES = ("local", "ray")  # who computes: this process, or workers of Ray
