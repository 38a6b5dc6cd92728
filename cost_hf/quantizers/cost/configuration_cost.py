"""Sizes and loss weights of the residual quantizer: everything that defines a `CostModel` besides its weights.

One configuration covers the family. With contrastive weight 0 and reconstruction weight 1 it is the RQ-VAE of TIGER
(arXiv 2305.05065); without layers and decoder losses it is residual k-means. Defaults are those of CoST
(arXiv 2404.14774) where the paper states a value; it leaves reduction and input scale open.
"""

import math
from itertools import pairwise
from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_base_cost import INPUT_NORMS, MAX_WEIGHTS, MAX_WIDTH, QuantizerConfig, check_count, check_word

REDUCTIONS = ("sum", "mean")
RESIDUAL_UPDATES = ("detached", "straight_through")
MIN_SINKHORN_EPSILON = 0.003  # distances are scaled to [-1, 1], and float64 ends at exp(±745)
MAX_LAYERS = 256
WEIGHT_FIELDS = ("contrastive_weight", "reconstruction_weight", "codebook_weight", "commitment_weight")


@strict
class CostConfig(QuantizerConfig):
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

    hidden_sizes: list[int] | tuple[int, ...] | None = (512, 256, 128)
    latent_dim: int = 96
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

    def __post_init__(self, **kwargs):  # type: ignore[no-untyped-def]
        """Make sequences tuples, so that a configuration read from JSON equals the one that was written."""
        if self.hidden_sizes is not None:
            self.hidden_sizes = tuple(self.hidden_sizes)
        super().__post_init__(**kwargs)

    def validate_dimensions(self) -> None:
        """Check the widths of layers, latents and code vectors."""
        # validators run in the order of their names, and these sizes are needed here
        self.validate_item_dim()
        self.validate_level_sizes()
        layers = self.hidden_sizes or ()
        if len(layers) > MAX_LAYERS:
            raise ValueError(f"hidden_sizes must hold at most {MAX_LAYERS} widths, got {len(layers)}")
        check_count("latent_dim", self.latent_dim, 1, MAX_WIDTH)
        for index, width in enumerate(layers):
            check_count(f"hidden_sizes[{index}]", width, 1, MAX_WIDTH)
        if self.hidden_sizes is None and self.latent_dim != self.item_dim:
            raise ValueError(
                f"hidden_sizes=None means no layers, so latent_dim must equal item_dim={self.item_dim!r}, got "
                f"{self.latent_dim!r}; set them equal, or hidden_sizes=() for one linear layer"
            )
        chain = (self.item_dim, *layers, self.latent_dim)
        weights = 0 if self.hidden_sizes is None else 2 * sum(a * b for a, b in pairwise(chain))
        if weights > MAX_WEIGHTS:
            raise ValueError(f"widths {list(chain)!r} make {weights} weights, at most {MAX_WEIGHTS} are taken")
        if sum(self.level_sizes) * self.latent_dim > MAX_WEIGHTS:
            raise ValueError(
                f"level_sizes={list(self.level_sizes)!r} of width latent_dim={self.latent_dim!r} make more than "
                f"{MAX_WEIGHTS} weights; take smaller ones"
            )

    def validate_shared_codebooks(self) -> None:
        """Check that levels that share a codebook have one size."""
        if self.share_codebooks and len(set(self.level_sizes)) > 1:
            raise ValueError(
                f"share_codebooks=True needs levels of one size, got level_sizes={list(self.level_sizes)!r}; make them "
                "equal or set share_codebooks=False"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        check_word("input_norm", self.input_norm, INPUT_NORMS)
        check_word("reduction", self.reduction, REDUCTIONS)
        check_word("residual_update", self.residual_update, RESIDUAL_UPDATES)

    def validate_weights(self) -> None:
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
