"""The mixture of tasks that a pretrained generator learns: next items, and texts and titles beside them.

After LC-Rec (arXiv 2311.09049), STORE (2409.07276v1: token to token, token to text, text to token) and TTDSR
(2409.09253). A task is a data set with an `Example` for every number: example i of epoch e has the number
e · count + i. Its paraphrase, and its item where a task's weight is not whole, depend on number and seed alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from cost_hf.generators.collation import PrefixDataset, SequenceDataset
from cost_hf.generators.distillation import Teacher
from cost_hf.generators.item_texts import ItemTexts, TaskExamples, TemplateFields
from cost_hf.generators.options import TaskOptions
from cost_hf.generators.prompts import Example, PromptBuilder
from cost_hf.generators.templates import PromptEncoder, Template, fitting_items, load_templates
from cost_hf.semantic_ids.prefix_groups import PrefixGroups


class Task(Protocol):
    """Examples by number."""

    lengths: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Example: ...


class Substitution:
    """Replaces a share of the items of an example by others whose semantic IDs begin alike.

    After CoSeRec's operator (arXiv 2108.06479), with codes in place of correlations. Draws depend on seed and number of
    an example alone, so every epoch has other ones and a continued run the same.

    Args:
        groups: of the catalog.
        share: of the items, from 0 to 1.
        seed: of the draws.
    """

    def __init__(self, groups: PrefixGroups, share: float, *, seed: int):
        self.groups = groups
        self.share = share
        self.seed = seed

    def applied(self, rows: np.ndarray, number: int) -> np.ndarray:
        """Return catalog rows with substitutes, in a new array."""
        generator = np.random.default_rng([self.seed, number])
        is_chosen = generator.random(len(rows)) < self.share
        return np.where(is_chosen, self.groups.others(rows, generator), rows)


class NextItemTask(Dataset):
    """Next items of users' sequences, in one of several prompts.

    Args:
        rows: all positions of a user at once (`SequenceDataset`), or every prefix (`PrefixDataset`).
        prompts: paraphrases, of one kind; the first one recommends.
        seed: of the draw among them.
        teacher: of the sequences of `rows`; None learns the true items alone.
        substitution: replaces items of examples; None replaces none.
        long_history: most items of the `long_rows` of an example; 0 for models that read the prompt alone.
    """

    def __init__(
        self,
        rows: SequenceDataset | PrefixDataset,
        prompts: Sequence[PromptBuilder],
        *,
        seed: int = 0,
        teacher: Teacher | None = None,
        substitution: Substitution | None = None,
        long_history: int = 0,
    ):
        self.rows = rows
        self.substitution = substitution
        self.long_history = long_history
        self.prompts = list(prompts)
        self.seed = seed
        self.teacher = teacher
        levels = prompts[0].item_tokens.shape[1]
        self.lengths = np.asarray(rows.lengths) * levels + prompts[0].layout.constant_tokens

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Example:
        prompts = self.prompts[_draw(self.seed, number, len(self.prompts))]
        example = self._example(prompts, number)
        if self.long_history:
            example = example._replace(long_rows=self.rows.long_rows(number, self.long_history))
        weights = self.rows.label_weights(number)
        if weights is None:
            return example
        own = 1 if example.weights is None else example.weights
        return example._replace(weights=own * np.repeat(weights, prompts.item_tokens.shape[1]))

    def _example(self, prompts: PromptBuilder, number: int) -> Example:
        user, rows, last = self.rows[number]
        if self.substitution is not None:
            rows = self.substitution.applied(rows, number)
        if self.teacher is None:
            return (prompts.sequence if prompts.learns_all_positions else prompts.pair)(user, rows, last)
        sequence, position = self.rows.first_label(number)
        if not prompts.learns_all_positions:
            return prompts.pair(user, rows, self.teacher.target(sequence, position, last, number=number))
        example = prompts.sequence(user, rows, last)
        tokens = prompts.item_tokens.numpy()
        labels = np.arange(len(rows) - last)
        scales = self.rows.label_weights(number)
        if scales is not None:
            labels = np.flatnonzero(scales)
            scales = scales[labels]
        places = len(example.source) + labels * tokens.shape[1]
        soft_targets = self.teacher.soft_targets(
            sequence, position + labels, places, tokens, number=number, scales=scales
        )
        return example._replace(soft_targets=soft_targets)


class OpenTask(Dataset):
    """Histories whose next item is not known; it is drawn from a teacher's list.

    Args:
        teacher: has the list of a history at the position after its last item.
        histories: catalog rows, oldest first.
        user_ids: of every history, None for one of nobody.
        prompts: paraphrases, of one kind; the first one recommends.
        seed: of the draw among them.
    """

    def __init__(
        self,
        teacher: Teacher,
        histories: Sequence[np.ndarray],
        user_ids: Sequence[str | None],
        prompts: Sequence[PromptBuilder],
        *,
        seed: int = 0,
    ):
        self.teacher = teacher
        self.prompts = list(prompts)
        self.seed = seed
        self.histories = histories
        self.user_ids = user_ids
        rows = [int(teacher.lists.rows(number, np.array([len(own)]))[0]) for number, own in enumerate(histories)]
        self.chosen = np.flatnonzero(np.array(rows) >= 0)
        first = prompts[0]
        sizes = np.array(
            [min(len(histories[number]), first.max_history) for number in self.chosen.tolist()], dtype=np.int64
        )
        items = sizes + 1 if first.learns_all_positions else sizes
        self.lengths = items * first.item_tokens.shape[1] + first.layout.constant_tokens

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Example:
        prompts = self.prompts[_draw(self.seed, number, len(self.prompts))]
        chosen = int(self.chosen[number % len(self)])
        history = self.histories[chosen]
        target = self.teacher.target(chosen, len(history), -1, number=number)
        user = self.user_ids[chosen]
        recent = history[-prompts.max_history :]
        if prompts.learns_all_positions:
            return prompts.sequence(user, np.append(recent, target), len(recent))
        return prompts.pair(user, recent, target)


class TextTask(Dataset):
    """Examples whose prompt or answer has text.

    Args:
        examples: of the task.
        templates: paraphrases.
        prompt_encoder: their token ids.
        max_items: items of a history that fit.
        seed: of the draw among paraphrases.
    """

    def __init__(
        self,
        examples: TaskExamples,
        templates: Sequence[Template],
        prompt_encoder: PromptEncoder,
        *,
        max_items: int,
        seed: int,
    ):
        self.examples = examples
        self.templates = list(templates)
        self.prompt_encoder = prompt_encoder
        self.max_items = max_items
        self.seed = seed
        items = [min(len(subject[0]), max_items) if examples.items else 0 for subject in examples.subjects]
        constant = examples.text_tokens + examples.answer_tokens
        self.lengths = constant + examples.item_tokens * np.array(items, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.examples.subjects)

    def __getitem__(self, number: int) -> Example:
        template = self.templates[_draw(self.seed, number, len(self.templates))]
        fields = self.examples.fields(self.examples.subjects[number % len(self)], self.max_items)
        prompt, answer = self.prompt_encoder.encode(template, fields)
        return Example(np.empty(0, np.int64), np.array(prompt, np.int64), np.array(answer, np.int64))


class TaskMixture(Dataset):
    """Several tasks as one data set; each contributes its weight times its number of examples to an epoch.

    With a weight that is not a whole number, successive epochs continue through a fixed order of the task's examples,
    so that every example is used once before any is used again.

    Args:
        tasks: examples by name.
        weights: passes per epoch by name; a task with a weight contributes at least one example.
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


def build_text_tasks(
    options: TaskOptions,
    item_tokens: np.ndarray,
    prefixes: PrefixDataset,
    item_texts: ItemTexts,
    prompt_encoder: PromptEncoder,
    *,
    context: int | None = None,
    overflow: str = "error",
    seed: int,
) -> dict[str, Task]:
    """Return the text tasks of a recipe, by name.

    Args:
        options: weights and limits.
        item_tokens: token ids of every catalog row, `[N, L]`.
        prefixes: histories of training users with the item that follows.
        item_texts: titles and texts of the catalog.
        prompt_encoder: token ids of templates.
        context: positions of the model; None has no limit.
        overflow: of prompts longer than that: `error`, or `drop_oldest` items.
        seed: of all draws.

    Raises:
        ValueError: for tasks with titles on a catalog without titles, and prompts that the context can't hold.
    """
    tasks: dict[str, Task] = {}
    build = partial(text_task, prompt_encoder=prompt_encoder, context=context, overflow=overflow, seed=seed)
    fields = TemplateFields(options, item_texts, prompt_encoder, item_tokens)
    for name in options.text_tasks:
        templates = load_templates(name, options.templates)
        templates = templates if options.paraphrases else templates[:1]
        tasks[name] = build(name, fields.examples(name, prefixes), templates)
    return tasks


def text_task(
    name: str,
    examples: TaskExamples,
    templates: Sequence[Template],
    *,
    prompt_encoder: PromptEncoder,
    context: int | None,
    overflow: str,
    seed: int,
) -> TextTask:
    """Return a task of examples in words, whose prompts fit a model's context; other arguments as above.

    Args:
        name: of the task, for messages.
        examples: of the task.
        templates: paraphrases.

    Raises:
        ValueError: for a task without examples, and prompts that the context can't hold.
    """
    if not examples.subjects:
        raise ValueError(f"the task {name} needs items with texts, and there are none; set its weight to 0")
    max_items = fitting_items(
        examples.items,
        text=examples.text_tokens + max(map(prompt_encoder.constant_tokens, templates)),
        item=examples.item_tokens,
        answer=examples.answer_tokens,
        context=context,
        overflow=overflow,
        what=f"prompt of the task {name}",
    )
    return TextTask(examples, templates, prompt_encoder, max_items=max_items, seed=seed)


def _draw(seed: int, number: int, choices: int) -> int:
    """Return which of several paraphrases an example has; a function of seed and number alone."""
    return 0 if choices == 1 else int(np.random.default_rng([seed, number]).integers(choices))
