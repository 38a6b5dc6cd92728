"""Recipe section `evaluation`, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.search.normalizations import check_normalization
from cost_hf.semantic_ids.sizes import MAX_RANKED, whole_number

MAX_BATCH = 1 << 20
MAX_DRAWS = 10**6


@dataclass
class EvaluationOptions:
    """How a run is evaluated: beams, cutoffs, baselines, intervals."""

    num_beams: int = field(default=50, metadata={"help": "beams, and so the longest list that is evaluated"})
    normalization: str = field(
        default="vocabulary",
        metadata={
            "help": "scores of the search: over the whole vocabulary, as generate() gives them, or over each level's "
            "codes (level)"
        },
    )
    cutoffs: list[int] = field(
        default_factory=lambda: [5, 10, 20, 40],
        metadata={"help": "list lengths k of the metrics; above the beams null"},
    )
    batch_size: int = field(default=64, metadata={"help": "users ranked at once"})
    baselines: list[str] = field(
        default_factory=lambda: ["popularity", "item_knn", "text_last", "text_mean", "markov", "markov_text"],
        metadata={"help": "rows to compare with: names of methods, of their variants or of recipes"},
    )
    bootstrap_draws: int = field(default=2000, metadata={"help": "bootstrap draws of users for 95 % intervals"})
    max_users: int | None = field(default=None, metadata={"help": "seeded sample of test cases; null takes all"})
    validation_users: int | None = field(
        default=1024, metadata={"help": "seeded sample of validation cases that systems are chosen and weighted on"}
    )
    invalid_users: int = field(
        default=256, metadata={"help": "test cases on which generate() is counted leaving the catalog, by itself"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no evaluation can have."""
        bounds = {"num_beams": MAX_RANKED, "batch_size": MAX_BATCH, "bootstrap_draws": MAX_DRAWS}
        for name, most in bounds.items():
            whole_number(getattr(self, name), f"evaluation.{name}", most=most)
        check_normalization(self.normalization, field="evaluation.normalization")
        for name in ("max_users", "validation_users"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"evaluation.{name} must be at least 1, or null for all cases, got {value!r}")
        if self.invalid_users < 1:
            raise ValueError(f"evaluation.invalid_users must be at least 1, got {self.invalid_users!r}")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"evaluation.baselines must hold every name once, got {self.baselines!r}")
        if not self.cutoffs or min(self.cutoffs) < 1 or max(self.cutoffs) > MAX_RANKED:
            raise ValueError(
                f"evaluation.cutoffs must be list lengths of at least 1 and at most {MAX_RANKED}, got "
                f"{self.cutoffs!r:.80}"
            )
