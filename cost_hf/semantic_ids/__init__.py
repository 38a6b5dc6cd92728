"""Semantic IDs: the catalog of items, the tokens of codes, and the trie of valid IDs."""
