"""Methods without gradient training: popularity, co-occurrence, transition counts, text neighbours."""

from cost_hf.methods.counting.method import ItemKnn, Markov, MarkovText, Popularity, TextLast, TextMean

__all__ = ["ItemKnn", "Markov", "MarkovText", "Popularity", "TextLast", "TextMean"]
