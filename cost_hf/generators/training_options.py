"""Recipe section `training`, and the fields that every section of a trained model has; readable without torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from cost_hf.semantic_ids.sizes import MAX_RANKED, whole_number

MAX_COUNT = 1 << 20  # of epochs, of the rows of a batch, and of what else is counted


@dataclass
class RankingTrainingOptions:
    """Fields that every recipe section of a trained model has."""

    section: ClassVar[str] = "training"

    epochs: int = field(default=17, metadata={"help": "passes over the training set"})
    batch_size: int = field(default=64, metadata={"help": "rows per device and step"})
    gradient_accumulation: int = field(default=1, metadata={"help": "steps summed before an update"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW weight decay"})
    beta2: float = field(default=0.98, metadata={"help": "AdamW second-moment decay"})
    warmup_steps: int = field(default=100, metadata={"help": "steps of linear warm-up"})
    scheduler: str = field(default="linear", metadata={"help": "learning-rate schedule, a transformers SchedulerType"})
    gradient_clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    precision: str = field(default="auto", metadata={"help": "fp32, bf16, or auto (bf16 on CUDA, fp32 on CPU)"})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "compute activations anew in the backward pass: less memory, more time"}
    )
    validate_every: int = field(default=1, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=512, metadata={"help": "size of the fixed seeded validation sample"})
    patience: int | None = field(
        default=10, metadata={"help": "validations without a better NDCG@10 before stopping; null never stops"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        for name in ("epochs", "batch_size", "gradient_accumulation", "validate_every", "validation_users"):
            whole_number(getattr(self, name), f"{self.section}.{name}", most=MAX_COUNT)
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"{self.section}.patience must be at least 1, or null to never stop, got {self.patience!r}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"{self.section}.learning_rate must be above 0, got {self.learning_rate!r}")
        for name in ("weight_decay", "warmup_steps", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{self.section}.{name} must not be negative, got {getattr(self, name)!r}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"{self.section}.precision must be auto, fp32 or bf16, got {self.precision!r}")
        if self.scheduler != "linear":  # transformers knows the others, and takes seconds to import
            from transformers import SchedulerType

            names = [kind.value for kind in SchedulerType]
            if self.scheduler not in names:
                raise ValueError(f"{self.section}.scheduler must be one of {', '.join(names)}, got {self.scheduler!r}")


@dataclass
class TrainingOptions(RankingTrainingOptions):
    """Recipe section `training` (of the generator)."""

    embedding_learning_rate_multiplier: float = field(
        default=1.0,
        metadata={
            "help": "factor on the learning rate of the shared embedding (with LoRA: of the SID rows); 15 speeds up a "
            "short T5 from scratch"
        },
    )
    first_items: bool = field(
        default=False, metadata={"help": "seq2seq: learn a user's first item too, from an empty history"}
    )
    validation_beams: int = field(default=10, metadata={"help": "beams in validation"})
    temperature: float = field(
        default=1.0,
        metadata={
            "help": "divides the logits in the loss; LETTER's ranking-guided loss, arXiv 2405.07314, CE(logits / tau)"
        },
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        for name in ("embedding_learning_rate_multiplier", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be above 0, got {getattr(self, name)!r}")
        if not 10 <= self.validation_beams <= MAX_RANKED:
            raise ValueError(
                f"training.validation_beams must be at least 10 for NDCG@10 and at most {MAX_RANKED}, got "
                f"{self.validation_beams!r}"
            )
