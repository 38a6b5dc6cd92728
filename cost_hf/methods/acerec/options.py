"""Recipe sections of ACERec, readable without torch."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.methods.base import MethodOptions
from cost_hf.methods.sasrec.options import SequenceTrainingOptions
from cost_hf.quantizers.base import CodesOptions
from cost_hf.semantic_ids.options import whole_number

# those of `configuration_acerec`, whose import takes seconds; a test compares them
MERGERS = ("attention", "mean")
MAX_WIDTH = 1 << 16
MAX_LAYERS = 256
MAX_LEVELS = 64
MAX_HISTORY = 100_000


@dataclass
class AceRecModelOptions:
    """Recipe section `model`."""

    num_latents: int = field(default=4, metadata={"help": "latents that are read of an item in place of its digits"})
    merger: str = field(
        default="attention",
        metadata={"help": "digits to latents: attention, or mean of each of num_latents equal runs of digits"},
    )
    use_intent_token: bool = field(
        default=True, metadata={"help": "a token after every item that predicts the next; false takes the last latent"}
    )
    hidden_size: int = field(default=448, metadata={"help": "width of tokens, latents and states"})
    intermediate_size: int = field(default=1024, metadata={"help": "width of feed-forward layers"})
    num_layers: int = field(default=2, metadata={"help": "layers over the items of a history"})
    num_heads: int = field(default=4, metadata={"help": "attention heads"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in training"})
    attention_dropout: float = field(default=0.0, metadata={"help": "dropout of attention weights in training"})
    max_history: int = field(default=50, metadata={"help": "most recent items that are read"})
    token_temperature: float = field(default=0.03, metadata={"help": "divides the cosines of states and tokens"})
    alignment_weight: float = field(
        default=0.1, metadata={"help": "of the loss that aligns states with next items in the batch; 0 leaves it out"}
    )
    alignment_temperature: float = field(default=0.07, metadata={"help": "divides the cosines of that loss"})
    popularity_weight: float = field(
        default=0.02, metadata={"help": "of the training popularity taken off its scores; 0 corrects nothing"}
    )
    reconstruction_weight: float = field(
        default=0.03, metadata={"help": "of the loss of rebuilding digits from latents; 0 leaves the decoder out"}
    )

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        if self.merger not in MERGERS:
            raise ValueError(f"model.merger must be one of {', '.join(MERGERS)}, got {self.merger!r}")
        bounds = dict.fromkeys(("hidden_size", "intermediate_size", "num_heads"), MAX_WIDTH)
        bounds |= {"num_latents": MAX_LEVELS, "num_layers": MAX_LAYERS, "max_history": MAX_HISTORY}
        for name, most in bounds.items():
            whole_number(getattr(self, name), f"model.{name}", most=most)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"model.hidden_size must be a multiple of model.num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"model.{name} is a share in [0, 1), got {getattr(self, name)!r}")
        for name in ("token_temperature", "alignment_temperature"):
            if not (getattr(self, name) > 0 and isfinite(getattr(self, name))):
                raise ValueError(f"model.{name} must be above 0 and finite, got {getattr(self, name)!r}")
        for name in ("alignment_weight", "popularity_weight", "reconstruction_weight"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ValueError(f"model.{name} must be 0 or above and finite, got {getattr(self, name)!r}")


def parallel_codes() -> CodesOptions:
    """Return the codes of the paper: product quantization with a rotation, 32 digits of 256 codes."""
    return CodesOptions.of("opq", level_sizes=[256] * 32)


@dataclass
class AceRecOptions(MethodOptions):
    """Sections of an ACERec recipe."""

    codes: CodesOptions = field(default_factory=parallel_codes)
    model: AceRecModelOptions = field(default_factory=AceRecModelOptions)
    training: SequenceTrainingOptions = field(default_factory=SequenceTrainingOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if not self.codes.has_parallel_levels:
            CodesOptions.load_kinds()
            known = [kind for kind, options in CodesOptions.kinds.items() if options.has_parallel_levels]
            raise ValueError(
                f"ACERec predicts the codes of all levels at once, which needs levels that do not depend on each other "
                f"(codes.kind {', '.join(sorted(known))}), got codes.kind={self.codes.kind!r}; take one of these"
            )
        digits = len(self.codes.level_sizes)
        if self.model.num_latents > digits:
            raise ValueError(
                f"model.num_latents must be at most the number of codes of an item, {digits}, got "
                f"{self.model.num_latents!r}; lower it, or give codes.level_sizes more levels"
            )
        if self.model.merger == "mean" and digits % self.model.num_latents:
            raise ValueError(
                f"model.merger mean needs model.num_latents that divides the {digits} codes of an item, got "
                f"{self.model.num_latents!r}"
            )
