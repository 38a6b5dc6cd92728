"""The demo: what is recommended and why, the tree of semantic IDs, new items, health. Runs here and as a Hub Space."""
