"""Recipe section `codes` of kind `gaoq`; readable without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cost_hf.options import ItemFacts
from cost_hf.quantizers.base import CodesOptions, check_choice
from cost_hf.quantizers.residual import MAX_WIDTH

if TYPE_CHECKING:
    from cost_hf.quantizers.fit import CodesResult, FitInputs

INDEX_ALIGNMENTS = ("anchor", "local")
BALANCINGS = ("greedy", "k_means_constrained")
INPUT_NORMS = ("none", "l2", "standardize")  # those of `configuration_gaoq`, whose import takes seconds
NUM_LEVELS = 3
MIN_ITEMS = 8  # two for each of 2 x 2 buckets
ITEMS_PER_BUCKET = 15  # the published branchings have 10 to 20
GROWTH = 0.25
MAX_GROWTH = 100.0


@CodesOptions.register("gaoq")
@dataclass
class GaoqOptions(CodesOptions):
    """GAOQ of ReSID: balanced k-means in two levels, codes aligned to anchors, unique SIDs; no gradient steps."""

    needs_item_ids: ClassVar[bool] = True  # rows are taken in id order, so that codes do not depend on the row order
    gives_unique_codes: ClassVar[bool] = True
    collisions: ClassVar[str | None] = "reassign"
    auto_models: ClassVar[str | None] = "cost_hf.quantizers.gaoq.auto_gaoq"

    level_sizes: list[int] = field(
        default_factory=list,
        metadata={"help": "codes of the three levels; [] chooses them from the number of items", "is_own": True},
    )
    growth: float = field(
        default=GROWTH,
        metadata={"help": "room for new items on the last level, as a share of the largest bucket; 0 leaves none"},
    )
    index_alignment: str = field(
        default="anchor", metadata={"help": "codes of children: of the nearest anchor, or local to each parent"}
    )
    balancing: str = field(
        default="greedy", metadata={"help": "solver of balanced k-means: greedy, k_means_constrained"}
    )
    input_norm: str = field(default="l2", metadata={"help": "none (as published), l2 or standardize"})

    def sizes_for(self, num_items: int, item_dim: int) -> list[int]:
        """Return the codes per level for a number of items.

        Raises:
            ValueError: for sizes that do not fit.
        """
        return list(self.resolved_sizes(num_items, num_items, item_dim))

    def resolved_sizes(self, num_fitted: int, num_items: int, item_dim: int) -> tuple[int, int, int]:
        """Return b1, b2 and b3, chosen or checked.

        Args:
            num_fitted: items that fitting may see, which are spread evenly.
            num_items: all items.
            item_dim: E.

        Raises:
            ValueError: for sizes that do not fit.
        """
        first, second = self.level_sizes[:2] or self._branching(num_fitted, num_items, item_dim)
        if first * second > num_fitted // 2 and not (self.level_sizes and num_fitted >= MIN_ITEMS):
            raise ValueError(self._too_few_items(num_fitted, num_items, item_dim))
        if first * second > num_fitted // 2:
            raise ValueError(
                f"codes of kind gaoq need two or more items per bucket of the first two levels, got {first} x {second} "
                f"buckets for {num_fitted} items; choose codes.level_sizes with at most {num_fitted // 2} buckets, "
                f"best {max(4, num_fitted // 20)} to {max(4, num_fitted // 10)}"
            )
        largest = math.ceil(math.ceil(num_fitted / first) / second)
        least = max(largest, math.ceil(num_items / (first * second)))
        last = self.level_sizes[2] if self.level_sizes else max(2, math.ceil(least * (1 + self.growth)))
        if last < least:
            raise ValueError(
                f"codes of kind gaoq give every item of a bucket a last code of its own: {num_items} items in {first} "
                f"x {second} buckets need {least} or more, got codes.level_sizes={self.level_sizes!r}; raise the last "
                "one, with room for new items, or leave codes.level_sizes []"
            )
        self._check_anchors((second, last), item_dim)
        return first, second, last

    def check_items(self, items: ItemFacts) -> None:
        """Raise ValueError for sizes that do not fit the items, or that no vectors of this width can have."""
        super().check_items(items)
        width = MAX_WIDTH if items.most_width is None else items.most_width
        self.resolved_sizes(items.num_fitted, len(items.table), width)  # wider vectors allow more

    def fit(self, inputs: FitInputs, *, folder: Path, digest: str, seed: int) -> CodesResult:
        """Cluster the items, align the codes of children and number the items of every bucket."""
        from cost_hf.quantizers.fit import CodesResult
        from cost_hf.quantizers.gaoq.fitting import fit_gaoq
        from cost_hf.semantic_ids.codebook_utilization import codebook_utilization

        model, codes = fit_gaoq(inputs, self, seed=seed)
        history = [codebook_utilization(inputs.for_fitting(codes), model.level_sizes)]
        return CodesResult.of_model(model, inputs, history, codes=codes)

    def validate(self) -> None:
        """Raise ValueError for values that no run can have."""
        if self.level_sizes:
            super().validate()
            if len(self.level_sizes) != NUM_LEVELS:
                raise ValueError(
                    f"codes of kind gaoq have {NUM_LEVELS} levels, got codes.level_sizes={self.level_sizes!r}; give "
                    f"{NUM_LEVELS} sizes, or [] to have them chosen"
                )
            if self.growth != GROWTH:
                raise ValueError(
                    f"codes.growth={self.growth!r} is for sizes that are chosen, got codes.level_sizes="
                    f"{self.level_sizes!r}; leave one of them out"
                )
        if not 0 <= self.growth <= MAX_GROWTH:
            raise ValueError(f"codes.growth must be in 0 … {MAX_GROWTH:g}, got {self.growth!r}")
        check_choice("index_alignment", self.index_alignment, INDEX_ALIGNMENTS)
        check_choice("balancing", self.balancing, BALANCINGS)
        check_choice("input_norm", self.input_norm, INPUT_NORMS)
        if self.balancing == "k_means_constrained" and find_spec("k_means_constrained") is None:
            raise ValueError(
                "codes.balancing='k_means_constrained' needs the package k-means-constrained, which is not installed; "
                "pip install it, or use greedy"
            )

    def _branching(self, num_fitted: int, num_items: int, item_dim: int) -> tuple[int, int]:
        """Return b1 and b2, about as large as each other, with buckets of `ITEMS_PER_BUCKET` items or fewer."""
        buckets = max(4, num_fitted // ITEMS_PER_BUCKET)
        first = max(2, math.isqrt(buckets))
        second = max(2, round(buckets / first))
        if self.index_alignment == "anchor":  # neither level may have more codes than there are dimensions
            second = max(2, min(second, item_dim))
            most = max(1, int(item_dim / (1 + self.growth)))  # items of a bucket
            first = max(first, round(buckets / second), math.ceil(num_items / (second * most)))
        return first, second

    def _too_few_items(self, num_fitted: int, num_items: int, item_dim: int) -> str:
        """Return why no sizes fit, and what to change."""
        if num_fitted < MIN_ITEMS:
            return f"codes of kind gaoq need {MIN_ITEMS} items or more to be fitted to, got {num_fitted}; give more"
        return (
            f"codes of kind gaoq find no sizes for {num_items} items, {num_fitted} of which fitting may see, with "
            f"vectors of width {item_dim} and codes.growth={self.growth!r}: anchors allow {item_dim} codes on the "
            "second and the third level, so there would be less than two items in a bucket; lower codes.growth, take "
            "wider vectors, or set codes.index_alignment to local"
        )

    def _check_anchors(self, sizes: Sequence[int], item_dim: int) -> None:
        if self.index_alignment == "anchor" and max(sizes) > item_dim:
            raise ValueError(
                f"codes of kind gaoq need an anchor per code, orthogonal to all others, on the second and the third "
                f"level: at most {item_dim} codes for vectors of width {item_dim}, got {sizes[0]} and {sizes[1]}; "
                "lower codes.level_sizes there (more codes on the first level make buckets smaller), or set "
                "codes.index_alignment to local"
            )
