"""The variants of `t5_study.py`: what each changes, and what it would show."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from t5_mechanisms import AdafactorTrainer, AgePrompts, OnePrefixTrainer

from cost_hf.generators.backbones import GeneratorOptions
from cost_hf.generators.generator_training import GeneratorTrainer
from cost_hf.generators.prompts import PromptBuilder


@dataclass(frozen=True)
class Variant:
    """One way to train: changes of the generator and training sections and what the package has not.

    Attributes:
        why: the reason to try it.
        generator: fields of that section.
        training: fields of that section.
        prompts: layout of the sources.
        trainer: takes other examples or makes other steps.
        target_items: following items in a decoder row.
        starts_small: whether T5 starts with a small embedding and plain outputs.
        steps: updates, where they are not those of all variants.
        budget: multiple of the minutes of all variants.
    """

    why: str
    generator: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    prompts: type[PromptBuilder] = PromptBuilder
    trainer: type[GeneratorTrainer] = GeneratorTrainer
    target_items: int = 1
    starts_small: bool = False
    steps: int | None = None
    budget: float = 1.0

    def but(self, why: str, **changes: Any) -> "Variant":
        """Return a copy with other fields of its own, of the generator's section or else of the training's."""
        own = {name: changes.pop(name) for name in OWN_FIELDS & changes.keys()}
        generator = {name: changes.pop(name) for name in GENERATOR_FIELDS & changes.keys()}
        return replace(self, why=why, generator=self.generator | generator, training=self.training | changes, **own)


OWN_FIELDS = {entry.name for entry in fields(Variant)}
GENERATOR_FIELDS = {entry.name for entry in fields(GeneratorOptions)}

CAUSAL = Variant(
    "the generator to catch up with, as cost_industrial trains it",
    {"kind": "causal", "size": "small", "dropout": 0.2},
    {"batch_size": 64, "learning_rate": 2e-3, "precision": "fp32"},
    steps=884,
)
RECIPE = Variant(
    "T5 of LETTER's size with 15 times the learning rate for its embedding, every prefix an example",
    {"kind": "seq2seq", "size": "letter", "dropout": 0.1},
    {"batch_size": 256, "learning_rate": 1e-3, "embedding_learning_rate_multiplier": 15.0, "precision": "fp32"},
)
FIRST = RECIPE.but("the causal generator learns the first item of every user too", first_items=True)
SHORT = FIRST.but("first items, small batches and bf16 for a few minutes of a CPU", batch_size=64, precision="bf16")
AGES = {"num_user_tokens": 20, "prompts": AgePrompts}
VARIANTS = {  # the most telling first: with several seeds later ones may find no time
    "causal": CAUSAL,
    "recipe": RECIPE,
    "all": RECIPE.but("first items, ages and dropout together", first_items=True, dropout=0.2, **AGES),
    "ages": RECIPE.but("cross-attention does not see positions: a token tells how many items ago each was", **AGES),
    "first": FIRST,
    "first_dropout": FIRST.but("first items and the causal one's dropout", dropout=0.2),
    "first_one_rate": FIRST.but(
        "first items without the embedding's extra rate", embedding_learning_rate_multiplier=1.0
    ),
    "dropout": RECIPE.but("4.5 M weights on 10,000 prefixes overfit: the causal one's dropout", dropout=0.2),
    "suffix": RECIPE.but(
        "one random prefix a user and epoch, everything behind it as target: the causal one's work for an epoch",
        first_items=True,
        target_items=20,
        trainer=OnePrefixTrainer,
    ),
    "fast": RECIPE.but("twice the learning rate", learning_rate=2e-3),
    "next_3": RECIPE.but("three following items as one target: more to learn from an encoder pass", target_items=3),
    "one_prefix": RECIPE.but(
        "one random prefix a user and epoch: every user counts the same", trainer=OnePrefixTrainer
    ),
    "small_start": RECIPE.but(
        "small embedding, no factor d^-0.5 on the outputs, one learning rate: AdamW moves logits as in the causal one",
        starts_small=True,
        embedding_learning_rate_multiplier=1.0,
        learning_rate=2e-3,
    ),
    "adafactor": RECIPE.but(
        "steps relative to a weight's size, as T5X trains; slow here, so it made few",
        trainer=AdafactorTrainer,
        learning_rate=2e-2,
    ),
    "one_rate": RECIPE.but("no extra rate for the embedding: what that gives", embedding_learning_rate_multiplier=1.0),
}
CPU_VARIANTS = {  # for a budget of CPU seconds, beside `causal`
    "short": SHORT,
    "slim": SHORT.but("the same with about as many weights as the causal one", size="small"),
    "slim_long": SHORT.but(
        "the slim one for as many updates as it takes, four times the seconds at most", size="small", budget=4.0
    ),
    "long": SHORT.but("four times the seconds", budget=4.0),
    "long_prefixes": SHORT.but("four times the seconds, no first items", budget=4.0, first_items=False),
    "long_one_rate": SHORT.but(
        "four times the seconds, no extra rate for the embedding", budget=4.0, embedding_learning_rate_multiplier=1.0
    ),
}
