"""Sizes of a SimHash quantizer: everything that defines it besides its hyperplanes."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LEVELS = 64
MAX_CODES = 1 << 22  # of one level


@strict
class SimhashConfig(PreTrainedConfig):
    """Configuration of `SimhashModel`.

    Args:
        item_dim: width E of an item vector.
        level_sizes: number of codes of each level, powers of two: a level of 256 codes is eight bits.
        text_encoder: what gave the item vectors, as in `CostConfig`. None where unknown.

    Raises:
        ValueError: for sizes that no model can have.
    """

    model_type = "simhash"

    item_dim: int = 768
    level_sizes: list[int] | tuple[int, ...] = (64, 64, 64)
    text_encoder: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a configuration; raise ValueError for that of another kind of model, whose fields would be ignored."""
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(
                f"the configuration is that of a model of type {found!r:.80}, expected {cls.model_type!r}; give the "
                "directory or Hub id of such a model"
            )
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs):  # type: ignore[no-untyped-def]
        """Make the sizes a tuple, so that a configuration read from JSON equals the one that was written."""
        self.level_sizes = tuple(self.level_sizes)
        super().__post_init__(**kwargs)

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Number of bits of each level, L numbers."""
        return tuple(size.bit_length() - 1 for size in self.level_sizes)

    @property
    def num_bits(self) -> int:
        """Number of bits of a semantic ID."""
        return sum(self.level_bits)

    def validate_sizes(self) -> None:
        """Check width and codes per level."""
        if not 1 <= self.item_dim <= MAX_WIDTH:
            raise ValueError(f"item_dim must be in 1 … {MAX_WIDTH}, got {self.item_dim!r}")
        if not 1 <= len(self.level_sizes) <= MAX_LEVELS:
            raise ValueError(f"level_sizes needs 1 to {MAX_LEVELS} levels, got {list(self.level_sizes)!r:.80}")
        wrong = [size for size in self.level_sizes if not 2 <= size <= MAX_CODES or size & (size - 1)]
        if wrong:
            raise ValueError(f"level_sizes must be powers of two in 2 … {MAX_CODES}, got {wrong[0]!r}")
