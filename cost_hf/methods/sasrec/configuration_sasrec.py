"""Sizes and objective of SASRec: all that defines a `SasRecModel` besides its weights.

One configuration covers the family: item ids, frozen text vectors, or both at the input and output side; dot products
with sampled binary cross-entropy (arXiv 1808.09781) or a full softmax over the catalog (arXiv 2309.07602).
"""

import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

INPUTS = ("ids", "text", "both")
SIMILARITIES = ("cosine", "dot")
LOSSES = ("cross_entropy", "sampled_softmax", "binary")
LINEAR_INITS = ("xavier", "normal")
POSITIONS = ("oldest", "newest")
# bounds of what a file may ask for, checked before anything of that size is made
MAX_WIDTH = 1 << 20
MAX_LAYERS = 256
MAX_ITEMS = 1 << 31
MAX_HISTORY = 100_000
MAX_WEIGHTS = 10**10


@strict
class SequenceConfig(PreTrainedConfig):
    """What the configurations of models that read a history item by item share.

    Args:
        num_items: N, size of the training catalog and number of id embeddings, where there are any.
        inputs: what an item is: its `ids` embedding, its frozen `text` vector through a small network, or the sum of
            `both`. Models of text alone score items that were never trained.
        text_dim: width E of an item vector; None with ids alone.
        text_hidden_size: width of the network behind item vectors.
        hidden_size: width D of items and users.
        num_layers: causal layers.
        num_heads: attention heads; they divide `hidden_size`.
        dropout: share of activations dropped in training, behind the input and every sub-layer.
        max_history: most recent items that are read, and number of positions.
        similarity: score of an item for a user: `cosine` over `temperature`, or the `dot` product. Without lengths,
            popular items can't win by a long vector alone (arXiv 1909.04276).
        temperature: divides the cosine.
        loss: `cross_entropy` over the whole catalog, `sampled_softmax` over the label and sampled items, or `binary`
            with sampled items.
        seen_score: score of items of the history; None where they are scored like all others.
        initializer_range: standard deviation of fresh embeddings.
        linear_init: fresh weights of linear layers: `xavier`, by the widths of input and output, or `normal`, with
            `initializer_range`, as BERT has them.
        positions: end of a history that positions are counted from: the `oldest` item, or the `newest`, as in code that
            pads on the left. With the newest, a position's state depends on how many items follow it.
    """

    attribute_map: ClassVar[dict[str, str]] = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    num_items: int = 1
    inputs: str = "ids"
    text_dim: int | None = None
    text_hidden_size: int = 512
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 2
    dropout: float | int = 0.5
    max_history: int = 50
    similarity: str = "cosine"
    temperature: float | int = 0.07
    loss: str = "cross_entropy"
    seen_score: float | int | None = None
    initializer_range: float = 0.02
    linear_init: str = "xavier"
    positions: str = "oldest"

    @property
    def has_ids(self) -> bool:
        """True where every item has an embedding of its own."""
        return self.inputs != "text"

    @property
    def norms_output(self) -> bool:
        """True where the output of the last layer is normalised."""
        return True

    @property
    def weights_per_layer(self) -> int:
        """Weights of one layer, without biases and norms."""
        raise NotImplementedError(f"{type(self).__name__} must say how many weights a layer has")

    @property
    def has_text(self) -> bool:
        """True where item vectors are an input."""
        return self.inputs != "ids"

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
        bounds = dict.fromkeys(("text_hidden_size", "hidden_size", "num_heads"), MAX_WIDTH)
        bounds |= {"num_items": MAX_ITEMS, "num_layers": MAX_LAYERS, "max_history": MAX_HISTORY}
        for name, most in bounds.items():
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
            if value > most:
                raise ValueError(f"{name} must be at most {most}, got {value!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads={self.num_heads!r}, got {self.hidden_size!r}"
            )
        rows = self.max_history + (self.num_items if self.has_ids else 0)
        if self.hidden_size * rows + self.num_layers * self.weights_per_layer > MAX_WEIGHTS:
            raise ValueError(
                f"num_items={self.num_items!r}, hidden_size={self.hidden_size!r} and num_layers={self.num_layers!r} "
                f"make more than {MAX_WEIGHTS} weights; take smaller ones"
            )

    def validate_choices(self) -> None:
        """Check the fields that are one word of a few."""
        choices = {
            "inputs": INPUTS,
            "similarity": SIMILARITIES,
            "loss": LOSSES,
            "linear_init": LINEAR_INITS,
            "positions": POSITIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def validate_text(self) -> None:
        """Check that item vectors have a width exactly where they are an input."""
        fits = self.text_dim is None or 1 <= self.text_dim <= MAX_WIDTH
        if self.has_text != (self.text_dim is not None) or not fits:
            raise ValueError(
                f"text_dim must be the width of the item vectors with inputs text or both, and None with ids, got "
                f"{self.text_dim!r} with inputs={self.inputs!r}"
            )

    def validate_regularization(self) -> None:
        """Check dropout and temperature."""
        self.check_share("dropout")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}; take a finite number")
        if not (self.initializer_range >= 0 and math.isfinite(self.initializer_range)):
            raise ValueError(f"initializer_range must be 0 or above and finite, got {self.initializer_range!r}")

    def check_width(self, name: str) -> None:
        """Raise ValueError for a width or count that no model can have."""
        value = getattr(self, name)
        if not 1 <= value <= MAX_WIDTH:
            raise ValueError(f"{name} must be from 1 to {MAX_WIDTH}, got {value!r}")

    def check_share(self, name: str) -> None:
        """Raise ValueError for a field that is no share in [0, 1)."""
        if not 0 <= getattr(self, name) < 1:
            raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)!r}")


@strict
class SasRecConfig(SequenceConfig):
    """Configuration of `SasRecModel`; other arguments are those of `SequenceConfig`.

    Args:
        intermediate_size: width of the feed-forward layers.
        attention_dropout: share of attention weights dropped in training.
        norm_first: normalise the input of every sub-layer and the last output, not what a sub-layer is added to.
    """

    model_type = "sasrec"

    intermediate_size: int = 256
    attention_dropout: float | int = 0.0
    norm_first: bool = True

    @property
    def norms_output(self) -> bool:
        """True where layers leave their output as it is."""
        return self.norm_first

    @property
    def weights_per_layer(self) -> int:
        """Weights of one layer, without biases and norms."""
        return self.hidden_size * (4 * self.hidden_size + 2 * self.intermediate_size)

    def validate_layers(self) -> None:
        """Check what the layers alone have."""
        self.check_width("intermediate_size")
        self.check_share("attention_dropout")
