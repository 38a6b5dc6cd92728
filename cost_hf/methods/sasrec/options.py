"""Recipe sections of SASRec, and what other models of sequences share with them; readable without torch."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.generators.options import RankingTrainingOptions
from cost_hf.methods.base import MethodOptions
from cost_hf.semantic_ids.options import whole_number

# those of `configuration_sasrec`, whose import takes seconds; a test compares them
INPUTS = ("ids", "text", "both")
SIMILARITIES = ("cosine", "dot")
LOSSES = ("cross_entropy", "sampled_softmax", "binary")
LINEAR_INITS = ("xavier", "normal")
POSITIONS = ("oldest", "newest")
AUTO = "auto"  # the full softmax where it fits, else the sampled one
FULL_LOSS_BYTES = 1 << 29  # what `auto` lets the full softmax take besides weights and their optimizer
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
MAX_HISTORY = 100_000
MAX_NEGATIVES = 1 << 20  # per position, or per step


@dataclass
class SequenceModelOptions:
    """Fields of section `model` that methods share whose models read a history item by item."""

    inputs: str = field(default="ids", metadata={"help": "what an item is: ids, text (frozen item vectors) or both"})
    loss: str = field(
        default="cross_entropy",
        metadata={
            "help": "cross_entropy over the catalog, sampled_softmax for large catalogs, auto (the first where its "
            "memory allows, else the second), or binary (sampled)"
        },
    )
    similarity: str = field(default="cosine", metadata={"help": "score of an item: cosine / temperature, or dot"})
    temperature: float = field(default=0.07, metadata={"help": "divides the cosine"})
    num_negatives: int = field(
        default=64, metadata={"help": "sampled items per position of the binary loss (arXiv 1808.09781: 1)"}
    )
    shared_negatives: int = field(
        default=8192, metadata={"help": "items sampled for all positions of a step of sampled_softmax"}
    )
    hidden_size: int = field(default=64, metadata={"help": "width of items and users"})
    num_layers: int = field(default=2, metadata={"help": "causal layers"})
    num_heads: int = field(default=2, metadata={"help": "attention heads"})
    text_hidden_size: int = field(default=512, metadata={"help": "width of the network over item vectors"})
    dropout: float = field(default=0.5, metadata={"help": "dropout in training"})
    max_history: int = field(default=50, metadata={"help": "most recent items that are read"})
    linear_init: str = field(
        default="xavier", metadata={"help": "fresh linear layers: xavier, or normal (deviation .02), as BERT has them"}
    )
    positions: str = field(
        default="oldest", metadata={"help": "end of a history that positions are counted from: oldest or newest"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        choices = {
            "inputs": INPUTS,
            "loss": (*LOSSES, AUTO),
            "similarity": SIMILARITIES,
            "linear_init": LINEAR_INITS,
            "positions": POSITIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"model.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        bounds = dict.fromkeys(("hidden_size", "num_heads", "text_hidden_size"), MAX_WIDTH)
        bounds |= {"num_layers": MAX_LAYERS, "max_history": MAX_HISTORY}
        bounds |= dict.fromkeys(("num_negatives", "shared_negatives"), MAX_NEGATIVES)
        for name, most in bounds.items():
            whole_number(getattr(self, name), f"model.{name}", most=most)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"model.hidden_size must be a multiple of model.num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )
        self.check_share("dropout")
        if not (self.temperature > 0 and isfinite(self.temperature)):
            raise ValueError(f"model.temperature must be above 0, got {self.temperature!r}; take a finite number")

    def check_share(self, name: str) -> None:
        """Raise ValueError for a field that is no share in [0, 1)."""
        if not 0 <= getattr(self, name) < 1:
            raise ValueError(f"model.{name} is a share in [0, 1), got {getattr(self, name)!r}")


@dataclass
class SequenceTrainingOptions(RankingTrainingOptions):
    """Recipe section `training`."""

    epochs: int = field(default=40, metadata={"help": "passes over the training set"})
    batch_size: int = field(default=128, metadata={"help": "users per device and step"})
    validate_every: int = field(default=2, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=4096, metadata={"help": "size of the fixed seeded validation sample"})


@dataclass
class SequenceOptions(MethodOptions):
    """Sections that methods share whose models read a history item by item."""

    model: SequenceModelOptions = field(default_factory=SequenceModelOptions)
    training: SequenceTrainingOptions = field(default_factory=SequenceTrainingOptions)


@dataclass
class SasRecModelOptions(SequenceModelOptions):
    """Recipe section `model`."""

    intermediate_size: int = field(default=256, metadata={"help": "width of feed-forward layers"})
    attention_dropout: float = field(default=0.0, metadata={"help": "dropout of attention weights in training"})
    norm_first: bool = field(
        default=True, metadata={"help": "normalise before the sub-layers; false normalises behind them, as BERT does"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        whole_number(self.intermediate_size, "model.intermediate_size", most=MAX_WIDTH)
        self.check_share("attention_dropout")


@dataclass
class SasRecOptions(SequenceOptions):
    """Sections of a SASRec recipe."""

    model: SasRecModelOptions = field(default_factory=SasRecModelOptions)
