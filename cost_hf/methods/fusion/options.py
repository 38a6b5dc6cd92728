"""Recipe section `fusion`, readable without torch."""

from dataclasses import dataclass, field
from typing import Any

from cost_hf.methods.base import MethodOptions
from cost_hf.methods.fusion.members import DEFAULT_MEMBERS, member_methods


@dataclass
class FusionSection:
    """Which methods are fused."""

    members: list[str] = field(
        default_factory=lambda: list(DEFAULT_MEMBERS),
        metadata={"help": "names of methods or their variants whose lists are fused, two or more"},
    )
    overrides: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "fields of members that differ from their defaults, as MEMBER.section.field: value"},
    )

    def validate(self) -> None:
        """Raise ValueError for members or fields that do not exist, or values that no run can have."""
        if len(self.members) < 2 or len(set(self.members)) < len(self.members):
            raise ValueError(f"fusion.members must be two or more different names, got {self.members!r}")
        for method in member_methods(self.members, self.overrides).values():
            method.options.validate()


@dataclass
class FusionOptions(MethodOptions):
    """Sections of a fusion recipe."""

    fusion: FusionSection = field(default_factory=FusionSection)
