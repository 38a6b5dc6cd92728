"""The mixture of tasks that a pretrained generator learns: next items, and what ties SIDs to words.

After LC-Rec (arXiv 2311.09049), STORE (2409.07276v1: token to token, token to text, text to token) and TTDSR
(2409.09253). A task is a data set that has an `Example` for every number: example i of epoch e is number e · count + i,
and which paraphrase it has, and which item where a task's weight is no whole number, follow from number and seed alone.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from cost_hf.generators.collation import PrefixDataset, SequenceDataset
from cost_hf.generators.context import fitting_items
from cost_hf.generators.item_words import ItemWords, Questions, WordFields
from cost_hf.generators.prompts import Example, PromptBuilder
from cost_hf.generators.task_options import NEXT_ITEM, TaskOptions
from cost_hf.generators.templates import PromptEncoder, Template, load_templates


class Task(Protocol):
    """Examples by number."""

    lengths: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Example: ...


class NextItemTask(Dataset):
    """Next items of users' sequences, in one of several prompts.

    Args:
        rows: all positions of a user at once (`SequenceDataset`), or every prefix (`PrefixDataset`).
        prompts: paraphrases, of one kind; the first one recommends.
        seed: of the draw among them.
    """

    def __init__(self, rows: SequenceDataset | PrefixDataset, prompts: Sequence[PromptBuilder], *, seed: int = 0):
        self.rows, self.prompts, self.seed = rows, list(prompts), seed
        levels = prompts[0].item_tokens.shape[1]
        self.lengths = np.asarray(rows.lengths) * levels + prompts[0].layout.constant_tokens

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Example:
        prompts = self.prompts[_draw(self.seed, number, len(self.prompts))]
        user, rows, last = self.rows[number]
        return prompts.sequence(user, rows, last) if prompts.learns_all_positions else prompts.pair(user, rows, last)


class WordTask(Dataset):
    """Questions or answers in words.

    Args:
        questions: what is asked.
        templates: paraphrases.
        prompt_encoder: their token ids.
        most: items of a history that fit.
        seed: of the draw among paraphrases.
    """

    def __init__(
        self,
        questions: Questions,
        templates: Sequence[Template],
        prompt_encoder: PromptEncoder,
        *,
        most: int,
        seed: int,
    ):
        self.questions, self.templates, self.prompt_encoder = questions, list(templates), prompt_encoder
        self.most, self.seed = most, seed
        items = [min(len(subject[0]), most) if questions.items else 0 for subject in questions.subjects]
        self.lengths = questions.words + questions.answer + questions.item_tokens * np.array(items, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.questions.subjects)

    def __getitem__(self, number: int) -> Example:
        template = self.templates[_draw(self.seed, number, len(self.templates))]
        fields = self.questions.fields(self.questions.subjects[number % len(self)], self.most)
        prompt, answer = self.prompt_encoder.encode(template, fields)
        return Example(np.empty(0, np.int64), np.array(prompt, np.int64), np.array(answer, np.int64))


class TaskMixture(Dataset):
    """Several tasks as one data set; each gives its weight times its examples an epoch.

    With a weight that is no whole number, epochs follow each other through a fixed order of the task's examples, so
    that all get their turn before one comes again.

    Args:
        tasks: name → examples.
        weights: name → passes per epoch; at least one example of a task with a weight.
        seed: of the orders.
    """

    def __init__(self, tasks: Mapping[str, Task], weights: Mapping[str, float], *, seed: int = 0):
        self.names = [name for name in tasks if weights.get(name) and len(tasks[name])]
        self.tasks = [tasks[name] for name in self.names]
        self.counts = [
            max(1, round(weights[name] * len(task))) for name, task in zip(self.names, self.tasks, strict=True)
        ]
        self.ends = np.cumsum(self.counts)
        self.orders = [
            np.arange(len(task))
            if count % len(task) == 0
            else np.random.default_rng([seed, place]).permutation(len(task))
            for place, (task, count) in enumerate(zip(self.tasks, self.counts, strict=True))
        ]
        self.lengths = np.concatenate(
            [task.lengths[order[np.arange(n) % len(order)]] for task, order, n in self._parts()] or [np.empty(0)]
        )

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, number: int) -> Example:
        epoch, index = divmod(number, len(self))
        place = int(np.searchsorted(self.ends, index, side="right"))
        task, order, count = self._parts()[place]
        turn = epoch * count + index - (int(self.ends[place]) - count)
        passed, step = divmod(turn, len(order))
        return task[passed * len(order) + int(order[step])]

    def _parts(self) -> list[tuple[Task, np.ndarray, int]]:
        return list(zip(self.tasks, self.orders, self.counts, strict=True))


def build_tasks(
    options: TaskOptions,
    next_item: NextItemTask,
    prefixes: PrefixDataset,
    words: ItemWords,
    prompt_encoder: PromptEncoder,
    *,
    context: int | None = None,
    overflow: str = "error",
    seed: int,
) -> TaskMixture:
    """Return the mixture of a recipe.

    Args:
        options: weights and limits.
        next_item: the task that recommends.
        prefixes: histories of training users with the item that follows.
        words: titles and texts of the catalog.
        prompt_encoder: token ids of templates.
        context: positions of the model; None has no limit.
        overflow: of questions longer than that: `error`, or `drop_oldest` items.
        seed: of all draws.

    Raises:
        ValueError: for tasks of titles on a catalog without titles, and questions that the context can't hold.
    """
    tasks: dict[str, Task] = {NEXT_ITEM: next_item}
    said = WordFields(options, words, prompt_encoder, next_item.prompts[0].item_tokens.numpy())
    for name in options.with_words:
        templates = load_templates(name, options.templates)
        templates = templates if options.paraphrases else templates[:1]
        questions = said.questions(name, prefixes)
        if not questions.subjects:
            raise ValueError(f"the task {name} needs items with words, and there are none; set its weight to 0")
        most = fitting_items(
            questions.items,
            words=questions.words + max(map(prompt_encoder.constant_tokens, templates)),
            item=questions.item_tokens,
            answer=questions.answer,
            context=context,
            overflow=overflow,
            what=f"question of the task {name}",
        )
        tasks[name] = WordTask(questions, templates, prompt_encoder, most=most, seed=seed)
    return TaskMixture(tasks, options.weights, seed=seed)


def _draw(seed: int, number: int, choices: int) -> int:
    """Return which of several paraphrases an example has; a function of seed and number alone."""
    return 0 if choices == 1 else int(np.random.default_rng([seed, number]).integers(choices))
