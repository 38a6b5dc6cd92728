"""Sizes of a GAOQ model: everything that defines it besides its centroids."""

from huggingface_hub.dataclasses import strict

from cost_hf.quantizers.cost.configuration_base_cost import (
    INPUT_NORMS,
    QuantizerConfig,
    check_num_weights,
    check_word,
)

INDEX_ALIGNMENTS = ("anchor", "local")
NUM_LEVELS = 3


@strict
class GaoqConfig(QuantizerConfig):
    """Configuration of `GaoqModel`.

    Args:
        item_dim: width E of an item vector.
        level_sizes: number of codes of the three levels.
        index_alignment: `anchor` gives children the codes of the anchors that they point at; `local` numbers them
            within each parent.
        input_norm: what happens to an item vector first: `none`, `l2` (unit length) or `standardize` (per dimension,
            with statistics stored in the model).
        text_encoder: what gave the item vectors, as in `CostConfig`. None where unknown.

    Raises:
        ValueError: for sizes or words that no model can have.
    """

    model_type = "gaoq"

    level_sizes: list[int] | tuple[int, ...] = (32, 40, 19)
    index_alignment: str = "anchor"
    input_norm: str = "none"

    def validate_level_sizes(self) -> None:
        """Check the three levels, and that there are as many orthogonal anchors as codes need."""
        super().validate_level_sizes()
        self.validate_item_dim()  # validators run in the order of their names, and the width is needed here
        if len(self.level_sizes) != NUM_LEVELS:
            raise ValueError(f"level_sizes must be {NUM_LEVELS} numbers, got {list(self.level_sizes)!r:.80}")
        first, second, last = self.level_sizes
        check_num_weights(self, (first * (1 + second) + last) * self.item_dim)
        if self.index_alignment == "anchor" and max(second, last) > self.item_dim:
            raise ValueError(
                f"orthogonal anchors of width {self.item_dim} are at most as many, got level_sizes="
                f"{list(self.level_sizes)!r}; lower the second and the third, or set index_alignment='local'"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        check_word("index_alignment", self.index_alignment, INDEX_ALIGNMENTS)
        check_word("input_norm", self.input_norm, INPUT_NORMS)
