"""Recipe sections of CaDiRec, readable without torch; those of SASRec, and one of the diffusion."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.methods.sasrec.options import MAX_WIDTH, SasRecOptions
from cost_hf.semantic_ids.options import whole_number

# those of `configuration_cadirec`, whose import takes seconds; a test compares them
SAMPLINGS = ("one_step", "ddim")
SIMILARITIES = ("dot", "cosine")
MAX_STEPS = 100_000


@dataclass
class DiffusionOptions:
    """Recipe section `diffusion`; the names of its fields are those of the configuration."""

    diffusion_weight: float = field(default=0.1, metadata={"help": "of the loss of the diffusion (β)"})
    contrastive_weight: float = field(default=0.1, metadata={"help": "of the contrastive loss (α)"})
    masked_share: float = field(default=0.1, metadata={"help": "share of the items that a view replaces (ρ)"})
    noise_steps: int = field(default=1000, metadata={"help": "steps of the noise"})
    diffusion_layers: int = field(default=2, metadata={"help": "layers of the bidirectional encoder"})
    diffusion_intermediate_size: int = field(default=128, metadata={"help": "width of its feed-forward layers"})
    diffusion_dropout: float = field(default=0.1, metadata={"help": "dropout in this encoder"})
    sampling: str = field(default="one_step", metadata={"help": "how substitutes are made: one_step or ddim"})
    sampling_steps: int = field(default=5, metadata={"help": "steps of ddim"})
    num_substitutes: int = field(default=10, metadata={"help": "most likely items that a substitute is drawn from"})
    contrastive_similarity: str = field(default="dot", metadata={"help": "of two views: dot or cosine"})
    contrastive_temperature: float = field(default=1.0, metadata={"help": "divides the similarity of views"})

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        for name in ("diffusion_layers", "diffusion_intermediate_size", "num_substitutes"):
            whole_number(getattr(self, name), f"diffusion.{name}", most=MAX_WIDTH)
        whole_number(self.noise_steps, "diffusion.noise_steps", most=MAX_STEPS)
        whole_number(
            self.sampling_steps,
            "diffusion.sampling_steps",
            most=self.noise_steps,
            remedy="it is at most diffusion.noise_steps",
        )
        choices = {"sampling": SAMPLINGS, "contrastive_similarity": SIMILARITIES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"diffusion.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("diffusion_weight", "contrastive_weight"):
            value = getattr(self, name)
            if not (value >= 0 and isfinite(value)):
                raise ValueError(f"diffusion.{name} must be 0 or above and finite, got {value!r}")
        if not 0 < self.masked_share <= 1:
            raise ValueError(f"diffusion.masked_share is a share in (0, 1], got {self.masked_share!r}")
        if not 0 <= self.diffusion_dropout < 1:
            raise ValueError(f"diffusion.diffusion_dropout is a share in [0, 1), got {self.diffusion_dropout!r}")
        if not (self.contrastive_temperature > 0 and isfinite(self.contrastive_temperature)):
            raise ValueError(f"diffusion.contrastive_temperature must be above 0, got {self.contrastive_temperature!r}")


@dataclass
class CaDiRecOptions(SasRecOptions):
    """Sections of a CaDiRec recipe."""

    diffusion: DiffusionOptions = field(default_factory=DiffusionOptions)
