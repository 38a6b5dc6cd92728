"""Sizes and objective of SASRec: all that defines a `SasRecModel` besides its weights.

One configuration covers the family: item ids, frozen text vectors, or both at the input and output side; dot products
with sampled binary cross-entropy (arXiv 1808.09781) or a full softmax over the catalog (arXiv 2309.07602).
"""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INPUTS = ("ids", "text", "both")
SIMILARITIES = ("cosine", "dot")
LOSSES = ("cross_entropy", "binary")


@strict
class SasRecConfig(PreTrainedConfig):
    """Configuration of `SasRecModel`.

    Args:
        num_items: N, size of the training catalog and number of id embeddings, where there are any.
        inputs: what an item is: its `ids` embedding, its frozen `text` vector through a small network, or the sum of
            `both`. Models of text alone score items that were never trained.
        text_dim: width E of an item vector; None with ids alone.
        text_hidden_size: width of the network behind item vectors.
        hidden_size: width D of items and users.
        num_layers: causal self-attention layers.
        num_heads: attention heads; they divide `hidden_size`.
        intermediate_size: width of the feed-forward layers.
        dropout: share of activations dropped in training, behind the input and every sub-layer.
        max_history: most recent items that are read, and number of positions.
        similarity: score of an item for a user: `cosine` over `temperature`, or the `dot` product. Without lengths,
            popular items can't win by a long vector alone (arXiv 1909.04276).
        temperature: divides the cosine.
        loss: `cross_entropy` over the whole catalog, or `binary` with sampled negatives.
        initializer_range: standard deviation of fresh embeddings.
    """

    model_type = "sasrec"
    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    num_items: int = 1
    inputs: str = "ids"
    text_dim: int | None = None
    text_hidden_size: int = 512
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 2
    intermediate_size: int = 256
    dropout: float | int = 0.5
    max_history: int = 50
    similarity: str = "cosine"
    temperature: float | int = 0.07
    loss: str = "cross_entropy"
    initializer_range: float = 0.02

    @property
    def has_ids(self) -> bool:
        """True where every item has an embedding of its own."""
        return self.inputs != "text"

    @property
    def has_text(self) -> bool:
        """True where item vectors are an input."""
        return self.inputs != "ids"

    def validate_sizes(self) -> None:
        """Check the widths and counts."""
        names = ("num_items", "text_hidden_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
        for name in (*names, "max_history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        for name, allowed in {"inputs": INPUTS, "similarity": SIMILARITIES, "loss": LOSSES}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def validate_text(self) -> None:
        """Check that item vectors have a width exactly where they are an input."""
        if self.has_text != (self.text_dim is not None) or (self.text_dim is not None and self.text_dim < 1):
            raise ValueError(
                f"text_dim must be the width of the item vectors with inputs text or both, and None with ids, got "
                f"{self.text_dim!r} with inputs={self.inputs!r}"
            )

    def validate_regularization(self) -> None:
        """Check dropout and temperature."""
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1), got {self.dropout!r}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")
