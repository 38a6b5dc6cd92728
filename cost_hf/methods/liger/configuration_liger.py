"""Sizes and objective of LIGER: what its models have besides those of the generators that they extend.

arXiv 2411.18814. With the default values nothing is added, and a model is the generator of semantic IDs that its base
class is (TIGER, arXiv 2305.05065, for T5).
"""

import math
from dataclasses import dataclass

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, T5Config

# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 64
MAX_ITEMS = 100_000
MAX_NEGATIVES = 1 << 24


@dataclass
class LigerFields:
    """Fields that both configurations have.

    Args:
        num_levels: L, tokens of an item.
        use_text_input: add the text vector of an item to its tokens.
        dense_loss_weight: of the cross-entropy of the next item by its text vector; 0 leaves the dense head out.
        sid_loss_weight: of the cross-entropy of the next item's tokens.
        logits_temperature: divides the cosine between a user and an item.
        text_dim: E, width of the frozen text vectors; None where none are read.
        text_hidden_sizes: hidden layers of the network between text vectors and the model.
        text_dropout: share of its inputs and hidden activations dropped in training.
        input_dropout: share of the input dropped in training where text is added to it.
        dense_negatives: items drawn a step for the dense loss; None takes all items of training.
    """

    num_levels: int = 4
    use_text_input: bool = False
    dense_loss_weight: float | int = 0.0
    sid_loss_weight: float | int = 1.0
    logits_temperature: float | int = 0.07
    text_dim: int | None = None
    text_hidden_sizes: list[int] | tuple[int, ...] = (768, 512, 256)
    text_dropout: float | int = 0.2
    input_dropout: float | int = 0.5
    dense_negatives: int | None = None

    @property
    def has_dense_head(self) -> bool:
        """True where items are scored by their text vectors."""
        return self.dense_loss_weight > 0

    @property
    def reads_text(self) -> bool:
        """True where text vectors are an input, of the model or of its dense head."""
        return self.use_text_input or self.has_dense_head

    def validate_text(self) -> None:
        """Check that text vectors have a width exactly where they are read, and the sizes behind them."""
        fits = self.text_dim is None or 1 <= self.text_dim <= MAX_WIDTH
        if self.reads_text != (self.text_dim is not None) or not fits:
            raise ValueError(
                f"text_dim must be the width of the text vectors where they are read, and None elsewhere, got "
                f"{self.text_dim!r} with use_text_input={self.use_text_input!r} and dense_loss_weight="
                f"{self.dense_loss_weight!r}"
            )
        sizes = self.text_hidden_sizes
        if len(sizes) > MAX_LAYERS or any(not 1 <= size <= MAX_WIDTH for size in sizes):
            raise ValueError(
                f"text_hidden_sizes must be at most {MAX_LAYERS} widths from 1 to {MAX_WIDTH}, got {sizes!r:.80}"
            )

    def validate_losses(self) -> None:
        """Check weights, temperature and the number of negatives."""
        for name in ("dense_loss_weight", "sid_loss_weight"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be 0 or above and finite, got {getattr(self, name)!r}")
        if self.dense_loss_weight + self.sid_loss_weight == 0:
            raise ValueError("sid_loss_weight and dense_loss_weight must not both be 0: there would be no loss")
        if not (self.logits_temperature > 0 and math.isfinite(self.logits_temperature)):
            raise ValueError(f"logits_temperature must be above 0 and finite, got {self.logits_temperature!r}")
        if self.dense_negatives is not None and not 1 <= self.dense_negatives <= MAX_NEGATIVES:
            raise ValueError(
                f"dense_negatives must be 1 to {MAX_NEGATIVES}, or None for all items, got {self.dense_negatives!r}"
            )

    def validate_inputs(self) -> None:
        """Check the layout of an item and the shares of dropout."""
        if not 1 <= self.num_levels <= MAX_LAYERS:
            raise ValueError(f"num_levels must be 1 to {MAX_LAYERS}, got {self.num_levels!r}")
        for name in ("text_dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)!r}")


@strict
class LigerConfig(T5Config, LigerFields):
    """Configuration of `LigerForConditionalGeneration`: that of T5 and `LigerFields`.

    Args:
        max_items: items of the longest history, each with a position of its own; used with text input.
    """

    model_type = "liger"

    max_items: int = 20

    def validate_history(self) -> None:
        """Check the number of positions."""
        if not 1 <= self.max_items <= MAX_ITEMS:
            raise ValueError(f"max_items must be 1 to {MAX_ITEMS}, got {self.max_items!r}")


@strict
class LigerCausalConfig(LlamaConfig, LigerFields):
    """Configuration of `LigerForCausalLM`, which is not in the paper: that of Llama and `LigerFields`."""

    model_type = "liger_causal"
