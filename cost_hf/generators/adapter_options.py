"""Recipe section `adapter`, readable without torch."""

from dataclasses import dataclass, field


@dataclass
class AdapterOptions:
    """Recipe section `adapter`: LoRA on a backbone; without `r` all weights are trained."""

    r: int | None = field(default=None, metadata={"help": "rank of LoRA; null trains all weights of the generator"})
    alpha: float | None = field(default=None, metadata={"help": "scale: the update counts alpha / r; null is 2 r"})
    dropout: float = field(default=0.0, metadata={"help": "dropout of what enters the adapters"})
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "names of the layers, all-linear, or null for peft's choice by model type"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no adapter can have."""
        if self.r is not None and self.r < 1:
            raise ValueError(f"adapter.r must be at least 1, or null to train all weights, got {self.r!r}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"adapter.alpha must be above 0, got {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout must be a share from 0 to below 1, got {self.dropout!r}")
        if self.r is None and (self.alpha, self.dropout, self.target_modules) != (None, 0.0, None):
            raise ValueError("adapter.alpha, dropout and target_modules need adapter.r, got null; give a rank like 8")
