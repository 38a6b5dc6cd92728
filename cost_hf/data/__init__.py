"""Data room: readers of published sets, checked tables, splits, item texts and their vectors, and a toy news set."""

from cost_hf.data.encoders import LsaEncoder, SentenceEncoder, TextEncoder
from cost_hf.data.item_encoder import ItemEncoder
from cost_hf.data.item_texts import VectorOptions, render_texts
from cost_hf.data.news_world import NewsOracle, NewsWorld
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import DataError, Tables
from cost_hf.data.splits import Split, Targets, split_interactions
from cost_hf.data.synthetic import SyntheticNews, make_news
from cost_hf.data.tables import read_tables
from cost_hf.data.text_vectors import TextVectors, encode_items

__all__ = [
    "DataError",
    "DataOptions",
    "ItemEncoder",
    "LsaEncoder",
    "NewsOracle",
    "NewsWorld",
    "SentenceEncoder",
    "Split",
    "SyntheticNews",
    "Tables",
    "Targets",
    "TextEncoder",
    "TextVectors",
    "VectorOptions",
    "encode_items",
    "make_news",
    "read_tables",
    "render_texts",
    "split_interactions",
]
