"""Sizes of a product quantizer: everything that defines it besides rotation and centroids."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INPUT_NORMS = ("none", "l2")
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 15  # a rotation has the square of it
MAX_LEVELS = 64
MAX_CODES = 1 << 22  # of one level
MAX_WEIGHTS = 10**10


@strict
class OpqConfig(PreTrainedConfig):
    """Configuration of `OpqModel`.

    Args:
        item_dim: width E of an item vector, at least the number of levels.
        level_sizes: number of codes of each level; a level quantizes one part of the rotated vector.
        input_norm: what happens to an item vector first: `none` or `l2` (unit length).
        text_encoder: what gave the item vectors, as in `CostConfig`. None where unknown.

    Raises:
        ValueError: for sizes or words that no model can have.

    Examples:
        >>> from cost_hf.quantizers.opq.configuration_opq import OpqConfig
        >>> OpqConfig(item_dim=10, level_sizes=(4, 4, 4)).part_widths
        (4, 3, 3)
    """

    model_type = "opq"

    item_dim: int = 768
    level_sizes: list[int] | tuple[int, ...] = (64, 64, 64)
    input_norm: str = "l2"
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
    def part_widths(self) -> tuple[int, ...]:
        """Dimensions of each level's part of the rotated vector, L numbers; they differ by one at most."""
        least, wider = divmod(self.item_dim, len(self.level_sizes))
        return tuple(least + (level < wider) for level in range(len(self.level_sizes)))

    def validate_sizes(self) -> None:
        """Check width and codes per level."""
        if not 1 <= len(self.level_sizes) <= MAX_LEVELS:
            raise ValueError(f"level_sizes needs 1 to {MAX_LEVELS} levels, got {list(self.level_sizes)!r:.80}")
        if not len(self.level_sizes) <= self.item_dim <= MAX_WIDTH:
            raise ValueError(
                f"item_dim must be in {len(self.level_sizes)} (the number of levels) … {MAX_WIDTH}, got "
                f"{self.item_dim!r}"
            )
        if not all(2 <= size <= MAX_CODES for size in self.level_sizes):
            raise ValueError(f"level_sizes must be in 2 … {MAX_CODES}, got {list(self.level_sizes)!r:.80}")
        if sum(size * width for size, width in zip(self.level_sizes, self.part_widths, strict=True)) > MAX_WEIGHTS:
            raise ValueError(
                f"level_sizes={list(self.level_sizes)!r:.80} for item_dim={self.item_dim!r} make more than "
                f"{MAX_WEIGHTS} weights; take smaller ones"
            )

    def validate_choices(self) -> None:
        """Check the field that is one word of a few."""
        if self.input_norm not in INPUT_NORMS:
            raise ValueError(f"input_norm must be one of {', '.join(INPUT_NORMS)}, got {self.input_norm!r}")
