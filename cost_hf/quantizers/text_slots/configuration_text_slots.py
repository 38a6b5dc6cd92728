"""Sizes, loss weights and language model of a `TextSlotsModel`: everything that defines it besides its weights."""

import math

from huggingface_hub.dataclasses import strict

from cost_hf.quantizers.cost.configuration_base_cost import (
    MAX_LEVELS,
    MAX_WIDTH,
    QuantizerConfig,
    check_count,
    check_word,
)

CLUSTERINGS = ("parallel", "residual")
TERMS = ("reconstruction_weight", "contrastive_weight", "alignment_weight")
MAX_TOKENS = 1 << 16
MAX_VOCABULARY = 1 << 24
MAX_LAYERS = 1 << 16


@strict
class TextSlotsConfig(QuantizerConfig):
    """Configuration of `TextSlotsModel`; `item_dim` is the width of all slots side by side.

    Args:
        base_name: Hub id or directory of the causal language model.
        base_revision: its commit on the Hub; None for a directory.
        base_digest: `weights_digest` of its weights.
        hidden_size: width D of its embeddings and states.
        vocab_size: tokens of its tokenizer; ones that were added for semantic IDs are never read or written.
        num_slots: slot tokens S behind a text.
        slot_dim: width E of what the bottleneck keeps of a slot's state.
        clustering: `parallel`, a level for every slot, or `residual`, levels over all slots side by side.
        max_tokens: tokens of a text that are read and rebuilt, from its beginning.
        adapter_rank: rank r of LoRA on the language model.
        adapter_layers: adapted layers, as `[name, inputs, outputs]`.
        reconstruction_weight: of the cross-entropy of the text, given its slots.
        contrastive_weight: of the in-batch contrastive loss of two views of a text; 0 leaves it out.
        temperature: divides its cosines.
        view_dropout: share of the tokens that the second view lacks.
        alignment_weight: of one minus the cosine of slots and words in the space of embeddings; 0 leaves it out.
    """

    model_type = "text_slots"

    base_name: str = ""
    base_revision: str | None = None
    base_digest: str = ""
    hidden_size: int = 576
    vocab_size: int = 49152
    num_slots: int = 3
    slot_dim: int = 32
    clustering: str = "parallel"
    max_tokens: int = 64
    adapter_rank: int = 8
    adapter_layers: list[list[str | int]] | tuple[tuple[str | int, ...], ...] = ()
    reconstruction_weight: float | int = 1.0
    contrastive_weight: float | int = 0.0
    temperature: float | int = 0.1
    view_dropout: float | int = 0.2
    alignment_weight: float | int = 0.0

    def __post_init__(self, **kwargs):  # type: ignore[no-untyped-def]
        """Derive the width of an item; make sequences tuples, so that a configuration read from JSON is the same."""
        self.item_dim = self.num_slots * self.slot_dim
        self.adapter_layers = tuple(tuple(layer) for layer in self.adapter_layers)
        super().__post_init__(**kwargs)

    @property
    def code_dim(self) -> int:
        """Width of a code vector."""
        return self.slot_dim if self.clustering == "parallel" else self.item_dim

    def validate_text_slots_sizes(self) -> None:
        """Check slots, their clustering and the sizes of the language model."""
        check_word("clustering", self.clustering, CLUSTERINGS)
        check_count("num_slots", self.num_slots, 1, MAX_LEVELS)
        check_count("slot_dim", self.slot_dim, 1, MAX_WIDTH)
        check_count("hidden_size", self.hidden_size, 1, MAX_WIDTH)
        check_count("vocab_size", self.vocab_size, 1, MAX_VOCABULARY)
        check_count("max_tokens", self.max_tokens, 1, MAX_TOKENS)
        check_count("adapter_rank", self.adapter_rank, 1, MAX_WIDTH)
        if self.clustering == "parallel" and self.num_slots != self.num_levels:
            raise ValueError(
                f"parallel clustering has a level for every slot, got num_slots={self.num_slots!r} and "
                f"{self.num_levels} levels; make them equal, or take residual"
            )

    def validate_text_slots_adapter(self) -> None:
        """Check the adapted layers, before weights of their sizes are made."""
        if len(self.adapter_layers) > MAX_LAYERS:
            raise ValueError(f"adapter_layers must be at most {MAX_LAYERS}, got {len(self.adapter_layers)}")
        for layer in self.adapter_layers:
            if len(layer) != 3 or not isinstance(layer[0], str) or not all(isinstance(size, int) for size in layer[1:]):
                raise ValueError(f"adapter_layers must hold [name, inputs, outputs] each, got {layer!r:.80}")
            for size in layer[1:]:
                check_count(f"a width in adapter_layers ({layer[0]!r:.80})", int(size), 1, MAX_WIDTH)

    def validate_text_slots_terms(self) -> None:
        """Check weights, temperature and the share of dropped tokens."""
        for name in TERMS:
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be 0 or above and finite, got {value!r}; 0 switches the term off")
        if not any(getattr(self, name) for name in TERMS):
            raise ValueError(f"one of {', '.join(TERMS)} must be above 0, got 0 for all; nothing would be learned")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature!r}")
        if not 0 < self.view_dropout < 1:
            raise ValueError(f"view_dropout is a share between 0 and 1, got {self.view_dropout!r}")
