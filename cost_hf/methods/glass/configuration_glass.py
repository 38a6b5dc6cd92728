"""What the models of GLASS read of long histories, beside the sizes of the generators that they extend.

arXiv 2602.05663. With the default values nothing is added, and a model is its base class.
"""

import math
from dataclasses import dataclass

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, T5Config

# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LEVELS = 64
MAX_CODES = 1 << 24
MAX_TIERS = 255  # a tier is stored in one byte, and padding has a number of its own
MAX_RETRIEVED = 1 << 16
MAX_POSITIONS = 1 << 24


@dataclass
class GlassFields:
    """Fields that both configurations have.

    Args:
        level_sizes: codes of every level of an item, an appended one included; L numbers. The first one is K.
        first_code_id: token id of the first code of the first level.
        use_tier_token: read a token of the long history's similarities with the prototypes of first-level codes.
        content_dim: E, width of the frozen item vectors that similarities are of; 0 without that token.
        tier_edges: cosines between the tiers, rising; T - 1 numbers.
        use_retrieval: attend to the items of the long history that begin with the first code of the answer.
        retrieved_items: most recent ones of them that are attended to.
        neighbour_codes: codes with the nearest prototypes whose items are added where there are fewer than
            `min_retrieved`; 0 adds none.
        min_retrieved: items from which on no neighbour is needed.
        initial_gate: bias of the gates at the start; `sigmoid` of it is the share of the retrieved items.
    """

    level_sizes: list[int] | tuple[int, ...] = (64, 128, 128)
    first_code_id: int = 3
    use_tier_token: bool = False
    content_dim: int = 0
    tier_edges: list[float] | tuple[float, ...] = (-0.1, 0.0, 0.1)
    use_retrieval: bool = False
    retrieved_items: int = 30
    neighbour_codes: int = 0
    min_retrieved: int = 1
    initial_gate: float | int = -3.0

    @property
    def num_levels(self) -> int:
        """L, tokens of an item."""
        return len(self.level_sizes)

    @property
    def num_codes(self) -> int:
        """C, code tokens of all levels."""
        return sum(self.level_sizes)

    @property
    def num_tiers(self) -> int:
        """T, tiers of a similarity."""
        return len(self.tier_edges) + 1

    @property
    def tier_token_id(self) -> int:
        """Token at whose place the tier token stands: `<|sid_begin|>`, which follows the codes."""
        return self.first_code_id + self.num_codes

    @property
    def reads_text(self) -> bool:
        """True where vectors of items are read: by the tier token, and for the prototypes of neighbours."""
        return self.content_dim > 0

    @property
    def text_dim(self) -> int | None:
        """Width of the vectors that the catalog holds; None where none are read."""
        return self.content_dim or None

    @property
    def use_text_input(self) -> bool:
        """True where a request holds more than the tokens of its prompt."""
        return self.use_tier_token or self.use_retrieval

    def validate_levels(self) -> None:
        """Check the layout of an item."""
        sizes = self.level_sizes
        if not 1 <= len(sizes) <= MAX_LEVELS or any(not 1 <= size <= MAX_CODES for size in sizes):
            raise ValueError(f"level_sizes must be 1 to {MAX_LEVELS} sizes from 1 to {MAX_CODES}, got {sizes!r:.80}")
        if self.first_code_id < 0:
            raise ValueError(f"first_code_id must not be negative, got {self.first_code_id!r}")

    def validate_tiers(self) -> None:
        """Check the tiers, and that vectors have a width exactly where they are read."""
        edges = list(self.tier_edges)
        if not 1 <= len(edges) < MAX_TIERS or sorted(set(edges)) != edges or not all(map(math.isfinite, edges)):
            raise ValueError(
                f"tier_edges must be 1 to {MAX_TIERS - 1} rising cosines between the tiers, got {edges!r:.80}"
            )
        reads_vectors = self.use_tier_token or self.neighbour_codes > 0
        if not 0 <= self.content_dim <= MAX_WIDTH or reads_vectors != (self.content_dim > 0):
            raise ValueError(
                "content_dim must be the width of the item vectors with use_tier_token or neighbour_codes, and 0 "
                f"without them, got {self.content_dim!r} with use_tier_token={self.use_tier_token!r} and "
                f"neighbour_codes={self.neighbour_codes!r}"
            )

    def validate_retrieval(self) -> None:
        """Check the numbers of retrieved items and of neighbours."""
        for name in ("retrieved_items", "min_retrieved"):
            if not 1 <= getattr(self, name) <= MAX_RETRIEVED:
                raise ValueError(f"{name} must be 1 to {MAX_RETRIEVED}, got {getattr(self, name)!r}")
        most = self.level_sizes[0] - 1 if self.use_retrieval else 0
        if not 0 <= self.neighbour_codes <= most:
            raise ValueError(
                f"neighbour_codes must be 0 to {most}, other first-level codes whose items are retrieved, got "
                f"{self.neighbour_codes!r}"
            )
        if not math.isfinite(self.initial_gate):
            raise ValueError(f"initial_gate must be finite, got {self.initial_gate!r}")


@strict
class GlassConfig(T5Config, GlassFields):
    """Configuration of `GlassForConditionalGeneration`: that of T5 and `GlassFields`.

    Args:
        max_positions: tokens of the longest prompt; every place from its end has an embedding that is added to the
            token that stands there. 0 adds none, as in the paper.
    """

    model_type = "glass"

    max_positions: int = 0

    @property
    def use_text_input(self) -> bool:
        """True where a prompt is more than the embeddings of its tokens, or a request more than its prompt."""
        return super().use_text_input or self.max_positions > 0

    def validate_positions(self) -> None:
        """Check the number of positions."""
        if not 0 <= self.max_positions <= MAX_POSITIONS:
            raise ValueError(f"max_positions must be 0 to {MAX_POSITIONS}, got {self.max_positions!r}")


@strict
class GlassCausalConfig(LlamaConfig, GlassFields):
    """Configuration of `GlassForCausalLM`, which is not in the paper: that of Llama and `GlassFields`."""

    model_type = "glass_causal"

    def validate_causal(self) -> None:
        """Check that nothing is retrieved: a decoder-only model has no cross-attention that could read it."""
        if self.use_retrieval:
            raise ValueError("use_retrieval must be false for a causal model, which has no cross-attention, got true")
