"""What the models of all quantizers share: checked vectors and codes, batches, input scaling and sizes.

`forward` is pure: it writes no buffer and initialises nothing, because Transformers builds models on the meta device
and loads weights after `__init__`. State changes are named methods, such as `fit_statistics`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_base_cost import QuantizerConfig
from .layers_cost import InputNorm

ITEMS_PER_BATCH = 8192  # of encode and decode: bounds memory, and is fixed so that sums do not depend on the caller


@dataclass
class CodesOutput(ModelOutput):
    """Output of a quantizer without a loss.

    Attributes:
        codes: `[B, L]` int64.
    """

    codes: Tensor | None = None


class QuantizerPreTrainedModel(PreTrainedModel):
    """Base of the models of quantizers: a subclass writes `_codes`.

    It sets `input_norm` unless it scales vectors in another way and has a `fit_statistics` of its own.
    """

    config: QuantizerConfig
    main_input_name = "item_embeddings"
    input_norm: InputNorm

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Codes per level, L numbers."""
        return tuple(self.config.level_sizes)

    def forward(self, item_embeddings: Tensor) -> ModelOutput:
        """Return the codes of item vectors `[B, E]`."""
        return CodesOutput(codes=self.encode(item_embeddings))

    @torch.no_grad()
    def encode(self, item_embeddings: Tensor) -> Tensor:
        """Return the codes of item vectors; two items may have the same ones.

        Args:
            item_embeddings: item vectors, `[N, E]`; N may be large, batches are made here.

        Returns:
            int64 `[N, L]`, on the device of the vectors.

        Raises:
            ValueError: for vectors of another width.
        """
        items = self._checked(item_embeddings)
        # one tensor from the start: small ones that stay between large ones that go would scatter the memory
        codes = torch.empty(len(items), len(self.level_sizes), dtype=torch.int64, device=items.device)
        start = 0
        for part in self._batches(items):
            codes[start : start + len(part)] = self._codes(part)
            start += len(part)
        return codes

    @torch.no_grad()
    def fit_statistics(self, item_embeddings: Tensor) -> None:
        """Set mean and standard deviation of `input_norm="standardize"` from item vectors `[N, E]`; else do nothing.

        A dimension that never varies is centred but not scaled.
        """
        if self.input_norm.kind != "standardize":
            return
        items = self._checked(item_embeddings).to(self.device, torch.float64)
        std = items.std(0, correction=0)
        self.input_norm.mean.copy_(items.mean(0))
        self.input_norm.std.copy_(torch.where(std > 1e-8, std, torch.ones_like(std)))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, InputNorm) and module.kind == "standardize":
            init.zeros_(module.mean)
            init.ones_(module.std)

    def _codes(self, items: Tensor) -> Tensor:
        """Return the codes of a batch of item vectors `[B, E]` on the model's device, int64 `[B, L]`."""
        raise NotImplementedError(f"{type(self).__name__} is a quantizer and must define _codes")

    def _normalised(self, item_embeddings: Tensor) -> Tensor:
        return self.input_norm(self._checked(item_embeddings))

    def _checked(self, item_embeddings: Tensor) -> Tensor:
        if item_embeddings.ndim != 2 or item_embeddings.shape[1] != self.config.item_dim:
            raise ValueError(
                f"item_embeddings must be [items, {self.config.item_dim}], got shape {tuple(item_embeddings.shape)!r}; "
                "use the text encoder that the quantizer was fitted with"
            )
        return item_embeddings

    def _check_level(self, level: int) -> None:
        if not 0 <= level < len(self.level_sizes):
            raise ValueError(f"level must be in 0 … {len(self.level_sizes) - 1}, got {level!r}")

    def _check_prefix(self, prefix: Tensor, num_items: int) -> None:
        """Raise ValueError unless a prefix has a row for each item and leaves a level over."""
        most = len(self.level_sizes) - 1
        if prefix.ndim != 2 or prefix.shape[1] > most or len(prefix) != num_items:
            raise ValueError(
                f"a prefix must be [{num_items} items, 0 … {most} levels], got shape {tuple(prefix.shape)!r}; leave "
                "out an appended level"
            )
        self._check_codes(prefix, least=0)

    def _check_codes(self, codes: Tensor, *, least: int) -> None:
        """Raise ValueError unless codes have `least` to L levels and exist."""
        most = len(self.level_sizes)
        if codes.ndim != 2 or not least <= codes.shape[1] <= most:
            levels = f"{least} … {most}" if least < most else str(most)
            raise ValueError(
                f"codes must be [items, {levels} levels], got shape {tuple(codes.shape)!r}; leave out an appended level"
            )
        for level, column in enumerate(codes.unbind(1)):
            beyond = column[(column < 0) | (column >= self.level_sizes[level])]
            if len(beyond):
                raise ValueError(
                    f"level {level} has codes 0 … {self.level_sizes[level] - 1}, got {int(beyond[0])!r}; leave out an "
                    "appended level"
                )

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(rows), ITEMS_PER_BATCH):
            yield rows[start : start + ITEMS_PER_BATCH].to(self.device)
