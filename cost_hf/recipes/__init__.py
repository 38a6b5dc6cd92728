"""Shipped recipes: YAML files, one reproducible row of a results table each."""
