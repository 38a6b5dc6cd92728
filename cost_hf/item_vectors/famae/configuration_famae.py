"""Sizes of FAMAE: all that defines a `FamaeModel` besides its weights (ReSID, arXiv 2602.02338)."""

import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# bounds of what a file may ask for, checked before anything of that size is made
MAX_FIELDS = 64
MAX_VALUES = 1 << 31
MAX_WIDTH = 1 << 16
MAX_LAYERS = 256
MAX_LENGTH = 100_000
MAX_WEIGHTS = 10**10


@strict
class FamaeConfig(PreTrainedConfig):
    """Configuration of `FamaeModel`.

    Args:
        vocab_sizes: V of each field, J numbers, the item id first: its known values and one row for a missing value.
        hidden_size: width d of an embedding, a token and a hidden state; an item vector has J·d numbers.
        num_layers: bidirectional self-attention layers.
        num_heads: attention heads; they divide `hidden_size`.
        intermediate_size: width of the feed-forward layers.
        dropout: share of activations dropped in training, after the input and every sub-layer.
        max_length: items of a sequence T, the masked target included, and number of positions.
        initializer_range: standard deviation of fresh embeddings.
    """

    model_type = "famae"
    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    vocab_sizes: list[int] | tuple[int, ...] = (2,)
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    intermediate_size: int = 512
    dropout: float | int = 0.1
    max_length: int = 32
    initializer_range: float = 0.02

    @property
    def num_fields(self) -> int:
        """Number of fields J, the item id included."""
        return len(self.vocab_sizes)

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

    def validate_sizes(self) -> None:
        """Check the widths and counts."""
        sizes = list(self.vocab_sizes)
        if not 1 <= len(sizes) <= MAX_FIELDS or not all(2 <= size <= MAX_VALUES for size in sizes):
            raise ValueError(
                f"vocab_sizes must hold 1 to {MAX_FIELDS} numbers from 2 (a value and the missing one) to "
                f"{MAX_VALUES}, got {sizes!r:.200}"
            )
        bounds = dict.fromkeys(("hidden_size", "num_heads", "intermediate_size"), MAX_WIDTH)
        bounds |= {"num_layers": MAX_LAYERS, "max_length": MAX_LENGTH}
        for name, most in bounds.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {value!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )
        rows = sum(sizes) + len(sizes) + self.max_length
        layer = 4 * self.hidden_size + 2 * self.intermediate_size
        if self.hidden_size * (rows + self.num_layers * layer) > MAX_WEIGHTS:
            raise ValueError(
                f"vocab_sizes of {sum(sizes)} values, hidden_size={self.hidden_size!r}, num_layers="
                f"{self.num_layers!r} and intermediate_size={self.intermediate_size!r} make more than {MAX_WEIGHTS} "
                "weights; take smaller ones"
            )

    def validate_regularization(self) -> None:
        """Check dropout and the range of fresh weights."""
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1), got {self.dropout!r}")
        if not (self.initializer_range >= 0 and math.isfinite(self.initializer_range)):
            raise ValueError(f"initializer_range must be 0 or above and finite, got {self.initializer_range!r}")
