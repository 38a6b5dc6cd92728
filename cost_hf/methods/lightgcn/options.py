"""Recipe sections of LightGCN, readable without torch."""

from dataclasses import dataclass, field

from cost_hf.generators.options import RankingTrainingOptions
from cost_hf.methods.base import MethodOptions
from cost_hf.semantic_ids.options import whole_number

# those of `configuration_lightgcn`, whose import takes seconds; a test compares them
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256


@dataclass
class LightGcnModelOptions:
    """Recipe section `model`."""

    hidden_size: int = field(default=64, metadata={"help": "width of items and users"})
    num_layers: int = field(default=3, metadata={"help": "propagation layers"})

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        whole_number(self.hidden_size, "model.hidden_size", most=MAX_WIDTH)
        whole_number(self.num_layers, "model.num_layers", most=MAX_LAYERS)


@dataclass
class LightGcnTrainingOptions(RankingTrainingOptions):
    """Recipe section `training`; defaults are the paper's where it states a value."""

    epochs: int = field(default=100, metadata={"help": "passes over the training clicks"})
    batch_size: int = field(default=2048, metadata={"help": "clicks per device and step"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.0, metadata={"help": "AdamW weight decay, beside regularization"})
    beta2: float = field(default=0.999, metadata={"help": "AdamW second-moment decay"})
    warmup_steps: int = field(default=0, metadata={"help": "steps of linear warm-up"})
    scheduler: str = field(
        default="constant", metadata={"help": "learning-rate schedule, a transformers SchedulerType"}
    )
    gradient_clip: float = field(default=0.0, metadata={"help": "largest gradient norm; 0 does not clip"})
    validate_every: int = field(default=5, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=4096, metadata={"help": "size of the fixed seeded validation sample"})
    patience: int | None = field(
        default=4, metadata={"help": "validations without a better NDCG@10 before stopping; null never stops"}
    )
    regularization: float = field(
        default=1e-4, metadata={"help": "of half the squared lengths of the embeddings of a triple"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        if not 0 <= self.regularization < float("inf"):
            raise ValueError(f"training.regularization must be 0 or above and finite, got {self.regularization!r}")


@dataclass
class LightGcnOptions(MethodOptions):
    """Sections of a LightGCN recipe."""

    model: LightGcnModelOptions = field(default_factory=LightGcnModelOptions)
    training: LightGcnTrainingOptions = field(default_factory=LightGcnTrainingOptions)
