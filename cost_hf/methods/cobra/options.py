"""Recipe sections of COBRA, readable without torch."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.methods.generative import GenerativeOptions
from cost_hf.semantic_ids.options import CatalogOptions, whole_number

DOMAINS = ("leaf", "all")
TEXT_ENCODERS = ("vectors", "light")
POOLINGS = ("cls", "mean")
MAX_WIDTH = 1 << 20  # those of `configuration_cobra`, whose import takes seconds; a test compares them
MAX_LAYERS = 64
MAX_WORDS = 1 << 24
MAX_TEXT = 1 << 12  # words of a text


@dataclass
class DenseOptions:
    """Recipe section `dense`: what COBRA adds to the generator. With weight 0 and without inputs it adds nothing."""

    inputs: bool = field(default=True, metadata={"help": "a dense vector follows the codes of every item in the input"})
    weight: float = field(
        default=1.0, metadata={"help": "of the loss of dense vectors; 0 leaves it out, and ranks by beams alone"}
    )
    temperature: float = field(default=0.07, metadata={"help": "divides the cosines in that loss"})
    detach_targets: bool = field(
        default=False, metadata={"help": "vectors that are compared get no gradient; they are trained as inputs alone"}
    )
    mask_duplicates: bool = field(
        default=True, metadata={"help": "other occurrences of the next item in a batch are no negatives"}
    )
    mask_same_user: bool = field(default=True, metadata={"help": "other next items of the same user are no negatives"})
    leaf_negatives: bool = field(
        default=True,
        metadata={
            "help": "all clicked items with the semantic ID of the next item are negatives, too; false as published"
        },
    )
    text_encoder: str = field(
        default="vectors",
        metadata={
            "help": "vectors maps the frozen text vectors; light trains a small Transformer on the words of item texts"
        },
    )
    hidden_sizes: list[int] = field(
        default_factory=lambda: [256], metadata={"help": "vectors: hidden layers between them and the model"}
    )
    words: int = field(default=32, metadata={"help": "light: first words of a text"})
    word_ids: int = field(default=8192, metadata={"help": "light: ids that words are hashed to"})
    layers: int = field(default=1, metadata={"help": "light: layers"})
    pooling: str = field(default="cls", metadata={"help": "light: cls, the state of a first token, or mean over words"})
    text_dropout: float = field(default=0.2, metadata={"help": "dropout in the text encoder"})
    input_dropout: float = field(default=0.2, metadata={"help": "dropout of dense vectors in the input"})

    @property
    def reads_text(self) -> bool:
        """True where texts are an input of the model or of its dense head."""
        return self.inputs or self.weight > 0

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        if not (self.weight >= 0 and isfinite(self.weight)):
            raise ValueError(f"dense.weight must be 0 or above and finite, got {self.weight!r}")
        if not (self.temperature > 0 and isfinite(self.temperature)):
            raise ValueError(f"dense.temperature must be above 0 and finite, got {self.temperature!r}")
        for name, known in (("text_encoder", TEXT_ENCODERS), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"dense.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if len(self.hidden_sizes) > MAX_LAYERS:
            raise ValueError(f"dense.hidden_sizes must be at most {MAX_LAYERS} widths, got {len(self.hidden_sizes)}")
        for layer, size in enumerate(self.hidden_sizes):
            whole_number(size, f"dense.hidden_sizes[{layer}]", most=MAX_WIDTH)
        whole_number(self.words, "dense.words", most=MAX_TEXT)
        whole_number(self.word_ids, "dense.word_ids", least=3, most=MAX_WORDS)
        whole_number(self.layers, "dense.layers", most=MAX_LAYERS)
        for name in ("text_dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"dense.{name} is a share in [0, 1), got {getattr(self, name)!r}")


@dataclass
class FusionOptions:
    """Recipe section `beam_fusion`: how the items of the beams are ranked; `evaluation.num_beams` is M.

    The score of item a of beam k is softmax(tau · log p_k) · softmax(psi · cos_ka).
    """

    tau: float = field(default=0.9, metadata={"help": "factor on the log-probabilities of beams; 0 ignores them"})
    psi: float = field(default=16.0, metadata={"help": "factor on the cosines of dense vectors; 0 ignores them"})
    items_per_leaf: int = field(
        default=50, metadata={"help": "N, items of a semantic ID that become candidates, nearest by cosine first"}
    )
    domain: str = field(
        default="leaf",
        metadata={
            "help": "candidates that the softmax of the cosines is over: those of one leaf (semantic ID), or all of a "
            "request"
        },
    )

    def validate(self) -> None:
        """Raise ValueError for values that no search can have."""
        for name in ("tau", "psi"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ValueError(f"beam_fusion.{name} must be 0 or above and finite, got {getattr(self, name)!r}")
        whole_number(self.items_per_leaf, "beam_fusion.items_per_leaf")
        if self.domain not in DOMAINS:
            raise ValueError(f"beam_fusion.domain must be one of {', '.join(DOMAINS)}, got {self.domain!r}")


@dataclass
class CobraOptions(GenerativeOptions):
    """Sections of a generator of semantic IDs, `dense` and `beam_fusion`; items that collide share a semantic ID."""

    catalog: CatalogOptions = field(default_factory=lambda: CatalogOptions(collisions="none"))
    dense: DenseOptions = field(default_factory=DenseOptions)
    beam_fusion: FusionOptions = field(default_factory=FusionOptions)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        super().validate()
        if self.generator.backbone is not None or self.generator.kind != "causal":
            raise ValueError(
                "cobra trains a causal generator from scratch, got generator.kind="
                f"{self.generator.kind!r} and generator.backbone={self.generator.backbone!r}; set them to causal and "
                "null"
            )
        if self.dense.weight == 0 and self.beam_fusion.tau == 0:
            raise ValueError(
                "beam_fusion.tau=0 ranks by dense vectors alone, which dense.weight=0 leaves out; raise one of them"
            )
