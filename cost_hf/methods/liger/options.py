"""Recipe sections of LIGER, readable without torch."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.methods.generative import GenerativeOptions
from cost_hf.semantic_ids.options import MAX_RANKED, whole_number

CANDIDATES = ("beams", "catalog")
VALIDATIONS = ("candidates", "catalog")
MAX_WIDTH = 1 << 20  # those of `configuration_liger`, whose import takes seconds; a test compares them
MAX_LAYERS = 64
MAX_NEGATIVES = 1 << 24


@dataclass
class DenseOptions:
    """Recipe section `dense`: what LIGER adds to the generator. With weight 0 and no text input it adds nothing."""

    text_input: bool = field(default=True, metadata={"help": "add the text vectors of items to their tokens"})
    weight: float = field(
        default=1.0, metadata={"help": "of the loss of the dense head; 0 leaves it out, and ranks by beams alone"}
    )
    sid_weight: float = field(
        default=1.0, metadata={"help": "of the loss of the tokens; 0 trains dense retrieval, with candidates catalog"}
    )
    temperature: float = field(default=0.07, metadata={"help": "divides the cosine of user and item"})
    hidden_sizes: list[int] = field(
        default_factory=lambda: [768, 512, 256],
        metadata={"help": "hidden layers between text vectors and the model"},
    )
    text_dropout: float = field(default=0.2, metadata={"help": "dropout of text vectors and in those layers"})
    input_dropout: float = field(
        default=0.5,
        metadata={"help": "dropout of the model's input (causal: of the texts in it); used with text_input"},
    )
    negatives: int | None = field(
        default=None,
        metadata={"help": "items drawn a step for the dense loss; null compares with all items of training"},
    )
    candidates: str = field(
        default="beams",
        metadata={
            "help": "what is ranked by cosine: beams (as many as evaluation.num_beams, K of the paper) and all items "
            "without a training click, or the whole catalog"
        },
    )
    constrained: bool = field(
        default=True,
        metadata={"help": "beams are items of the catalog; false searches freely, as published, and drops the others"},
    )
    top_k: int = field(default=0, metadata={"help": "items of the whole catalog nearest by cosine, as candidates too"})
    validation: str = field(
        default="candidates",
        metadata={
            "help": "what validation ranks by cosine: candidates (the beams of training.validation_beams) or, as "
            "published, the catalog; items of training alone either way"
        },
    )
    initializer_std: float | None = field(
        default=None,
        metadata={"help": "seq2seq: standard deviation of all fresh weights (published: 0.02); null keeps those of T5"},
    )

    @property
    def adds_nothing(self) -> bool:
        """True where the model is the generator without texts: TIGER, for seq2seq."""
        return not self.text_input and self.weight == 0 and self.initializer_std is None

    @property
    def reads_text(self) -> bool:
        """True where text vectors are an input of the model or of its dense head."""
        return self.text_input or self.weight > 0

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        for name in ("weight", "sid_weight"):
            value = getattr(self, name)
            if not (value >= 0 and isfinite(value)):
                raise ValueError(f"dense.{name} must be 0 or above and finite, got {value!r}")
        if not (self.temperature > 0 and isfinite(self.temperature)):
            raise ValueError(f"dense.temperature must be above 0 and finite, got {self.temperature!r}")
        if len(self.hidden_sizes) > MAX_LAYERS:
            raise ValueError(f"dense.hidden_sizes must be at most {MAX_LAYERS} widths, got {len(self.hidden_sizes)}")
        for place, size in enumerate(self.hidden_sizes):
            whole_number(size, f"dense.hidden_sizes[{place}]", most=MAX_WIDTH)
        for name in ("text_dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"dense.{name} is a share in [0, 1), got {getattr(self, name)!r}")
        if self.negatives is not None:
            whole_number(self.negatives, "dense.negatives", most=MAX_NEGATIVES)
        for name, known in (("candidates", CANDIDATES), ("validation", VALIDATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"dense.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        whole_number(self.top_k, "dense.top_k", least=0, most=MAX_RANKED)
        if self.initializer_std is not None and not 0 < self.initializer_std < 1:
            raise ValueError(f"dense.initializer_std must be between 0 and 1, or null, got {self.initializer_std!r}")
        self._check_losses()

    def _check_losses(self) -> None:
        """Raise ValueError where items are ranked by something that is not trained."""
        if self.weight == 0 and self.sid_weight == 0:
            raise ValueError("dense.weight and dense.sid_weight are both 0, so there is no loss; raise one of them")
        if self.weight == 0 and (self.candidates == "catalog" or self.top_k):
            raise ValueError(
                f"dense.candidates={self.candidates!r} and dense.top_k={self.top_k!r} rank by the dense head, which "
                "dense.weight=0 leaves out; set a weight, or candidates beams and top_k 0"
            )
        if self.sid_weight == 0 and self.candidates == "beams":
            raise ValueError(
                "dense.candidates='beams' needs the loss of the tokens, which dense.sid_weight=0 leaves out; set "
                "candidates to catalog"
            )


@dataclass
class LigerOptions(GenerativeOptions):
    """Sections of a generator of semantic IDs, and `dense`."""

    dense: DenseOptions = field(default_factory=DenseOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.generator.backbone is not None:
            raise ValueError(
                f"liger trains its generator from scratch, got generator.backbone={self.generator.backbone!r}; set it "
                "to null"
            )
        if self.training.has_teacher and self.dense.sid_weight != 1:
            raise ValueError(
                f"training.teacher needs dense.sid_weight 1, got {self.dense.sid_weight!r}: its targets are semantic "
                "IDs, and take a share of their loss; set it to 1, or training.teacher to null"
            )
        if self.dense.initializer_std is not None and self.generator.kind == "causal":
            raise ValueError(
                "dense.initializer_std is for generator.kind seq2seq, whose published code sets it; the causal "
                "generator has an own; set it to null"
            )
        if not self.dense.constrained and self.search.normalization != "vocabulary":
            raise ValueError(
                "search.normalization=level needs dense.constrained=true: free beams have the scores of generate()"
            )
