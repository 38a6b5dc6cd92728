"""Recipe sections of HSTU, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.methods.sasrec.options import MAX_WIDTH, SequenceModelOptions, SequenceOptions
from cost_hf.semantic_ids.options import whole_number


@dataclass
class HstuModelOptions(SequenceModelOptions):
    """Recipe section `model`."""

    intermediate_size: int = field(default=64, metadata={"help": "width of values and gates over all heads"})

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        whole_number(self.intermediate_size, "model.intermediate_size", most=MAX_WIDTH)
        if self.intermediate_size % self.num_heads:
            raise ValueError(
                f"model.intermediate_size must be a multiple of model.num_heads={self.num_heads!r}, got "
                f"{self.intermediate_size!r}"
            )


@dataclass
class HstuOptions(SequenceOptions):
    """Sections of an HSTU recipe."""

    model: HstuModelOptions = field(default_factory=HstuModelOptions)
