"""Sizes and weights of CaDiRec: the configuration of its SASRec, and that of the diffusion beside it."""

from dataclasses import fields

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig

SAMPLINGS = ("one_step", "ddim")
MAX_STEPS = 100_000


@strict
class CaDiRecConfig(SasRecConfig):
    """Configuration of `CaDiRecModel`; other arguments are those of `SasRecConfig`.

    Args:
        diffusion_weight: β, of the loss of the diffusion.
        contrastive_weight: α, of the contrastive loss.
        masked_share: ρ, share of the items of a sequence, at least one, that a view replaces.
        noise_steps: T, steps of the noise.
        diffusion_layers: of the bidirectional encoder that removes noise.
        diffusion_intermediate_size: width of its feed-forward layers.
        diffusion_dropout: of its activations and attention weights.
        sampling: how substitutes come about: from the items as they stand behind `one_step`, or from noise by some
            steps of `ddim` (arXiv 2010.02502).
        sampling_steps: of ddim.
        num_substitutes: most likely items that a substitute is drawn from.
        contrastive_similarity: of views, `dot` or `cosine`.
        contrastive_temperature: τ, divides the similarity.
    """

    model_type = "cadirec"

    diffusion_weight: float | int = 0.1
    contrastive_weight: float | int = 0.1
    masked_share: float | int = 0.1
    noise_steps: int = 1000
    diffusion_layers: int = 2
    diffusion_intermediate_size: int = 128
    diffusion_dropout: float | int = 0.1
    sampling: str = "one_step"
    sampling_steps: int = 5
    num_substitutes: int = 10
    contrastive_similarity: str = "dot"
    contrastive_temperature: float | int = 1.0

    def sasrec(self) -> SasRecConfig:
        """Return the configuration of the SASRec alone."""
        own = {entry.name for entry in fields(SasRecConfig)} - {entry.name for entry in fields(PreTrainedConfig)}
        return SasRecConfig(**{name: getattr(self, name) for name in own})

    def validate_diffusion(self) -> None:
        """Check what the diffusion and the contrastive loss have."""
        self.check_width("diffusion_intermediate_size")
        self.check_width("diffusion_layers")
        self.check_share("diffusion_dropout")
        self.check_width("num_substitutes")
        for name in ("diffusion_weight", "contrastive_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or above and finite, got {getattr(self, name)!r}")
        if not 0 < self.masked_share <= 1:
            raise ValueError(f"masked_share is a share in (0, 1], got {self.masked_share!r}")
        if not 0 < self.contrastive_temperature < float("inf"):
            raise ValueError(f"contrastive_temperature must be above 0, got {self.contrastive_temperature!r}")
        if not 1 <= self.sampling_steps <= self.noise_steps <= MAX_STEPS:
            raise ValueError(
                f"expected 1 <= sampling_steps <= noise_steps <= {MAX_STEPS}, got sampling_steps="
                f"{self.sampling_steps!r} and noise_steps={self.noise_steps!r}"
            )
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {self.sampling!r}")
        if self.contrastive_similarity not in ("dot", "cosine"):
            raise ValueError(f"contrastive_similarity must be dot or cosine, got {self.contrastive_similarity!r}")
