"""What is said of items in words, and the fields of templates that say it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cost_hf.recommender.collation import PrefixDataset
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.recommender.task_options import TaskOptions
from cost_hf.recommender.templates import Conversation


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


class WordFields:
    """Subjects and fields of the tasks in words."""

    def __init__(
        self,
        options: TaskOptions,
        words: ItemWords,
        conversation: Conversation,
        prompts: PromptBuilder,
        prefixes: PrefixDataset,
    ):
        self.options, self.words, self.conversation = options, words, conversation
        self.prompts, self.prefixes = prompts, prefixes
        self.has_title = np.array([bool(title) for title in words.titles])

    def of(self, task: str) -> tuple[list, Callable[..., Mapping[str, str]], Callable[..., int]]:
        """Return a task's subjects, their fields, and about how many tokens they have."""
        levels = self.prompts.item_tokens.shape[1]
        title, text = self.options.max_title_tokens, self.options.max_text_tokens
        known = np.flatnonzero(self.words.is_known)
        titled = np.flatnonzero(self.words.is_known & self.has_title)
        if task == "text_to_item":
            rows = [row for row in known.tolist() if self.words.texts[row]]
            return rows, lambda row: {"text": self.text(row), "item": self.item(row)}, lambda _: text + levels
        if task == "item_to_title":
            return titled.tolist(), lambda row: {"item": self.item(row), "title": self.title(row)}, lambda _: title
        pairs = [
            (history, last)
            for _, history, last in map(self.prefixes.__getitem__, range(len(self.prefixes)))
            if (self.has_title[last] if task == "history_to_title" else self.has_title[history].any())
        ]
        if task == "history_to_title":
            return (
                pairs,
                lambda pair: {"history": self.item(pair[0]), "title": self.title(pair[1])},
                lambda pair: len(pair[0]) * levels + title,
            )
        most = self.options.max_titles
        return (
            pairs,
            lambda pair: {"titles": self.titles(pair[0]), "item": self.item(pair[1])},
            lambda pair: min(len(pair[0]), most) * title + levels,
        )

    def item(self, rows: int | np.ndarray) -> str:
        """Return the SIDs of one or several rows as text."""
        return self.conversation.sids(self.prompts.item_tokens.numpy()[rows])

    def title(self, row: int) -> str:
        """Return an item's title."""
        return self.conversation.plain(str(self.words.titles[row]), max_tokens=self.options.max_title_tokens)

    def text(self, row: int) -> str:
        """Return an item's text."""
        return self.conversation.plain(self.words.texts[row], max_tokens=self.options.max_text_tokens)

    def titles(self, rows: np.ndarray) -> str:
        """Return the most recent titles of a history, a line each."""
        named = [row for row in rows.tolist() if self.has_title[row]][-self.options.max_titles :]
        return "\n".join(f"- {self.title(row)}" for row in named)
