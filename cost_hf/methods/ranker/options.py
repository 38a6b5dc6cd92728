"""Recipe section `ranker`, readable without torch and LightGBM."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from cost_hf.data.errors import DataError
from cost_hf.methods.base import MethodOptions
from cost_hf.methods.parts import PartsOptions
from cost_hf.options import ItemFacts
from cost_hf.semantic_ids.options import whole_number

MAX_ROUNDS = 10_000
MAX_LEAVES = 4096
MAX_FOLDS = 100


@dataclass
class RankerSection(PartsOptions):
    """Which methods give candidates, and how these are ranked."""

    columns: list[str] = field(
        default_factory=list,
        metadata={"help": "columns of the catalog that become features: numbers, or categories"},
    )
    cases: int | None = field(
        default=10_000, metadata={"help": "validation cases that it is trained on, at most; null for all"}
    )
    new_item_share: float = field(
        default=0.0,
        metadata={
            "help": "share of the items that stand in as new ones when cases are ranked a second time; 0 for none"
        },
    )
    folds: int = field(default=5, metadata={"help": "groups of users, each left out once to choose the rounds"})
    rounds: int = field(default=500, metadata={"help": "boosting rounds, at most"})
    learning_rate: float = field(default=0.05, metadata={"help": "shrinkage of a round"})
    leaves: int = field(default=15, metadata={"help": "leaves of a tree"})

    def check_items(self, items: ItemFacts) -> None:
        """Raise `DataError` for a column that does not stay with the catalog."""
        check_kept(self.columns, items.kept_columns)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have, or where LightGBM is not installed."""
        if self.cases is not None:
            whole_number(self.cases, "ranker.cases")
        if not 0 <= self.new_item_share < 1:
            raise ValueError(f"ranker.new_item_share must be in [0, 1), got {self.new_item_share!r}")
        whole_number(self.folds, "ranker.folds", least=2, most=MAX_FOLDS)
        whole_number(self.rounds, "ranker.rounds", most=MAX_ROUNDS)
        whole_number(self.leaves, "ranker.leaves", least=2, most=MAX_LEAVES)
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"ranker.learning_rate must be in (0, 1], got {self.learning_rate!r}")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"ranker.columns must be different names, got {self.columns!r}")
        super().validate()
        if not is_installed():
            raise ValueError("method ranker needs LightGBM, which is not installed; pip install cost-hf[rank]")


@dataclass
class RankerOptions(MethodOptions):
    """Sections of a ranker recipe."""

    ranker: RankerSection = field(default_factory=RankerSection)


def is_installed() -> bool:
    """Return whether LightGBM is there."""
    return find_spec("lightgbm") is not None


def check_kept(columns: Sequence[str], kept: Sequence[str]) -> None:
    """Raise `DataError` for one of `ranker.columns` that is none of the columns that stay with the catalog."""
    for name in columns:
        if name not in kept:
            raise DataError(
                f"ranker.columns names {name!r}, expected columns that stay with the catalog: "
                f"{', '.join(kept) or 'there are none'}; data.exclude_columns leaves columns out"
            )
