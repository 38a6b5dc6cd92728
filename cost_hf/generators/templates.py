"""Text prompts: template files, and how a tokenizer turns them into token ids.

A template is a prompt and an answer with named fields. Fields of semantic IDs have no spaces beside them: byte-level
BPE would give a space before a SID a token of its own, and sentencepiece drops it.
"""

import logging
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cost_hf.generators.prompts import PromptLayout
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from cost_hf.yaml_text import read_yaml

logger = logging.getLogger(__name__)
USER_FIELDS = ("user", "users")  # semantic IDs of users, for methods that give them some
SID_FIELDS = ("history", "item", *USER_FIELDS)
FIELDS = (*SID_FIELDS, "text", "title", "titles")
Fields = tuple[set[str], set[str]]  # of the prompt, of the answer
# task -> fields of the prompt, fields of the answer
TASK_FIELDS: dict[str, Fields] = {
    "continuation": (set(), {"history"}),
    "instruction": ({"history"}, {"item"}),
    "text_to_item": ({"text"}, {"item"}),
    "item_to_title": ({"item"}, {"title"}),
    "titles_to_item": ({"titles"}, {"item"}),
    "history_to_title": ({"history"}, {"title"}),
}


@dataclass(frozen=True)
class Template:
    """The text of a prompt (`user`) and of its answer (`assistant`), with fields in braces."""

    user: str
    assistant: str


def load_templates(
    task: str,
    directory: str | Path | None = None,
    *,
    package: str = "cost_hf.generators",
    fields: Fields | None = None,
) -> list[Template]:
    """Read the paraphrases of a task, `<task>.yaml`, from a directory or from a package.

    Args:
        task: name of the file.
        directory: of templates in place of the shipped ones.
        package: whose folder `templates` has the shipped ones; that of a method for a task of its own.
        fields: of such a task, in the prompt and in the answer.

    Raises:
        ValueError: for a file that is not a list of templates with the fields of the task, without spaces around SIDs.
    """
    if directory is not None and not Path(directory).is_dir():
        raise ValueError(f"tasks.templates {str(directory)!r} is not a directory; check the path")
    shipped = resources.files(package) / "templates" / f"{task}.yaml"
    own = None if directory is None else Path(directory) / f"{task}.yaml"
    source = own if own is not None and own.is_file() else shipped
    try:
        entries = read_yaml(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{source} is not YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{source} must hold a list of templates with user and assistant, got {entries!r}")
    return [_checked(entry, fields or TASK_FIELDS[task], str(source)) for entry in entries]


def _checked(entry: Any, wanted_fields: Fields, source: str) -> Template:
    if not isinstance(entry, Mapping) or set(entry) != {"user", "assistant"}:
        raise ValueError(f"a template in {source} must have the keys user and assistant, got {entry!r}")
    for part, wanted in zip(("user", "assistant"), wanted_fields, strict=True):
        text = str(entry[part])
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        if set(fields) != wanted or len(fields) != len(wanted):
            raise ValueError(
                f"{part} of a template in {source} must have the fields {sorted(wanted)} once each, got {fields} in "
                f"{text!r}; correct it"
            )
        if part == "assistant" and wanted <= set(SID_FIELDS) and text != f"{{{fields[0]}}}":
            raise ValueError(
                f"assistant of a template in {source} must be {{{fields[0]}}} and nothing else, got {text!r}: a search "
                "generates semantic IDs only; move other text to user"
            )
        for name in SID_FIELDS:
            if re.search(rf"[ \t]\{{{name}\}}|\{{{name}\}}[ \t]", text):
                raise ValueError(
                    f"{text!r} in {source} has a space beside {{{name}}}; tokenizers give such a space a token of its "
                    "own, or drop it; remove the space"
                )
    return Template(str(entry["user"]), str(entry["assistant"]))


def fitting_items(
    wanted: int, *, text: int, item: int, answer: int, context: int | None, overflow: str, what: str = "prompt"
) -> int:
    """Return how many items of a history fit into a model's context beside the text and the answer.

    Args:
        wanted: items, at most; 0 for a prompt without a history.
        text: tokens that every such prompt has besides its items.
        item: tokens that each item adds.
        answer: tokens of the answer.
        context: positions of the model; None for no limit.
        overflow: `error`, or `drop_oldest` to keep the most recent items that fit.
        what: kind of prompt, for messages.

    Raises:
        ValueError: where they do not fit, with the numbers.
    """
    needed = text + item * wanted + answer
    if context is None or needed <= context:
        return wanted
    fits = (context - text - answer) // item if item else 0
    if fits < 1 or overflow == "error":
        remedy = (
            f"allow {fits} items (generator.max_history, tasks.max_titles), or set generator.overflow to drop_oldest"
            if fits >= 1
            else "shorten the text (generator.prompt, tasks.templates, max_title_tokens, max_text_tokens), or choose a "
            "backbone with a longer context"
        )
        raise ValueError(
            f"a {what} of {wanted} items takes {needed} tokens ({text} of text, {item} per item, {answer} for the "
            f"answer), the backbone has a context of {context}; {remedy}"
        )
    logger.warning("a %s keeps its %d most recent items, not %d: the context is %d", what, fits, wanted, context)
    return fits


class PromptEncoder:
    """Token ids of templates under one tokenizer, by its chat template where it has one.

    Args:
        tokenizer: extended by `vocabulary`.
        vocabulary: token texts of SIDs.
        is_causal: whether the answer continues the prompt, with `<|sid_begin|>` before a SID; else it is the decoder's.
        users: token texts of the SIDs of users, with a marker of their own; None where users have none.
    """

    def __init__(
        self, tokenizer: Any, vocabulary: SidVocabulary, *, is_causal: bool, users: SidVocabulary | None = None
    ):
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.users = users
        self._texts = {
            token: text
            for known in (vocabulary, *([] if users is None else [users]))
            for token, text in enumerate(known.tokens, known.first_id)
        }
        self.is_causal = is_causal
        added = tokenizer.get_added_vocab()  # some tokenizers have runs of spaces there, and all the unknown token
        self._added = {added[token] for token in added if token.strip()} - {tokenizer.unk_token_id}

    def sids(self, token_ids: np.ndarray) -> str:
        """Return the text of the tokens of items, or of users, without spaces."""
        return "".join(self._texts[token] for token in np.ravel(token_ids).tolist())

    def plain(self, text: str, *, max_tokens: int) -> str:
        """Return a text of the data without special or added tokens of the tokenizer, truncated to `max_tokens`."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        kept = [token for token in ids if token not in self._added][:max_tokens]
        if kept == ids:
            return text
        # the rest may spell another such token, and a cut inside a word may take more tokens than before
        return self.plain(self.tokenizer.decode(kept).strip("\ufffd "), max_tokens=max_tokens)

    def encode(self, template: Template, fields: Mapping[str, str]) -> tuple[list[int], list[int]]:
        """Return the token ids of the prompt and of the answer.

        A text answer ends with the tokenizer's end token; a SID has no end token, since its length is fixed.
        """
        answer = template.assistant.format(**fields)
        answered = next((name for name in SID_FIELDS if f"{{{name}}}" in template.assistant), None)
        has_sid = answered is not None
        prompt = self._prompt(template.user.format(**fields))
        if self.is_causal and has_sid:
            vocabulary = self.users if self.users is not None and answered in USER_FIELDS else self.vocabulary
            prompt += [vocabulary.begin_id]
        ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return prompt, ids if has_sid else [*ids, self.vocabulary.eos_id]

    def constant_tokens(self, template: Template) -> int:
        """Return how many tokens a prompt has without its fields."""
        prompt, _ = self.encode(template, dict.fromkeys(FIELDS, ""))
        return len(prompt)

    def layout(self, template: Template) -> PromptLayout:
        """Return the token ids around a history of SIDs, which do not depend on it.

        Raises:
            ValueError: where the tokenizer does not write an item as exactly L tokens.
        """
        item = self.vocabulary.level_offsets.tolist()
        probe = {name: self.sids(np.array([item, item])) for name in SID_FIELDS}
        prompt, answer = self.encode(template, probe)
        tokens = prompt if "{history}" in template.user else [*prompt, *answer]
        levels = len(item)
        starts = [start for start in range(len(tokens)) if tokens[start : start + 2 * levels] == item * 2]
        if len(starts) != 1:
            raise ValueError(
                f"{type(self.tokenizer).__name__} must write an item as exactly {levels} tokens in a row, got the ids "
                f"{tokens} for {template}; extend the tokenizer by SidVocabulary.extend, without strip or normalization"
            )
        return PromptLayout(tuple(tokens[: starts[0]]), tuple(tokens[starts[0] + 2 * levels :]))

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """The begin token, where the tokenizer of a causal model gives it to every text."""
        bos = self.tokenizer.bos_token_id
        begins = self.is_causal and bos is not None and self.tokenizer("")["input_ids"][:1] == [bos]
        return (bos,) if begins else ()

    def bare_layout(self) -> PromptLayout:
        """Return the layout without text; a begin token that the tokenizer gives every text is kept."""
        bare = PromptLayout.bare(self.vocabulary, is_causal=self.is_causal)
        return PromptLayout((*self.begin_ids, *bare.before), bare.after)

    def _prompt(self, text: str) -> list[int]:
        if not self.is_causal:
            return self.tokenizer(text)["input_ids"]
        if not getattr(self.tokenizer, "chat_template", None):
            ids = self.tokenizer(f"{text}\n")["input_ids"]
            return ids[:-1] if ids[-1:] == [self.tokenizer.eos_token_id] else ids
        messages = [{"role": "user", "content": text}]
        chat = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(chat, add_special_tokens=False)["input_ids"]
