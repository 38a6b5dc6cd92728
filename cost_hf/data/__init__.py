"""Data room: readers of published sets, checked tables, splits, item texts and their vectors, and a toy news set.

The names load on first use, so that the options of a recipe can be read without pandas and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cost_hf.data.encoders import ItemEncoder, LsaEncoder, SentenceEncoder, TextEncoder
    from cost_hf.data.errors import DataError
    from cost_hf.data.item_texts import render_texts
    from cost_hf.data.options import DataOptions, VectorOptions
    from cost_hf.data.schema import Tables
    from cost_hf.data.splits import Split, Targets, split_interactions
    from cost_hf.data.synthetic import NewsOracle, NewsWorld, SyntheticNews, make_news
    from cost_hf.data.tables import read_tables
    from cost_hf.data.text_vectors import TextVectors, encode_items

_HOMES = {
    "DataError": "errors",
    "DataOptions": "options",
    "ItemEncoder": "encoders",
    "LsaEncoder": "encoders",
    "NewsOracle": "synthetic",
    "NewsWorld": "synthetic",
    "SentenceEncoder": "encoders",
    "Split": "splits",
    "SyntheticNews": "synthetic",
    "Tables": "schema",
    "Targets": "splits",
    "TextEncoder": "encoders",
    "TextVectors": "text_vectors",
    "VectorOptions": "options",
    "encode_items": "text_vectors",
    "make_news": "synthetic",
    "read_tables": "tables",
    "render_texts": "item_texts",
    "split_interactions": "splits",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"cost_hf.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cost_hf.data' has no attribute {name!r}; it has {', '.join(__all__)}")
