"""Sizes and loss weights of the residual quantizer: everything that defines a `CostModel` besides its weights.

One configuration covers the family. With contrastive weight 0 and reconstruction weight 1 it is the RQ-VAE of TIGER
(arXiv 2305.05065); without layers and decoder losses it is residual k-means. Defaults are those of CoST
(arXiv 2404.14774) where the paper states a value; it leaves reduction and input scale open.
"""

import math
from itertools import pairwise
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INPUT_NORMS = ("none", "l2", "standardize")
REDUCTIONS = ("sum", "mean")
RESIDUAL_UPDATES = ("detached", "straight_through")
POOLINGS = ("mean", "cls")
ENCODER_FIELDS: dict[str, Any] = {
    "model": str,
    "revision": str | None,
    "pooling": str,
    "normalize": bool,
    "max_length": int | None,
    "prompt": str | None,
}
MIN_SINKHORN_EPSILON = 0.003  # distances are scaled to [-1, 1], and float64 ends at exp(±745)
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
MAX_LEVELS = 64
MAX_CODES = 1 << 22  # of one level
MAX_WEIGHTS = 10**10
WEIGHT_FIELDS = ("contrastive_weight", "reconstruction_weight", "codebook_weight", "commitment_weight")


@strict
class CostConfig(PreTrainedConfig):
    """Configuration of `CostModel`.

    Args:
        item_dim: width E of an item vector.
        hidden_sizes: widths between item vector and latent, mirrored in the decoder. Empty: one linear layer (a PCA
            has this form). None: no layers at all, the item vector itself is quantized and `latent_dim` equals
            `item_dim`.
        latent_dim: width D of latents and code vectors.
        level_sizes: number of codes K of each level; they may differ.
        share_codebooks: one codebook for all levels, which then have one size.
        input_norm: what happens to an item vector first: `none`, `l2` (unit length) or `standardize` (per dimension,
            with statistics stored in the model).
        temperature: of the contrastive softmax over cosines.
        contrastive_weight: alpha of CoST, on the in-batch contrastive term.
        reconstruction_weight: of the squared error between the normalised item vector and its reconstruction.
        codebook_weight: of the term that pulls codes to residuals.
        commitment_weight: beta, of the term that pulls residuals to codes.
        reduction: `sum` or `mean` over the dimensions of squared errors; always mean over items, sum over levels.
        residual_update: `detached` subtracts the code vector as a constant, so that the commitment term of every level
            has a gradient; `straight_through` does as published code does: only the first level's has one.
        duplicate_similarity: items of a batch whose vectors have a larger cosine are not each other's negatives.
        sinkhorn_epsilon: above 0, the last level is balanced over each batch in training mode (LETTER: 0.003);
            encoding always takes the nearest code.
        text_encoder: what gave the item vectors: `model` (an id or directory, or `lsa`, which transformers can't load),
            `revision`, `pooling` (`mean` or `cls`), `normalize`, `max_length`, `prompt`. None where unknown.

    Raises:
        ValueError: for sizes, weights or words that no model can have.

    Examples:
        >>> from cost_hf import CostConfig
        >>> config = CostConfig(level_sizes=(256, 256), contrastive_weight=0.0, reconstruction_weight=1.0)  # RQ-VAE
        >>> config.num_levels
        2
    """

    model_type = "cost"
    attribute_map: ClassVar[dict[str, str]] = {"hidden_size": "latent_dim"}

    item_dim: int = 768
    hidden_sizes: list[int] | tuple[int, ...] | None = (512, 256, 128)
    latent_dim: int = 96
    level_sizes: list[int] | tuple[int, ...] = (64, 64, 64)
    share_codebooks: bool = False
    input_norm: str = "none"
    temperature: float | int = 0.1
    contrastive_weight: float | int = 0.1
    reconstruction_weight: float | int = 0.0
    codebook_weight: float | int = 1.0
    commitment_weight: float | int = 0.25
    reduction: str = "sum"
    residual_update: str = "detached"
    duplicate_similarity: float | int = 1 - 1e-6
    sinkhorn_epsilon: float | int = 0.0
    text_encoder: dict[str, Any] | None = None

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
        """Make sequences tuples, so that a configuration read from JSON equals the one that was written."""
        self.level_sizes = tuple(self.level_sizes)
        if self.hidden_sizes is not None:
            self.hidden_sizes = tuple(self.hidden_sizes)
        super().__post_init__(**kwargs)

    @property
    def num_levels(self) -> int:
        """Number of levels L."""
        return len(self.level_sizes)

    def validate_dimensions(self) -> None:
        """Check the widths of vectors and layers."""
        layers = self.hidden_sizes or ()
        if len(layers) > MAX_LAYERS:
            raise ValueError(f"hidden_sizes must hold at most {MAX_LAYERS} widths, got {len(layers)}")
        widths = {"item_dim": self.item_dim, "latent_dim": self.latent_dim}
        widths |= {f"hidden_sizes[{index}]": size for index, size in enumerate(layers)}
        for name, width in widths.items():
            _check_count(name, width, 1, MAX_WIDTH)
        chain = (self.item_dim, *layers, self.latent_dim)
        weights = 0 if self.hidden_sizes is None else 2 * sum(a * b for a, b in pairwise(chain))
        if weights > MAX_WEIGHTS:
            raise ValueError(f"widths {list(chain)!r} make {weights} weights, at most {MAX_WEIGHTS} are taken")
        if self.hidden_sizes is None and self.latent_dim != self.item_dim:
            raise ValueError(
                f"hidden_sizes=None means no layers, so latent_dim must equal item_dim={self.item_dim!r}, got "
                f"{self.latent_dim!r}; set them equal, or hidden_sizes=() for one linear layer"
            )

    def validate_levels(self) -> None:
        """Check the codebooks."""
        if min(self.level_sizes, default=0) < 2 or len(self.level_sizes) > MAX_LEVELS:
            raise ValueError(
                f"level_sizes needs 1 to {MAX_LEVELS} levels with at least 2 codes each, got "
                f"{list(self.level_sizes)!r:.80}"
            )
        for level, size in enumerate(self.level_sizes):
            _check_count(f"level_sizes[{level}]", size, 2, MAX_CODES)
        if sum(self.level_sizes) * self.latent_dim > MAX_WEIGHTS:
            raise ValueError(
                f"level_sizes={list(self.level_sizes)!r} of width latent_dim={self.latent_dim!r} make more than "
                f"{MAX_WEIGHTS} weights; take smaller ones"
            )
        if self.share_codebooks and len(set(self.level_sizes)) > 1:
            raise ValueError(
                f"share_codebooks=True needs levels of one size, got level_sizes={list(self.level_sizes)!r}; make them "
                "equal or set share_codebooks=False"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        choices = {"input_norm": INPUT_NORMS, "reduction": REDUCTIONS, "residual_update": RESIDUAL_UPDATES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def validate_objective(self) -> None:
        """Check temperature, weights, the duplicate threshold and the balance."""
        for name in ("temperature", *WEIGHT_FIELDS, "sinkhorn_epsilon"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")
        for name in WEIGHT_FIELDS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}; 0 switches the term off")
        if not -1 <= self.duplicate_similarity <= 1:
            raise ValueError(f"duplicate_similarity is a cosine in [-1, 1], got {self.duplicate_similarity!r}")
        if self.sinkhorn_epsilon != 0 and self.sinkhorn_epsilon < MIN_SINKHORN_EPSILON:
            raise ValueError(
                f"sinkhorn_epsilon must be 0 (nearest codes) or at least {MIN_SINKHORN_EPSILON}, below which float64 "
                f"overflows, got {self.sinkhorn_epsilon!r}"
            )

    def validate_text_encoder(self) -> None:
        """Check that the text encoder is named with all that it takes to repeat its vectors."""
        if self.text_encoder is None or self.text_encoder == {"model": "lsa"}:
            return
        found = self.text_encoder
        wrong = set(found) ^ set(ENCODER_FIELDS)
        wrong |= {name for name in set(found) - wrong if not isinstance(found[name], ENCODER_FIELDS[name])}
        if wrong or found["pooling"] not in POOLINGS:
            raise ValueError(
                f"text_encoder must be None, {{'model': 'lsa'}} or hold {', '.join(ENCODER_FIELDS)} with pooling mean "
                f"or cls, got {found!r}; look at {', '.join(sorted(wrong)) or 'pooling'}"
            )


def _check_count(name: str, value: int, least: int, most: int) -> None:
    """Raise ValueError unless a field is within its bounds."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
