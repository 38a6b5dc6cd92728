"""Titles and texts of items, and the examples of text tasks that are made from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cost_hf.data.item_texts import item_titles, render_texts
from cost_hf.data.prepare import PreparedData
from cost_hf.generators.collation import PrefixDataset
from cost_hf.generators.options import TaskOptions
from cost_hf.generators.templates import PromptEncoder

Fields = Mapping[str, str]
LIST_TOKENS = 4  # tokens around a title in a list, at most: dash, spaces and line end


@dataclass(frozen=True)
class ItemTexts:
    """Titles and texts of catalog rows; an item without a title is left out of tasks with titles.

    Attributes:
        titles: `[N]`.
        texts: `[N]`.
        is_known: rows whose texts may be learned, bool `[N]`; false for items held out of everything that is fitted.
    """

    titles: Sequence[str | None]
    texts: Sequence[str]
    is_known: np.ndarray

    @classmethod
    def of(cls, data: PreparedData, template: str | None) -> "ItemTexts":
        """Return titles and texts of a data set's items; `template` is that of the texts."""
        count = data.tables.num_items
        titles = item_titles(data.tables.items) or [None] * count
        return cls(titles, render_texts(data.tables.items, template), data.split.fit_rows(count))

    @property
    def has_title(self) -> np.ndarray:
        """Rows with a title, bool `[N]`."""
        return np.array([bool(title) for title in self.titles])


@dataclass(frozen=True)
class TaskExamples:
    """Subjects of a text task, one example each.

    Attributes:
        subjects: catalog rows, or pairs of a history and the item that follows it.
        fields: returns the template fields of a subject, with at most a given number of history items.
        items: items of the longest history; 0 for prompts without one.
        item_tokens: tokens that each of them adds, at most.
        text_tokens: tokens of the other fields of a prompt, at most.
        answer_tokens: tokens of the answer, at most.
    """

    subjects: Sequence
    fields: Callable[..., Fields]
    items: int
    item_tokens: int
    text_tokens: int
    answer_tokens: int


class TemplateFields:
    """Values of template fields for items and histories.

    Args:
        options: section `tasks`.
        item_texts: titles and texts of the catalog.
        prompt_encoder: token ids of templates.
        item_tokens: token ids of every catalog row, `[N, L]`.
    """

    def __init__(
        self, options: TaskOptions, item_texts: ItemTexts, prompt_encoder: PromptEncoder, item_tokens: np.ndarray
    ):
        self.options = options
        self.item_texts = item_texts
        self.prompt_encoder = prompt_encoder
        self.item_tokens = item_tokens
        self.has_title = item_texts.has_title

    def examples(self, task: str, prefixes: PrefixDataset) -> TaskExamples:
        """Return the examples of a task; `prefixes` are histories with the item that follows."""
        levels = self.item_tokens.shape[1]
        title = self.options.max_title_tokens
        if task == "text_to_item":
            rows = [row for row in np.flatnonzero(self.item_texts.is_known).tolist() if self.item_texts.texts[row]]
            return TaskExamples(rows, self._text_to_item, 0, 0, self.options.max_text_tokens, levels)
        if task == "item_to_title":
            rows = np.flatnonzero(self.item_texts.is_known & self.has_title).tolist()
            return TaskExamples(rows, self._item_to_title, 0, 0, levels, title + 1)
        pairs = [(history, last) for _, history, last in map(prefixes.__getitem__, range(len(prefixes)))]
        if task == "history_to_title":
            pairs = [pair for pair in pairs if self.has_title[pair[1]]]
            return TaskExamples(pairs, self._history_to_title, prefixes.max_history, levels, 0, title + 1)
        pairs = [pair for pair in pairs if self.has_title[pair[0]].any()]
        most = min(self.options.max_titles, prefixes.max_history)
        return TaskExamples(pairs, self._titles_to_item, most, title + LIST_TOKENS, 0, levels)

    def item(self, rows: int | np.ndarray) -> str:
        """Return the SIDs of one or several rows as text."""
        return self.prompt_encoder.sids(self.item_tokens[rows])

    def title(self, row: int) -> str:
        """Return an item's title."""
        return self.prompt_encoder.plain(str(self.item_texts.titles[row]), max_tokens=self.options.max_title_tokens)

    def _text_to_item(self, row: int, _most: int) -> Fields:
        text = self.prompt_encoder.plain(self.item_texts.texts[row], max_tokens=self.options.max_text_tokens)
        return {"text": text, "item": self.item(row)}

    def _item_to_title(self, row: int, _most: int) -> Fields:
        return {"item": self.item(row), "title": self.title(row)}

    def _history_to_title(self, pair: tuple[np.ndarray, int], most: int) -> Fields:
        return {"history": self.item(pair[0][-most:]), "title": self.title(pair[1])}

    def _titles_to_item(self, pair: tuple[np.ndarray, int], most: int) -> Fields:
        titled = [row for row in pair[0].tolist() if self.has_title[row]][-most:]
        return {"titles": "\n".join(f"- {self.title(row)}" for row in titled), "item": self.item(pair[1])}
