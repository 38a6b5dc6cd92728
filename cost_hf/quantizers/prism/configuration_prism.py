"""Sizes and loss weights of PRISM's quantizer: everything that defines a `PrismModel` besides its weights."""

import math

from huggingface_hub.dataclasses import strict

from cost_hf.quantizers.cost.configuration_base_cost import MAX_CODES, MAX_LEVELS, MAX_WIDTH, check_word
from cost_hf.quantizers.cost.configuration_cost import CostConfig

CODEBOOK_UPDATES = ("gradient", "ema")
# weights of terms that move code vectors by their gradient, which do nothing where a moving average moves them
CODEBOOK_TERMS = ("codebook_weight", "anchor_weight", "balance_weight")
COLLABORATIVE_TERMS = ("collaborative_weight", "gate_weight")
TAG_TERMS = ("tag_weight", "anchor_weight")
OWN_WEIGHTS = ("content_weight", *COLLABORATIVE_TERMS, "gate_spread_weight", *TAG_TERMS, "balance_weight")
# terms of the family that this model does not have
OTHER_TERMS = ("contrastive_weight", "reconstruction_weight", "sinkhorn_epsilon")


@strict
class PrismConfig(CostConfig):
    """Configuration of `PrismModel`; fields that `CostConfig` has too are described there.

    Args:
        collaborative_dim: width C of collaborative vectors; 0 is a model of content alone.
        dropout: share of activations dropped in training, in encoder and decoder.
        content_weight: of one minus the cosine between content vector and its reconstruction (l_c).
        collaborative_weight: the same for the gated collaborative vector (l_b).
        gate_weight: of the popularity supervision of the gate (w_g).
        gate_spread_weight: within it, of the variance of the gate that a batch lacks (w_d).
        gate_spread: root of the variance that is wanted (s*).
        tag_weight: of predicting an item's tag of a level from its codes so far (delta).
        anchor_weight: of tags and code vectors that are near each other (beta).
        balance_weight: of code vectors that are unlike each other and used equally often (gamma).
        tag_sizes: number of tags of each tag level, from broad to narrow; empty without tag supervision.
        codebook_update: `gradient` moves code vectors by the codebook term and others, `ema` by a moving average of the
            residuals that chose them.
        ema_decay: of that moving average.
    """

    model_type = "prism_quantizer"

    latent_dim: int = 32
    reduction: str = "mean"
    contrastive_weight: float | int = 0.0
    collaborative_dim: int = 64
    dropout: float | int = 0.1
    content_weight: float | int = 1.0
    collaborative_weight: float | int = 1.0
    gate_weight: float | int = 0.8
    gate_spread_weight: float | int = 2.0
    gate_spread: float | int = 0.2
    tag_weight: float | int = 0.0
    anchor_weight: float | int = 0.0
    balance_weight: float | int = 0.1
    tag_sizes: list[int] | tuple[int, ...] = ()
    codebook_update: str = "gradient"
    ema_decay: float | int = 0.99

    def __post_init__(self, **kwargs):  # type: ignore[no-untyped-def]
        """Make sequences tuples, so that a configuration read from JSON equals the one that was written."""
        self.tag_sizes = tuple(self.tag_sizes)
        super().__post_init__(**kwargs)

    @property
    def supervised_levels(self) -> int:
        """Number of leading levels that have a level of tags."""
        return min(self.num_levels, len(self.tag_sizes))

    def validate_prism_sizes(self) -> None:
        """Check the width of collaborative vectors, the layers and the numbers of tags."""
        if not 0 <= self.collaborative_dim <= MAX_WIDTH:
            raise ValueError(f"collaborative_dim must be in 0 … {MAX_WIDTH}, got {self.collaborative_dim!r}")
        if not self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes must hold one or more widths, got {self.hidden_sizes!r}; encoder and decoder of this "
                "model have hidden layers"
            )
        if len(self.tag_sizes) > MAX_LEVELS or not all(1 <= size <= MAX_CODES for size in self.tag_sizes):
            raise ValueError(
                f"tag_sizes must hold at most {MAX_LEVELS} numbers of 1 … {MAX_CODES}, got {self.tag_sizes!r:.80}"
            )

    def validate_prism_terms(self) -> None:
        """Check weights, and that no term is asked for that has no effect."""
        for name in (*OWN_WEIGHTS, "gate_spread"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be 0 or above and finite, got {value!r}; 0 switches the term off")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1), got {self.dropout!r}")
        self._refuse(OTHER_TERMS, "no term of this model has them")
        if not self.collaborative_dim:
            self._refuse(COLLABORATIVE_TERMS, "they need collaborative vectors (collaborative_dim)")
        if not self.tag_sizes:
            self._refuse(TAG_TERMS, "they need tags (tag_sizes)")

    def validate_prism_update(self) -> None:
        """Check how code vectors move."""
        check_word("codebook_update", self.codebook_update, CODEBOOK_UPDATES)
        if not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is a share between 0 and 1, got {self.ema_decay!r}")
        if self.codebook_update == "ema":
            self._refuse(CODEBOOK_TERMS, "their gradient moves code vectors, which codebook_update='ema' moves alone")
            if self.share_codebooks:
                raise ValueError("codebook_update='ema' needs a codebook for each level, got share_codebooks=True")

    def _refuse(self, names: tuple[str, ...], reason: str) -> None:
        found = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name)]
        if found:
            raise ValueError(f"{', '.join(names)} must be 0, since {reason}; got {', '.join(found)}")
