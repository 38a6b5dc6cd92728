"""Sizes and objective of COBRA: what its model has besides the Llama that it extends (arXiv 2503.02453).

With the default values nothing is added, and the model is the generator of semantic IDs that its base class is.
"""

import math

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig

TEXT_ENCODERS = ("vectors", "light")
POOLINGS = ("cls", "mean")
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 64
MAX_ITEMS = 100_000
MAX_WORDS = 1 << 24


@strict
class CobraConfig(LlamaConfig):
    """Configuration of `CobraForCausalLM`: that of Llama and these fields.

    Args:
        num_levels: L, codes of an item.
        use_text_input: a dense vector follows the codes of every item in the input.
        dense_loss_weight: of the contrastive loss of the next item's dense vector; 0 leaves the dense head out.
        dense_temperature: divides the cosines in that loss.
        detach_targets: dense vectors that are compared get no gradient; the text encoder then learns as an input alone.
        mask_duplicates: other occurrences of the next item in a batch are no negatives.
        mask_same_user: other next items of the same user are no negatives.
        leaf_negatives: all items of training that share the codes of the next item are negatives, too.
        text_encoder: `vectors` maps frozen text vectors, `light` reads the words of texts by a small Transformer.
        text_dim: E, width of the frozen vectors, or number of words of a text; None where no texts are read.
        text_hidden_sizes: hidden layers over frozen vectors.
        text_vocab_size: word ids of the light encoder, 0 (padding) and 1 ([CLS]) included.
        text_layers: layers of the light encoder.
        text_pooling: what the light encoder takes of its last states: that of [CLS], or the mean over words.
        text_dropout: in the text encoder.
        input_dropout: of dense vectors in the input.
        max_items: items of the longest sequence in training, each with a position of its own.
    """

    model_type = "cobra"

    num_levels: int = 3
    use_text_input: bool = False
    dense_loss_weight: float | int = 0.0
    dense_temperature: float | int = 0.07
    detach_targets: bool = False
    mask_duplicates: bool = True
    mask_same_user: bool = True
    leaf_negatives: bool = False
    text_encoder: str = "vectors"
    text_dim: int | None = None
    text_hidden_sizes: list[int] | tuple[int, ...] = (256,)
    text_vocab_size: int = 8192
    text_layers: int = 1
    text_pooling: str = "cls"
    text_dropout: float | int = 0.2
    input_dropout: float | int = 0.2
    max_items: int = 21

    @property
    def has_dense_head(self) -> bool:
        """True where items are compared by dense vectors."""
        return self.dense_loss_weight > 0

    @property
    def reads_text(self) -> bool:
        """True where texts are an input, of the model or of its dense head."""
        return self.use_text_input or self.has_dense_head

    @property
    def item_width(self) -> int:
        """Tokens of an item in the input: its codes and, where there is one, the token of its dense vector."""
        return self.num_levels + self.use_text_input

    def validate_text(self) -> None:
        """Check that texts have a width exactly where they are read, and the sizes of their encoder."""
        fits = self.text_dim is None or 1 <= self.text_dim <= MAX_WIDTH
        if self.reads_text != (self.text_dim is not None) or not fits:
            raise ValueError(
                f"text_dim must be the width of the items' texts where they are read, and None elsewhere, got "
                f"{self.text_dim!r} with use_text_input={self.use_text_input!r} and dense_loss_weight="
                f"{self.dense_loss_weight!r}"
            )
        for name, known in (("text_encoder", TEXT_ENCODERS), ("text_pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        sizes = self.text_hidden_sizes
        if len(sizes) > MAX_LAYERS or any(not 1 <= size <= MAX_WIDTH for size in sizes):
            raise ValueError(
                f"text_hidden_sizes must be at most {MAX_LAYERS} widths from 1 to {MAX_WIDTH}, got {sizes!r:.80}"
            )
        for name, least, most in (("text_vocab_size", 3, MAX_WORDS), ("text_layers", 1, MAX_LAYERS)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {getattr(self, name)!r}")

    def validate_dense(self) -> None:
        """Check weight and temperature of the dense loss."""
        if not (self.dense_loss_weight >= 0 and math.isfinite(self.dense_loss_weight)):
            raise ValueError(f"dense_loss_weight must be 0 or above and finite, got {self.dense_loss_weight!r}")
        if not (self.dense_temperature > 0 and math.isfinite(self.dense_temperature)):
            raise ValueError(f"dense_temperature must be above 0 and finite, got {self.dense_temperature!r}")

    def validate_inputs(self) -> None:
        """Check the layout of an item and the shares of dropout."""
        if not 1 <= self.num_levels <= MAX_LAYERS:
            raise ValueError(f"num_levels must be 1 to {MAX_LAYERS}, got {self.num_levels!r}")
        if not 1 <= self.max_items <= MAX_ITEMS:
            raise ValueError(f"max_items must be 1 to {MAX_ITEMS}, got {self.max_items!r}")
        for name in ("text_dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)!r}")
