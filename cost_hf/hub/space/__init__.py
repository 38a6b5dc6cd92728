"""The demo: recommendations and why, the tree of semantic IDs, new items, evaluation. It runs here and as a Space."""
