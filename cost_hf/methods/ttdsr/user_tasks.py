"""Tasks whose questions or answers have semantic IDs of users (arXiv 2409.09253).

`users_of_item` predicts the next user of an item from the users before, `user_to_text` and `text_to_user` tie a user to
the text about the user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cost_hf.data.splits import Split
from cost_hf.generators.item_texts import Fields, TaskExamples
from cost_hf.generators.options import TaskOptions
from cost_hf.generators.tasks import Task, text_task
from cost_hf.generators.templates import Fields as FieldNames
from cost_hf.generators.templates import PromptEncoder, Template, load_templates
from cost_hf.methods.ttdsr.options import TEXT_TO_USER, USER_TO_TEXT, USERS_OF_ITEM

PACKAGE = "cost_hf.methods.ttdsr"
FIELDS: dict[str, FieldNames] = {
    USERS_OF_ITEM: ({"item", "users"}, {"user"}),
    USER_TO_TEXT: ({"user"}, {"text"}),
    TEXT_TO_USER: ({"text"}, {"user"}),
}


def user_templates(task: str, options: TaskOptions) -> list[Template]:
    """Return the paraphrases of a task of users."""
    found = load_templates(task, options.templates, package=PACKAGE, fields=FIELDS[task])
    return found if options.paraphrases else found[:1]


@dataclass(frozen=True)
class UserFields:
    """Values of template fields for users.

    Attributes:
        prompt_encoder: token ids of templates, with the vocabulary of users.
        item_tokens: token ids of every catalog row, `[N, L]`.
        user_tokens: token ids of every training user, `[U, L_u]`.
        texts: about every training user.
        max_text_tokens: of a text.
    """

    prompt_encoder: PromptEncoder
    item_tokens: np.ndarray
    user_tokens: np.ndarray
    texts: Sequence[str]
    max_text_tokens: int

    def examples(self, task: str, split: Split, *, max_users: int) -> TaskExamples:
        """Return the examples of a task.

        Args:
            task: its name.
            split: of the clicks.
            max_users: most recent users of an item in a question.
        """
        levels = self.user_tokens.shape[1]
        if task == USERS_OF_ITEM:
            subjects = next_users(split, len(self.item_tokens), max_users=max_users)
            return TaskExamples(subjects, self._users_of_item, max_users, levels, self.item_tokens.shape[1], levels)
        users = [user for user, text in enumerate(self.texts) if text]
        if task == USER_TO_TEXT:
            return TaskExamples(users, self._user_and_text, 0, 0, levels, self.max_text_tokens + 1)
        return TaskExamples(users, self._user_and_text, 0, 0, self.max_text_tokens, levels)

    def user(self, numbers: int | np.ndarray) -> str:
        """Return the SIDs of one or several users as text."""
        return self.prompt_encoder.sids(self.user_tokens[numbers])

    def _users_of_item(self, subject: tuple[np.ndarray, int, int], most: int) -> Fields:
        earlier, item, user = subject
        sid = self.prompt_encoder.sids(self.item_tokens[item])
        return {"item": sid, "users": self.user(earlier[-most:]), "user": self.user(user)}

    def _user_and_text(self, user: int, _most: int) -> Fields:
        text = self.prompt_encoder.plain(self.texts[user], max_tokens=self.max_text_tokens)
        return {"user": self.user(user), "text": text}


def next_users(split: Split, num_items: int, *, max_users: int) -> list[tuple[np.ndarray, int, int]]:
    """Return (earlier users, item, next user) for every training click but the first ones of items.

    Users of an item stand in the order of its clicks, and of their numbers where only the order of a user's clicks is
    known.

    Args:
        split: of the clicks.
        num_items: N.
        max_users: most recent ones kept.
    """
    items = np.concatenate(split.train)
    users = np.repeat(np.arange(len(split.train)), [len(rows) for rows in split.train])
    times = np.zeros(len(items), dtype=np.int64) if split.train_times is None else split.train_times
    order = np.lexsort((users, times, items))
    bounds = np.searchsorted(items[order], np.arange(num_items + 1))
    subjects = []
    for item, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        own = users[order[start:end]]
        subjects += [(own[max(place - max_users, 0) : place], item, int(own[place])) for place in range(1, len(own))]
    return subjects


def build_user_tasks(
    names: Sequence[str],
    options: TaskOptions,
    fields: UserFields,
    split: Split,
    *,
    max_users: int,
    context: int | None,
    overflow: str,
    seed: int,
) -> dict[str, Task]:
    """Return the tasks of users of a recipe, by name.

    Args:
        names: of the tasks.
        options: section `tasks`.
        fields: values of templates.
        split: of the clicks.
        max_users, context, overflow, seed: most users in a question, and as for `text_task`.
    """
    build = partial(text_task, prompt_encoder=fields.prompt_encoder, context=context, overflow=overflow, seed=seed)
    return {
        name: build(name, fields.examples(name, split, max_users=max_users), user_templates(name, options))
        for name in names
    }
