"""Constrained search: from the hidden states of a generator to the items of the trie."""
