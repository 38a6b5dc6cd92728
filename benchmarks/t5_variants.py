"""The variants of `t5_study.py`: what each changes, and what it would show."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cost_hf.recommender.prompts import PromptBuilder


@dataclass(frozen=True)
class AgePrompts(PromptBuilder):
    """Sources in which a token before every item says how many items ago it was: `[age] item [age] item … </s>`.

    The first `max_history` user tokens of the vocabulary serve as ages.
    """

    def inputs(self, histories: Tensor, *, user_ids: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return left-padded `input_ids` and `attention_mask`, both `[B, S]`."""
        rows = self._recent(histories.cpu())
        age_ids = self.vocabulary.end_id + 1 + torch.arange(rows.shape[1] - 1, -1, -1)
        tokens = torch.cat([age_ids.expand(rows.shape)[..., None], self.item_tokens[rows.clamp_min(0)]], dim=2)
        tokens = tokens.masked_fill((rows < 0)[..., None], self.vocabulary.pad_id).flatten(1)
        present = (rows >= 0).repeat_interleave(1 + self.item_tokens.shape[1], dim=1)
        end = torch.full((len(rows), 1), self.vocabulary.eos_id)
        return torch.cat([tokens, end], 1), torch.cat([present, torch.ones_like(end, dtype=torch.bool)], 1).long()


@dataclass(frozen=True)
class Variant:
    """One way to train: changes of the generator and training sections, and the reason to try it."""

    why: str
    generator: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    has_ages: bool = False
    steps: int | None = None

    def but(self, why: str, **changes: Any) -> "Variant":
        """Return a copy with other fields of either section (`has_ages` of the variant itself)."""
        sections: dict[str, dict[str, Any]] = {"generator": dict(self.generator), "training": dict(self.training)}
        has_ages = changes.pop("has_ages", self.has_ages)
        for name, value in changes.items():
            sections["generator" if name in GENERATOR_FIELDS else "training"][name] = value
        return replace(self, why=why, has_ages=has_ages, **sections)


GENERATOR_FIELDS = ("kind", "size", "dropout", "num_user_tokens", "embedding_init_std", "scales_outputs")

CAUSAL = Variant(
    "the generator to catch up with, as cost_industrial trains it",
    {"kind": "causal", "size": "small", "dropout": 0.2},
    {"batch_size": 64, "learning_rate": 2e-3},
    steps=884,
)
RECIPE = Variant(
    "T5 as the shipped recipes train it: embedding drawn with deviation 1 and 15 times the learning rate",
    {"kind": "seq2seq", "size": "letter", "dropout": 0.1},
    {"batch_size": 256, "learning_rate": 1e-3, "embedding_learning_rate_multiplier": 15.0},
)
VARIANTS = {  # the most telling first: with several seeds later ones may find no time
    "causal": CAUSAL,
    "recipe": RECIPE,
    "all": RECIPE.but(
        "first items, ages and dropout together", first_items=True, dropout=0.2, num_user_tokens=20, has_ages=True
    ),
    "ages": RECIPE.but(
        "cross-attention does not see positions: a token tells how many items ago each item was",
        num_user_tokens=20,
        has_ages=True,
    ),
    "first": RECIPE.but("the causal generator learns the first item of every user too", first_items=True),
    "first_dropout": RECIPE.but("first items and the causal one's dropout", first_items=True, dropout=0.2),
    "first_one_rate": RECIPE.but(
        "first items without the embedding's extra rate", first_items=True, embedding_learning_rate_multiplier=1.0
    ),
    "dropout": RECIPE.but("4.5 M weights on 10,000 prefixes overfit: the causal one's dropout", dropout=0.2),
    "suffix": RECIPE.but(
        "one random prefix a user and epoch, everything behind it as target: the causal one's work for an epoch",
        first_items=True,
        target_items=20,
        prefixes="one",
    ),
    "fast": RECIPE.but("twice the learning rate", learning_rate=2e-3),
    "next_3": RECIPE.but("three following items as one target: more to learn from an encoder pass", target_items=3),
    "one_prefix": RECIPE.but("one random prefix a user and epoch: every user counts the same", prefixes="one"),
    "small_start": RECIPE.but(
        "small embedding, no factor d^-0.5 on the outputs, one learning rate: AdamW moves logits as in the causal one",
        embedding_init_std=0.05,
        scales_outputs=False,
        embedding_learning_rate_multiplier=1.0,
        learning_rate=2e-3,
    ),
    "half_start": RECIPE.but("embedding of deviation 0.3: the same steps move it further", embedding_init_std=0.3),
    "batch_64": RECIPE.but("a quarter of the batch, and so of the epochs, for as many updates", batch_size=64),
    "adafactor": RECIPE.but(
        "steps relative to a weight's size, as T5X trains",
        optimizer="adafactor",
        learning_rate=2e-2,
        embedding_learning_rate_multiplier=1.0,
    ),
    "one_rate": RECIPE.but("no extra rate for the embedding: what that gives", embedding_learning_rate_multiplier=1.0),
    "tiny": RECIPE.but("0.3 M weights", size="tiny", learning_rate=2e-3),
}
