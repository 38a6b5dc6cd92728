"""Sizes of a GAOQ model: everything that defines it besides its centroids."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INDEX_ALIGNMENTS = ("anchor", "local")
INPUT_NORMS = ("none", "l2", "standardize")
NUM_LEVELS = 3
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_CODES = 1 << 22  # of one level
MAX_WEIGHTS = 10**10


@strict
class GaoqConfig(PreTrainedConfig):
    """Configuration of `GaoqModel`.

    Args:
        item_dim: width E of an item vector.
        level_sizes: number of codes of the three levels.
        index_alignment: `anchor` gives children the codes of the anchors that they point at; `local` numbers them
            within each parent.
        input_norm: what happens to an item vector first: `none`, `l2` (unit length) or `standardize` (per dimension,
            with statistics stored in the model).
        text_encoder: what gave the item vectors, as in `CostConfig`. None where unknown.

    Raises:
        ValueError: for sizes or words that no model can have.
    """

    model_type = "gaoq"

    item_dim: int = 768
    level_sizes: list[int] | tuple[int, ...] = (32, 40, 19)
    index_alignment: str = "anchor"
    input_norm: str = "none"
    text_encoder: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a configuration; raise ValueError for that of another kind of model, whose fields would be ignored."""
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(
                f"the configuration is that of a model of type {found!r:.80}, expected {cls.model_type!r}; give the "
                "directory or Hub id of such a model"
            )
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs):  # type: ignore[no-untyped-def]
        """Make the sizes a tuple, so that a configuration read from JSON equals the one that was written."""
        self.level_sizes = tuple(self.level_sizes)
        super().__post_init__(**kwargs)

    def validate_sizes(self) -> None:
        """Check width and codes per level."""
        if not 1 <= self.item_dim <= MAX_WIDTH:
            raise ValueError(f"item_dim must be in 1 … {MAX_WIDTH}, got {self.item_dim!r}")
        if len(self.level_sizes) != NUM_LEVELS or not all(2 <= size <= MAX_CODES for size in self.level_sizes):
            raise ValueError(
                f"level_sizes must be {NUM_LEVELS} numbers in 2 … {MAX_CODES}, got {list(self.level_sizes)!r:.80}"
            )
        first, second, last = self.level_sizes
        if (first * (1 + second) + last) * self.item_dim > MAX_WEIGHTS:
            raise ValueError(
                f"level_sizes={list(self.level_sizes)!r} of width item_dim={self.item_dim!r} make more than "
                f"{MAX_WEIGHTS} weights; take smaller ones"
            )
        if self.index_alignment == "anchor" and max(second, last) > self.item_dim:
            raise ValueError(
                f"orthogonal anchors of width {self.item_dim} are at most as many, got level_sizes="
                f"{list(self.level_sizes)!r}; lower the second and the third, or set index_alignment='local'"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        choices = {"index_alignment": INDEX_ALIGNMENTS, "input_norm": INPUT_NORMS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
