"""What the configurations of all quantizers share: sizes, the text encoder, and bounds of what a file may ask for."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INPUT_NORMS = ("none", "l2", "standardize")
POOLINGS = ("mean", "cls")
ENCODER_FIELDS: dict[str, Any] = {
    "model": str,
    "revision": str | None,
    "pooling": str,
    "normalize": bool,
    "max_length": int | None,
    "prompt": str | None,
}
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LEVELS = 64
MAX_CODES = 1 << 22  # of one level
MAX_WEIGHTS = 10**10


@strict
class QuantizerConfig(PreTrainedConfig):
    """Base of the configurations of quantizers.

    Methods named `validate_…` run in the order of their names, those of a subclass among them. One that relies on
    another check has to call it.

    Args:
        item_dim: width E of an item vector.
        level_sizes: number of codes K of each level; they may differ.
        text_encoder: what gave the item vectors: `model` (an id or directory, or `lsa`, which transformers can't load),
            `revision`, `pooling` (`mean` or `cls`), `normalize`, `max_length`, `prompt`. None where unknown.

    Raises:
        ValueError: for sizes or words that no model can have.
    """

    item_dim: int = 768
    level_sizes: list[int] | tuple[int, ...] = (64, 64, 64)
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

    @property
    def num_levels(self) -> int:
        """Number of levels L."""
        return len(self.level_sizes)

    def validate_item_dim(self) -> None:
        """Check the width of item vectors."""
        check_count("item_dim", self.item_dim, 1, MAX_WIDTH)

    def validate_level_sizes(self) -> None:
        """Check the number of levels and their codes."""
        if min(self.level_sizes, default=0) < 2 or len(self.level_sizes) > MAX_LEVELS:
            raise ValueError(
                f"level_sizes needs 1 to {MAX_LEVELS} levels with at least 2 codes each, got "
                f"{list(self.level_sizes)!r:.80}"
            )
        for level, size in enumerate(self.level_sizes):
            check_count(f"level_sizes[{level}]", size, 2, MAX_CODES)

    def validate_text_encoder(self) -> None:
        """Check that the text encoder is named with all that it takes to repeat its vectors."""
        if self.text_encoder is None or self.text_encoder == {"model": "lsa"}:
            return
        found = self.text_encoder
        wrong = set(found) ^ set(ENCODER_FIELDS)
        wrong |= {name for name in set(found) - wrong if not isinstance(found[name], ENCODER_FIELDS[name])}
        if wrong or found["pooling"] not in POOLINGS:
            raise ValueError(
                f"text_encoder must be None, {{'model': 'lsa'}} or hold {', '.join(ENCODER_FIELDS)} with pooling mean "
                f"or cls, got {found!r}; look at {', '.join(sorted(wrong)) or 'pooling'}"
            )


def check_count(name: str, value: int, least: int, most: int) -> None:
    """Raise ValueError unless a field is within its bounds."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")


def check_word(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless a field is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_num_weights(config: QuantizerConfig, num_weights: int) -> None:
    """Raise ValueError where level sizes and widths make more weights than any machine should build."""
    if num_weights > MAX_WEIGHTS:
        raise ValueError(
            f"level_sizes={list(config.level_sizes)!r:.80} for item_dim={config.item_dim!r} make more than "
            f"{MAX_WEIGHTS} weights; take smaller ones"
        )
