"""Bulk work on Parquet files: item vectors, semantic IDs and recommendations for many rows, here or on Ray."""
