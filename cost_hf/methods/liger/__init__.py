"""LIGER."""
