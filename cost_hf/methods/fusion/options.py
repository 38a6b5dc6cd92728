"""Recipe section `fusion`, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.methods.base import MethodOptions
from cost_hf.methods.parts import PartsOptions

KINDS = ("reciprocal_rank", "score_sum")


@dataclass
class FusionSection(PartsOptions):
    """Which methods are fused, and how."""

    kind: str = field(
        default="reciprocal_rank",
        metadata={"help": "reciprocal_rank of the parts' lists, or score_sum of their standardised scores"},
    )

    def validate(self) -> None:
        """Raise ValueError for a kind, parts or fields that do not exist, or values that no run can have."""
        if self.kind not in KINDS:
            raise ValueError(f"fusion.kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        super().validate()


@dataclass
class FusionOptions(MethodOptions):
    """Sections of a fusion recipe."""

    fusion: FusionSection = field(default_factory=FusionSection)
