"""Recipe sections of CoSeRec, readable without torch; those of SASRec, and one of the augmentation."""

from dataclasses import dataclass, field
from math import isfinite

from cost_hf.methods.sasrec.options import SasRecOptions
from cost_hf.semantic_ids.options import whole_number

# those of `augmentation` and `contrastive`, whose imports take seconds; a test compares them
OPERATORS = ("substitute", "insert", "crop", "mask", "reorder")
POOLINGS = ("flatten", "last", "mean")
SIMILARITIES = ("dot", "cosine")
CORRELATIONS = ("clicks", "vectors", "hybrid", "prefix")
MAX_LENGTH = 100_000
MAX_EPOCHS = 1_000_000


@dataclass
class AugmentationOptions:
    """Recipe section `augmentation`."""

    weight: float = field(default=0.1, metadata={"help": "of the contrastive loss; 0 is SASRec"})
    pooling: str = field(default="flatten", metadata={"help": "what of a view is compared: flatten, last or mean"})
    similarity: str = field(default="dot", metadata={"help": "of two views: dot or cosine"})
    temperature: float = field(default=1.0, metadata={"help": "divides the similarity of views"})
    correlation: str = field(
        default="hybrid",
        metadata={
            "help": "similar items by clicks (ItemCF-IUF), vectors of the model, hybrid (the better of both) or prefix "
            "(random ones whose semantic IDs begin alike)"
        },
    )
    identifiers: str | None = field(
        default=None, metadata={"help": "parquet file of item_id and sid, whose prefixes are meant; of prefix"}
    )
    shared_codes: int = field(default=1, metadata={"help": "first codes that an item and its substitute share"})
    warm_up_epochs: int = field(default=20, metadata={"help": "epochs in which clicks alone decide; of hybrid"})
    short_length: int = field(default=4, metadata={"help": "items of the longest short sequence"})
    short_operators: list[str] = field(
        default_factory=lambda: ["substitute", "insert", "mask"],
        metadata={"help": f"of short sequences, among {', '.join(OPERATORS)}; others have all"},
    )
    substitute_rate: float = field(default=0.1, metadata={"help": "share of the items that is replaced"})
    insert_rate: float = field(default=0.4, metadata={"help": "share of the items that get another one before them"})
    crop_rate: float = field(default=0.2, metadata={"help": "share of the items that a crop keeps"})
    mask_rate: float = field(default=0.7, metadata={"help": "share of the items that is hidden"})
    reorder_rate: float = field(default=0.2, metadata={"help": "share of the items that is shuffled"})
    official_quirks: bool = field(
        default=False,
        metadata={"help": "as the released code: reorder by mask_rate, and score items of the history 0"},
    )

    def rates(self) -> dict[str, float]:
        """Return the rate of every operator."""
        rates = {name: getattr(self, f"{name}_rate") for name in OPERATORS}
        return rates | ({"reorder": self.mask_rate} if self.official_quirks else {})

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        choices = {"pooling": POOLINGS, "similarity": SIMILARITIES, "correlation": CORRELATIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"augmentation.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        unknown = [name for name in self.short_operators if name not in OPERATORS]
        if unknown or not self.short_operators:
            raise ValueError(
                f"augmentation.short_operators must be among {', '.join(OPERATORS)}, one or more, got "
                f"{self.short_operators!r}"
            )
        for name, rate in self.rates().items():
            if not 0 <= rate <= 1:
                raise ValueError(f"augmentation.{name}_rate is a share in [0, 1], got {rate!r}")
        if (self.identifiers is not None) != (self.correlation == "prefix"):
            raise ValueError(
                "augmentation.identifiers must be a file with correlation prefix, and null otherwise, got "
                f"{self.identifiers!r} with {self.correlation!r}"
            )
        whole_number(self.shared_codes, "augmentation.shared_codes", most=MAX_LENGTH)
        whole_number(self.short_length, "augmentation.short_length", most=MAX_LENGTH)
        whole_number(self.warm_up_epochs, "augmentation.warm_up_epochs", least=0, most=MAX_EPOCHS)
        if not (self.weight >= 0 and isfinite(self.weight)):
            raise ValueError(f"augmentation.weight must be 0 or above and finite, got {self.weight!r}")
        if not (self.temperature > 0 and isfinite(self.temperature)):
            raise ValueError(f"augmentation.temperature must be above 0 and finite, got {self.temperature!r}")


@dataclass
class CoSeRecOptions(SasRecOptions):
    """Sections of a CoSeRec recipe."""

    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
