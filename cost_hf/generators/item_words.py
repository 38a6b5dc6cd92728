"""What is said of items in words, and the questions that say it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.prepare import PreparedData
from cost_hf.generators.collation import PrefixDataset
from cost_hf.generators.task_options import TaskOptions
from cost_hf.generators.templates import PromptEncoder

Fields = Mapping[str, str]
MARKS = 4  # tokens around a title in a list, at most: dash, spaces and line end


@dataclass(frozen=True)
class ItemWords:
    """What is said of catalog rows in words; an item without a title has no part in tasks of titles.

    Attributes:
        titles: `[N]`.
        texts: `[N]`.
        is_known: rows whose words may be learned, bool `[N]`; false for items held back from everything that is fitted.
    """

    titles: Sequence[str | None]
    texts: Sequence[str]
    is_known: np.ndarray

    @classmethod
    def of(cls, data: PreparedData, template: str | None) -> "ItemWords":
        """Return the words of a data set's items; `template` is that of their texts."""
        count = data.tables.num_items
        titles = item_titles(data.tables.items) or [None] * count
        return cls(titles, render_texts(data.tables.items, template), data.split.fit_rows(count))

    @property
    def has_title(self) -> np.ndarray:
        """Rows with a title, bool `[N]`."""
        return np.array([bool(title) for title in self.titles])


@dataclass(frozen=True)
class Questions:
    """What a task asks about, one example each.

    Attributes:
        subjects: catalog rows, or pairs of a history and the item behind it.
        fields: fields of the templates for a subject, with at most so many items of a history.
        items: items of the longest history; 0 for questions without one.
        item_tokens: tokens that each of them adds, at most.
        words: tokens that the fields have besides, at most.
        answer: tokens of the answer, at most.
    """

    subjects: Sequence
    fields: Callable[..., Fields]
    items: int
    item_tokens: int
    words: int
    answer: int


class WordFields:
    """Fields of templates.

    Args:
        options: section `tasks`.
        words: titles and texts of the catalog.
        prompt_encoder: token ids of templates.
        item_tokens: token ids of every catalog row, `[N, L]`.
    """

    def __init__(self, options: TaskOptions, words: ItemWords, prompt_encoder: PromptEncoder, item_tokens: np.ndarray):
        self.options, self.words, self.prompt_encoder, self.item_tokens = options, words, prompt_encoder, item_tokens
        self.has_title = words.has_title

    def questions(self, task: str, prefixes: PrefixDataset) -> Questions:
        """Return the questions of a task; `prefixes` are histories with the item that follows."""
        levels, title = self.item_tokens.shape[1], self.options.max_title_tokens
        if task == "text_to_item":
            rows = [row for row in np.flatnonzero(self.words.is_known).tolist() if self.words.texts[row]]
            return Questions(rows, self._text_to_item, 0, 0, self.options.max_text_tokens, levels)
        if task == "item_to_title":
            rows = np.flatnonzero(self.words.is_known & self.has_title).tolist()
            return Questions(rows, self._item_to_title, 0, 0, levels, title + 1)
        pairs = [(history, last) for _, history, last in map(prefixes.__getitem__, range(len(prefixes)))]
        if task == "history_to_title":
            pairs = [pair for pair in pairs if self.has_title[pair[1]]]
            return Questions(pairs, self._history_to_title, prefixes.max_history, levels, 0, title + 1)
        pairs = [pair for pair in pairs if self.has_title[pair[0]].any()]
        most = min(self.options.max_titles, prefixes.max_history)
        return Questions(pairs, self._titles_to_item, most, title + MARKS, 0, levels)

    def item(self, rows: int | np.ndarray) -> str:
        """Return the SIDs of one or several rows as text."""
        return self.prompt_encoder.sids(self.item_tokens[rows])

    def title(self, row: int) -> str:
        """Return an item's title."""
        return self.prompt_encoder.plain(str(self.words.titles[row]), max_tokens=self.options.max_title_tokens)

    def _text_to_item(self, row: int, _most: int) -> Fields:
        text = self.prompt_encoder.plain(self.words.texts[row], max_tokens=self.options.max_text_tokens)
        return {"text": text, "item": self.item(row)}

    def _item_to_title(self, row: int, _most: int) -> Fields:
        return {"item": self.item(row), "title": self.title(row)}

    def _history_to_title(self, pair: tuple[np.ndarray, int], most: int) -> Fields:
        return {"history": self.item(pair[0][-most:]), "title": self.title(pair[1])}

    def _titles_to_item(self, pair: tuple[np.ndarray, int], most: int) -> Fields:
        titled = [row for row in pair[0].tolist() if self.has_title[row]][-most:]
        return {"titles": "\n".join(f"- {self.title(row)}" for row in titled), "item": self.item(pair[1])}
