"""Checks of a data set before any training."""
