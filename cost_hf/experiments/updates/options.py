"""Settings of an update, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.generators.options import MAX_COUNT
from cost_hf.semantic_ids.options import whole_number


@dataclass(frozen=True)
class UpdateOptions:
    """How a run is trained on, judged and kept.

    Examples:
        >>> UpdateOptions(epochs=3).epochs
        3
    """

    epochs: int = field(default=5, metadata={"help": "passes over the clicks that are learned"})
    learning_rate_factor: float = field(
        default=1.0, metadata={"help": "factor on the learning rates of the run's recipe"}
    )
    replay: float = field(
        default=0.8, metadata={"help": "share of old clicks among those that are learned, from 0 to below 1"}
    )
    holdout: float = field(
        default=0.1, metadata={"help": "share of the new clicks, the latest, that the new model is judged by"}
    )
    guard_cases: int = field(
        default=2000, metadata={"help": "most cases of the run's validation part, and of the new clicks, for judging"}
    )
    tolerance: float = field(
        default=0.05, metadata={"help": "share of NDCG@10 that the new model may lose; a significant loss is refused"}
    )
    keep: int = field(default=7, metadata={"help": "recommenders of other days that stay in updates/"})

    def validate(self) -> None:
        """Raise ValueError for values that no update can have."""
        for name in ("epochs", "guard_cases", "keep"):
            whole_number(getattr(self, name), name, most=MAX_COUNT)
        if not (0 < self.learning_rate_factor < float("inf")):
            raise ValueError(f"learning_rate_factor must be above 0, got {self.learning_rate_factor!r}")
        for name in ("replay", "holdout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share from 0 to below 1, got {getattr(self, name)!r}")
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"tolerance is a share from 0 to 1, got {self.tolerance!r}")
