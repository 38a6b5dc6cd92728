"""Sizes of LightGCN: all that defines a `LightGcnModel` besides its weights."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
MAX_ITEMS = 1 << 31
MAX_WEIGHTS = 10**10


@strict
class LightGcnConfig(PreTrainedConfig):
    """Configuration of `LightGcnModel`.

    Args:
        num_items: N, size of the training catalog.
        hidden_size: width D of items and users.
        num_layers: K, propagation layers; vectors are means over the embeddings and all layers.
        initializer_range: standard deviation of fresh embeddings.
    """

    model_type = "lightgcn"

    num_items: int = 1
    hidden_size: int = 64
    num_layers: int = 3
    initializer_range: float = 0.1

    @property
    def has_ids(self) -> bool:
        """True: the weights know items by their rows."""
        return True

    @property
    def text_dim(self) -> None:
        """None: no text vectors are read."""
        return None

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

    def validate_sizes(self) -> None:
        """Check the widths and counts."""
        bounds = {"num_items": MAX_ITEMS, "hidden_size": MAX_WIDTH, "num_layers": MAX_LAYERS}
        for name, most in bounds.items():
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
            if value > most:
                raise ValueError(f"{name} must be at most {most}, got {value!r}")
        if self.num_items * self.hidden_size > MAX_WEIGHTS:
            raise ValueError(
                f"num_items={self.num_items!r} and hidden_size={self.hidden_size!r} make more than {MAX_WEIGHTS} "
                "weights; take smaller ones"
            )

    def validate_initialization(self) -> None:
        """Check the deviation of fresh embeddings."""
        if not (self.initializer_range >= 0 and math.isfinite(self.initializer_range)):
            raise ValueError(f"initializer_range must be 0 or above and finite, got {self.initializer_range!r}")
