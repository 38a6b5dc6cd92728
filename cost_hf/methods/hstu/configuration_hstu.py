"""Sizes and objective of HSTU: all that defines an `HstuModel` besides its weights."""

from huggingface_hub.dataclasses import strict

from cost_hf.methods.sasrec.configuration_sasrec import SequenceConfig


@strict
class HstuConfig(SequenceConfig):
    """Configuration of `HstuModel`; other arguments are those of `SequenceConfig`.

    Args:
        intermediate_size: width of values and gates over all heads; `num_heads` divides it.
    """

    model_type = "hstu"

    intermediate_size: int = 64

    @property
    def weights_per_layer(self) -> int:
        """Weights of one layer, without biases and norms."""
        return self.hidden_size * (2 * self.hidden_size + 3 * self.intermediate_size)

    def validate_layers(self) -> None:
        """Check what the layers alone have."""
        self.check_width("intermediate_size")
        if self.intermediate_size % self.num_heads:
            raise ValueError(
                f"intermediate_size must be a multiple of num_heads={self.num_heads!r}, got {self.intermediate_size!r}"
            )
