"""Sizes of a product quantizer: everything that defines it besides rotation and centroids."""

from huggingface_hub.dataclasses import strict

from cost_hf.quantizers.cost.configuration_base_cost import (
    QuantizerConfig,
    check_count,
    check_num_weights,
    check_word,
)

INPUT_NORMS = ("none", "l2")
MAX_WIDTH = 1 << 15  # a rotation has the square of it


@strict
class OpqConfig(QuantizerConfig):
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

    input_norm: str = "l2"

    @property
    def part_widths(self) -> tuple[int, ...]:
        """Dimensions of each level's part of the rotated vector, L numbers; they differ by one at most."""
        least, wider = divmod(self.item_dim, len(self.level_sizes))
        return tuple(least + (level < wider) for level in range(len(self.level_sizes)))

    def validate_item_dim(self) -> None:
        """Check the width of item vectors, which have a dimension or more for each level."""
        check_count("item_dim", self.item_dim, 1, MAX_WIDTH)
        if self.item_dim < len(self.level_sizes):
            raise ValueError(
                f"item_dim must be at least the number of levels, {self.num_levels}, got {self.item_dim!r}"
            )

    def validate_level_sizes(self) -> None:
        """Check levels and codes."""
        super().validate_level_sizes()
        sizes = zip(self.level_sizes, self.part_widths, strict=True)
        check_num_weights(self, sum(size * width for size, width in sizes))

    def validate_choices(self) -> None:
        """Check the field that is one word of a few."""
        check_word("input_norm", self.input_norm, INPUT_NORMS)
