"""Recipe section `codes` of kind `letter`; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost_hf.quantizers.base import CodesOptions, check_minimum
from cost_hf.quantizers.residual import RqvaeOptions

if TYPE_CHECKING:
    from cost_hf.quantizers.fit import CodesResult, FitInputs

MIN_SINKHORN_EPSILON = 0.003  # that of `configuration_cost`, whose import takes seconds; a test compares them


@CodesOptions.register("letter")
@dataclass
class LetterOptions(RqvaeOptions):
    """LETTER: RQ-VAE with a collaborative and a diversity term, and a last level that is balanced in training.

    Published weights are 0.02 (collaborative) and 1e-4 (diversity), with means over dimensions and levels and vectors
    as a language model gives them. On unit vectors means leave reconstruction no weight beside the collaborative term
    (neighbour overlap falls from .43 to .22 on 3,686 items), so the default keeps the sums of the other kinds and a
    weight that fits them.
    """

    collaborative_weight: float = field(
        default=0.2, metadata={"help": "of finding an item's collaborative vector in the batch", "is_own": True}
    )
    collaborative_method: str = field(
        default="sasrec", metadata={"help": "method that gives collaborative vectors", "is_own": True}
    )
    diversity_weight: float = field(
        default=1e-4, metadata={"help": "of spreading the codes of a cluster", "is_own": True}
    )
    diversity_clusters: int = field(
        default=10, metadata={"help": "clusters of a level's codes for diversity; at most half as many as codes"}
    )
    sinkhorn_epsilon: float = field(
        default=0.003, metadata={"help": "balance of the last level in training; 0: nearest codes", "is_own": True}
    )

    @property
    def needs_collaborative_vectors(self) -> bool:
        """Whether the collaborative term has a weight."""
        return self.collaborative_weight > 0

    @property
    def collaborative_dim(self) -> int:
        """Return the width of the latents: no projection is between latents and collaborative vectors."""
        return self.latent_dim if self.needs_collaborative_vectors else 0

    @property
    def has_codebook_gradient(self) -> bool:
        """Whether a loss term moves the code vectors."""
        return super().has_codebook_gradient or self.diversity_weight > 0

    def config_fields(self, item_dim: int) -> dict[str, Any]:
        """Return layers, loss terms and the balance of the last level."""
        return super().config_fields(item_dim) | {"sinkhorn_epsilon": self.sinkhorn_epsilon}

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Train a `CostModel` on item vectors and collaborative vectors."""
        from functools import partial

        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.letter.training import LetterTrainer
        from cost_hf.quantizers.training.trainer import train_quantizer

        model, history = train_quantizer(
            inputs.for_fitting(inputs.vectors),
            self,
            folder=folder,
            digest=digest,
            seed=seed,
            columns={} if inputs.fit_collaborative is None else {"collaborative": inputs.fit_collaborative},
            make_trainer=partial(LetterTrainer, options=self, seed=seed),
        )
        return CodesResult.of_model(model, inputs, history)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        for name in ("collaborative_weight", "diversity_weight", "sinkhorn_epsilon"):
            check_minimum(name, getattr(self, name), 0)
        check_minimum("diversity_clusters", self.diversity_clusters, 1)
        if 0 < self.sinkhorn_epsilon < MIN_SINKHORN_EPSILON:
            raise ValueError(
                f"codes.sinkhorn_epsilon must be 0 (nearest codes) or at least {MIN_SINKHORN_EPSILON}, got "
                f"{self.sinkhorn_epsilon!r}"
            )
