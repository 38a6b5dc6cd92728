"""Recipe sections of PRISM's recommender, readable without torch."""

from dataclasses import dataclass, field
from math import inf

from cost_hf.methods.base import Method, collaborative_method
from cost_hf.methods.generative import GenerativeOptions
from cost_hf.options import ItemFacts
from cost_hf.semantic_ids.options import whole_number

MAX_WIDTH = 1 << 20  # those of `configuration_prism_isr`, whose import takes seconds; a test compares them
MAX_LAYERS = 64
MAX_EXPERTS = 256


@dataclass
class IsrOptions:
    """Recipe section `isr`: what PRISM adds to the generator. With all of it off it adds nothing."""

    fusion: bool = field(default=True, metadata={"help": "fuse the tokens of a history with vectors of their items"})
    collaborative_method: str | None = field(
        default=None,
        metadata={"help": "method that gives collaborative vectors to fuse with, such as sasrec; null for none"},
    )
    collaborative_dim: int = field(default=64, metadata={"help": "width of these vectors"})
    content_size: int = field(default=256, metadata={"help": "width that text vectors are projected to"})
    collaborative_size: int = field(default=64, metadata={"help": "width that collaborative vectors are projected to"})
    experts: int = field(default=3, metadata={"help": "networks that the router of the fusion chooses from"})
    active_experts: int = field(default=2, metadata={"help": "networks that are mixed at a token"})
    expert_sizes: list[int] = field(
        default_factory=lambda: [256, 128, 64], metadata={"help": "layers of each of these networks"}
    )
    initial_gate: float = field(
        default=-2.0, metadata={"help": "logit of the share of the fused embedding when training starts"}
    )
    positions: bool | None = field(
        default=None,
        metadata={
            "help": "add embeddings of item, level and recency to the tokens of items; null is true for seq2seq and "
            "false for causal, which has rotary positions"
        },
    )
    codebook_weight: float = field(
        default=5e-4,
        metadata={"help": "of predicting the next item's code vectors, where the codes have any; 0 leaves it out"},
    )
    tag_weight: float = field(
        default=5e-4, metadata={"help": "of predicting the next item's tags, where tag_column names any"}
    )
    tag_column: str | None = field(
        default=None,
        metadata={"help": "column of categories from broad to narrow (lists, or commas between); null for no tags"},
    )
    density_temperatures: list[float] | None = field(
        default_factory=lambda: [0.7, 0.8],
        metadata={
            "help": "lowest and highest temperature of the loss of a code, lower the more codes may follow the ones "
            "before; null divides no logits"
        },
    )

    @property
    def has_tags(self) -> bool:
        """Whether tags of the next item are predicted."""
        return self.tag_column is not None and self.tag_weight > 0

    @property
    def changes_loss(self) -> bool:
        """Whether the loss is, or may be, another than the cross-entropy of tokens."""
        return self.codebook_weight > 0 or self.has_tags or self.density_temperatures is not None

    def adds_positions(self, kind: str) -> bool:
        """Return whether positions are added in a generator of a kind."""
        return kind == "seq2seq" if self.positions is None else self.positions

    def source(self) -> Method | None:
        """Return the method of the collaborative vectors; None without one."""
        if self.collaborative_method is None:
            return None
        return collaborative_method(self.collaborative_method, field="isr.collaborative_method")

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for a column without tags."""
        if self.has_tags:
            from cost_hf.data.category_tags import CategoryTags

            CategoryTags.of(items.table, str(self.tag_column), levels=1, field="isr.tag_column")

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        for name in ("collaborative_dim", "content_size", "collaborative_size"):
            whole_number(getattr(self, name), f"isr.{name}", most=MAX_WIDTH)
        whole_number(self.experts, "isr.experts", most=MAX_EXPERTS)
        whole_number(self.active_experts, "isr.active_experts", most=self.experts)
        if not 1 <= len(self.expert_sizes) <= MAX_LAYERS:
            raise ValueError(f"isr.expert_sizes must be 1 to {MAX_LAYERS} widths, got {len(self.expert_sizes)}")
        for place, size in enumerate(self.expert_sizes):
            whole_number(size, f"isr.expert_sizes[{place}]", most=MAX_WIDTH)
        for name in ("codebook_weight", "tag_weight"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"isr.{name} must be 0 or above and finite, got {getattr(self, name)!r}")
        bounds = self.density_temperatures
        if bounds is not None and not (len(bounds) == 2 and 0 < bounds[0] <= bounds[1] < inf):
            raise ValueError(
                "isr.density_temperatures must be the lowest and the highest temperature, above 0, or null, got "
                f"{bounds!r}"
            )
        if self.collaborative_method is not None and not self.fusion:
            raise ValueError(
                f"isr.collaborative_method={self.collaborative_method!r} gives vectors for the fusion, which "
                "isr.fusion=false leaves out; set it to null"
            )
        if self.tag_column is not None and self.tag_weight == 0:
            raise ValueError(
                f"isr.tag_column={self.tag_column!r} names tags to predict, which isr.tag_weight=0 leaves out; set it "
                "to null"
            )


@dataclass
class PrismOptions(GenerativeOptions):
    """Sections of a generator of semantic IDs, and `isr`."""

    isr: IsrOptions = field(default_factory=IsrOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.generator.backbone is not None:
            raise ValueError(
                "prism trains its generator from scratch, got generator.backbone="
                f"{self.generator.backbone!r}; set it to null"
            )
        if self.isr.positions and self.generator.kind == "causal":
            raise ValueError(
                "isr.positions is for generator.kind seq2seq: the causal generator has rotary positions; set it to null"
            )
        if self.isr.density_temperatures is not None and self.training.temperature != 1:
            raise ValueError(
                f"training.temperature={self.training.temperature!r} and isr.density_temperatures both divide the "
                "logits in the loss; set training.temperature to 1, or isr.density_temperatures to null"
            )
        if self.training.has_teacher and self.isr.changes_loss:
            raise ValueError(
                "training.teacher takes a share of the plain loss of tokens, which isr.codebook_weight, isr.tag_column "
                "and isr.density_temperatures change; set training.teacher to null, or these to 0 and null"
            )
        source = self.isr.source()
        if source is not None:
            source.check_item_width(self.isr.collaborative_dim, field="isr.collaborative_dim")
