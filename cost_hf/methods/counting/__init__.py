"""Methods without gradient training: popularity, co-occurrence, transition counts, text neighbours."""

from cost_hf.methods.counting.method import ItemKnn, Markov, MarkovText, Popularity, TextLast, TextMean
from cost_hf.plugins import declare_recommender

declare_recommender("counting", "cost_hf.methods.counting.recommender")

__all__ = ["ItemKnn", "Markov", "MarkovText", "Popularity", "TextLast", "TextMean"]
