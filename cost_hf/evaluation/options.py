"""Recipe section `evaluation`, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.semantic_ids.options import MAX_RANKED, whole_number

MAX_BATCH = 1 << 20
MAX_DRAWS = 10**6


@dataclass
class EvaluationOptions:
    """How a run is evaluated: length of the lists, cutoffs, baselines, intervals."""

    num_beams: int = field(
        default=50, metadata={"help": "length of the evaluated lists; beams of a generator that makes them"}
    )
    cutoffs: list[int] = field(
        default_factory=lambda: [5, 10, 20, 40],
        metadata={"help": "list lengths k of the metrics; null above num_beams"},
    )
    batch_size: int = field(default=64, metadata={"help": "cases ranked at once"})
    baselines: list[str] | None = field(
        default=None,
        metadata={
            "help": "rows beside the system: names of methods, variants or recipes; null for all counting methods"
        },
    )
    bootstrap_draws: int = field(default=2000, metadata={"help": "bootstrap draws of users for the 95 % intervals"})
    max_users: int | None = field(default=None, metadata={"help": "seeded sample of test cases; null for all"})
    validation_users: int | None = field(
        default=1024, metadata={"help": "seeded sample of validation cases on which choices are made; null for all"}
    )

    def validate(self) -> None:
        """Raise ValueError for values that no evaluation can have; names of baselines are checked by the recipe."""
        bounds = {"num_beams": MAX_RANKED, "batch_size": MAX_BATCH, "bootstrap_draws": MAX_DRAWS}
        for name, most in bounds.items():
            whole_number(getattr(self, name), f"evaluation.{name}", most=most)
        for name in ("max_users", "validation_users"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"evaluation.{name} must be at least 1, or null for all cases, got {value!r}")
        if self.baselines is not None and len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"evaluation.baselines must hold every name once, got {self.baselines!r}")
        if not self.cutoffs or min(self.cutoffs) < 1 or max(self.cutoffs) > MAX_RANKED:
            raise ValueError(
                f"evaluation.cutoffs must be list lengths of at least 1 and at most {MAX_RANKED}, got "
                f"{self.cutoffs!r:.80}"
            )
