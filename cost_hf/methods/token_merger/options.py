"""Recipe sections of a generator with a token merger, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.generators.options import GeneratorOptions
from cost_hf.methods.generative.method import GenerativeOptions
from cost_hf.semantic_ids.options import MAX_LEVELS, whole_number

MERGERS = ("attention", "mean")  # those of the configuration, whose import takes seconds


def t5() -> GeneratorOptions:
    """Return the generator that merges: T5 of LETTER's size."""
    return GeneratorOptions(kind="seq2seq", size="letter")


@dataclass
class MergerOptions:
    """Recipe section `merger`."""

    num_latents: int = field(
        default=4, metadata={"help": "latents that the encoder reads of an item; divides the tokens of an item"}
    )
    kind: str = field(
        default="attention", metadata={"help": "attention, or mean of each of num_latents equal runs of tokens"}
    )
    num_heads: int = field(default=4, metadata={"help": "attention heads of the merger"})

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        whole_number(self.num_latents, "merger.num_latents", most=MAX_LEVELS)
        whole_number(self.num_heads, "merger.num_heads", most=1 << 10)
        if self.kind not in MERGERS:
            raise ValueError(f"merger.kind must be one of {', '.join(MERGERS)}, got {self.kind!r}")


@dataclass
class TokenMergerOptions(GenerativeOptions):
    """Sections of a generator with a token merger."""

    generator: GeneratorOptions = field(default_factory=t5)
    merger: MergerOptions = field(default_factory=MergerOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        generator = self.generator
        if generator.kind != "seq2seq" or generator.backbone is not None or generator.num_user_tokens:
            raise ValueError(
                "items are merged in front of a T5 from scratch without user tokens, got "
                f"generator.kind={generator.kind!r}, generator.backbone={generator.backbone!r}, "
                f"generator.num_user_tokens={generator.num_user_tokens!r}; set them to seq2seq, null and 0"
            )
        levels = len(self.codes.level_sizes) + (self.catalog.collisions == "append")
        if self.catalog.reference is None and self.codes.level_sizes and levels % self.merger.num_latents:
            raise ValueError(
                f"merger.num_latents must divide the {levels} tokens of an item, the appended one included, got "
                f"{self.merger.num_latents!r}; change it, codes.level_sizes, or set catalog.collisions to none"
            )
