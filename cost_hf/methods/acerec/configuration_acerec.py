"""Sizes and losses of ACERec: all that defines an `AceRecModel` besides its weights."""

import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

MERGERS = ("attention", "mean")
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 16
MAX_LAYERS = 256
MAX_LEVELS = 64
MAX_CODES = 1 << 22  # of all levels
MAX_HISTORY = 100_000
MAX_WEIGHTS = 10**10


@strict
class AceRecConfig(PreTrainedConfig):
    """Configuration of `AceRecModel`.

    Args:
        level_sizes: codes of each of the m digits of an item.
        num_latents: k, latents that the model reads of an item in place of its m digits.
        merger: how digits become latents: `attention` of queries that depend on the item, or the `mean` of each of k
            equal runs of digits.
        use_intent_token: whether a token after the latents of an item predicts the next item; without it the last
            latent does.
        hidden_size: width D of tokens, latents and states.
        intermediate_size: width of the feed-forward layers.
        num_layers: of the model of sequences.
        num_heads: attention heads; they divide `hidden_size`.
        dropout: share of activations dropped in training, after the input and every sub-layer.
        attention_dropout: share of attention weights dropped in training.
        max_history: most recent items that are read.
        token_temperature: divides the cosines of states and tokens.
        alignment_weight: of the loss that aligns the state with the summary of the next item; 0 leaves it out.
        alignment_temperature: divides the cosines of that loss.
        popularity_weight: of the popularity that is taken off the scores of that loss.
        reconstruction_weight: of the loss of rebuilding an item's tokens from its latents; 0 leaves the decoder out.
        assignment_digest: of the quantizer whose codes were learned; None where unknown.
        initializer_range: standard deviation of fresh embeddings.

    Raises:
        ValueError: for sizes or words that no model can have.
    """

    model_type = "acerec"
    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    level_sizes: list[int] | tuple[int, ...] = (256,) * 32
    num_latents: int = 4
    merger: str = "attention"
    use_intent_token: bool = True
    hidden_size: int = 448
    intermediate_size: int = 1024
    num_layers: int = 2
    num_heads: int = 4
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    max_history: int = 50
    token_temperature: float | int = 0.03
    alignment_weight: float | int = 0.1
    alignment_temperature: float | int = 0.07
    popularity_weight: float | int = 0.02
    reconstruction_weight: float | int = 0.03
    assignment_digest: str | None = None
    initializer_range: float = 0.02

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
    def num_levels(self) -> int:
        """m, digits of an item."""
        return len(self.level_sizes)

    @property
    def num_tokens(self) -> int:
        """Codes of all levels."""
        return sum(self.level_sizes)

    @property
    def block_size(self) -> int:
        """Tokens that the model of sequences reads of an item."""
        return self.num_latents + self.use_intent_token

    @property
    def norm_first(self) -> bool:
        """True: the input of a sub-layer is normalised, and what is added up is normalised once, at the end."""
        return True

    @property
    def has_decoder(self) -> bool:
        """True where tokens are rebuilt from latents in training."""
        return self.reconstruction_weight > 0

    def validate_levels(self) -> None:
        """Check the digits of an item and the latents that they become."""
        sizes = self.level_sizes
        if not 1 <= len(sizes) <= MAX_LEVELS or min(sizes, default=0) < 2 or sum(sizes) > MAX_CODES:
            raise ValueError(
                f"level_sizes must be 1 to {MAX_LEVELS} sizes of at least 2 codes, {MAX_CODES} in all, got "
                f"{list(sizes)!r:.80}"
            )
        if not 1 <= self.num_latents <= len(sizes):
            raise ValueError(f"num_latents must be 1 to {len(sizes)}, the number of digits, got {self.num_latents!r}")
        if self.merger not in MERGERS:
            raise ValueError(f"merger must be one of {', '.join(MERGERS)}, got {self.merger!r}")
        if self.merger == "mean" and len(sizes) % self.num_latents:
            raise ValueError(
                f"merger='mean' needs num_latents that divide the {len(sizes)} digits, got {self.num_latents!r}"
            )

    def validate_sizes(self) -> None:
        """Check the widths and counts."""
        bounds = dict.fromkeys(("hidden_size", "intermediate_size", "num_heads"), MAX_WIDTH)
        bounds |= {"num_layers": MAX_LAYERS, "max_history": MAX_HISTORY}
        for name, most in bounds.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {getattr(self, name)!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )
        width = self.hidden_size
        layers = self.num_layers * (4 * width + 2 * self.intermediate_size)
        if width * (self.num_tokens + self.max_history + self.num_levels * width + layers) > MAX_WEIGHTS:
            raise ValueError(
                f"{self.num_tokens} codes and hidden_size={width!r} make more than {MAX_WEIGHTS} weights; take smaller "
                "ones"
            )

    def validate_losses(self) -> None:
        """Check shares, temperatures and weights."""
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)!r}")
        for name in ("token_temperature", "alignment_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)!r}")
        for name in ("alignment_weight", "popularity_weight", "reconstruction_weight", "initializer_range"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or above and finite, got {getattr(self, name)!r}")
