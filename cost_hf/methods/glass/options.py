"""Recipe sections of GLASS, readable without torch."""

import math
from dataclasses import dataclass, field

from cost_hf.methods.generative import GenerativeOptions
from cost_hf.semantic_ids.options import MAX_HISTORY, whole_number

MAX_TIERS = 255  # those of `configuration_glass`, whose import takes seconds; a test compares them
MAX_RETRIEVED = 1 << 16


@dataclass
class LongHistoryOptions:
    """Recipe section `long_history`: what GLASS reads of a history beside the most recent items in the prompt."""

    max_items: int = field(default=1000, metadata={"help": "most recent items of a history that are read at all"})
    tier_token: bool = field(
        default=True,
        metadata={"help": "read a token of the history's similarities with the prototypes of first-level codes"},
    )
    tier_edges: list[float] = field(
        default_factory=lambda: [-0.1, 0.0, 0.1], metadata={"help": "cosines between the tiers of a similarity, rising"}
    )
    retrieval: bool = field(
        default=True,
        metadata={"help": "attend to the items of the history that share the first code of the answer; seq2seq only"},
    )
    retrieved_items: int = field(default=30, metadata={"help": "most recent ones of these items"})
    neighbour_codes: int = field(
        default=0, metadata={"help": "nearest first codes whose items are added where there are too few; 0 for none"}
    )
    min_retrieved: int = field(default=1, metadata={"help": "items from which on no neighbours are added"})
    initial_gate: float = field(
        default=-3.0, metadata={"help": "logit of the share of retrieved items when training starts"}
    )
    positions: bool = field(
        default=False,
        metadata={
            "help": "add embeddings of places, counted from the end, to the tokens of the prompt: the cross-attention "
            "of T5 has none; seq2seq only, not in the paper"
        },
    )

    @property
    def is_on(self) -> bool:
        """Whether anything is read of long histories."""
        return self.tier_token or self.retrieval

    @property
    def reads_vectors(self) -> bool:
        """Whether item vectors are read."""
        return self.tier_token or self.neighbour_codes > 0

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        whole_number(self.max_items, "long_history.max_items", most=MAX_HISTORY)
        for name in ("retrieved_items", "min_retrieved"):
            whole_number(getattr(self, name), f"long_history.{name}", most=MAX_RETRIEVED)
        whole_number(self.neighbour_codes, "long_history.neighbour_codes", least=0)
        edges = self.tier_edges
        if not 1 <= len(edges) < MAX_TIERS or sorted(set(edges)) != edges or not all(map(math.isfinite, edges)):
            raise ValueError(
                f"long_history.tier_edges must be 1 to {MAX_TIERS - 1} rising cosines, got {edges!r:.80}; correct them"
            )
        if not math.isfinite(self.initial_gate):
            raise ValueError(f"long_history.initial_gate must be finite, got {self.initial_gate!r}")
        if self.neighbour_codes and not self.retrieval:
            raise ValueError(
                f"long_history.neighbour_codes={self.neighbour_codes!r} adds to retrieved items, which "
                "long_history.retrieval=false leaves out; set it to 0"
            )


@dataclass
class GlassOptions(GenerativeOptions):
    """Sections of a generator of semantic IDs, and `long_history`."""

    long_history: LongHistoryOptions = field(default_factory=LongHistoryOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.generator.backbone is not None:
            raise ValueError(
                "glass trains its generator from scratch, got generator.backbone="
                f"{self.generator.backbone!r}; set it to null"
            )
        if self.generator.kind == "causal" and self.long_history.retrieval:
            raise ValueError(
                "long_history.retrieval needs the cross-attention of generator.kind seq2seq, got causal; set it to "
                "false, which leaves the tier token alone, or choose seq2seq"
            )
        if self.generator.kind == "causal" and self.long_history.positions:
            raise ValueError(
                "long_history.positions is for generator.kind seq2seq: the causal generator has rotary positions; set "
                "it to false"
            )
        sizes = self.codes.level_sizes if self.catalog.reference is None else []
        if sizes and self.long_history.neighbour_codes >= sizes[0]:
            raise ValueError(
                f"long_history.neighbour_codes must be below the {sizes[0]} codes of the first level, got "
                f"{self.long_history.neighbour_codes!r}; lower it, or raise codes.level_sizes"
            )
        if self.training.has_teacher and self.long_history.is_on:
            raise ValueError(
                "training.teacher adds examples that have no long history; set it to null, or "
                "long_history.tier_token and long_history.retrieval to false"
            )
