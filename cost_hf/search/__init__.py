"""Constrained search: from the states of a generator to the items of the trie."""
