"""Sizes of a SimHash quantizer: everything that defines it besides its hyperplanes."""

from huggingface_hub.dataclasses import strict

from cost_hf.quantizers.cost.configuration_base_cost import QuantizerConfig


@strict
class SimhashConfig(QuantizerConfig):
    """Configuration of `SimhashModel`.

    Args:
        item_dim: width E of an item vector.
        level_sizes: number of codes of each level, powers of two: a level of 256 codes is eight bits.
        text_encoder: what gave the item vectors, as in `CostConfig`. None where unknown.

    Raises:
        ValueError: for sizes that no model can have.
    """

    model_type = "simhash"

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Number of bits of each level, L numbers."""
        return tuple(size.bit_length() - 1 for size in self.level_sizes)

    @property
    def num_bits(self) -> int:
        """Number of bits of a semantic ID."""
        return sum(self.level_bits)

    def validate_level_sizes(self) -> None:
        """Check that the codes of a level are so many bits."""
        super().validate_level_sizes()
        wrong = [size for size in self.level_sizes if size & (size - 1)]
        if wrong:
            raise ValueError(f"level_sizes must be powers of two, got {wrong[0]!r}")
