"""Parts of PRISM's quantizer: the gate of collaborative vectors, its stacks, and codebooks that move by averages."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cost_hf.quantizers.cost.layers_cost import full_precision
from cost_hf.quantizers.cost.residual_cost import QuantizedLatents, ResidualQuantizer

from .configuration_prism import PrismConfig

MIN_COUNT = 1e-5  # of a moving average: a code that nothing has chosen for so long keeps its vector


class CollaborativeGate(nn.Module):
    """`g = sigmoid(MLP(b))`, how much of a collaborative vector is kept, dimension by dimension.

    Buffers:
        scale: makes the mean length of collaborative vectors 1; lengths themselves matter, they grow with popularity.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Buffer(torch.ones(()))
        self.hidden = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(2 * dim, dim)

    def forward(self, collaborative: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and `g * b`, both `[B, C]`, of collaborative vectors b `[B, C]`; zeros stay zeros."""
        scaled = collaborative.float() * self.scale
        gates = self.output(functional.relu(self.hidden(scaled.to(self.hidden.weight.dtype)))).float().sigmoid()
        return gates, gates * scaled


class Stack(nn.Module):
    """Linear layers, each but a last one without them followed by layer normalisation, ReLU and dropout.

    Args:
        widths: of the layers.
        dropout: share of activations dropped in training.
        has_plain_end: whether the last layer is linear alone.
    """

    def __init__(self, widths: list[int], *, dropout: float, has_plain_end: bool) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))
        normed = widths[1:-1] if has_plain_end else widths[1:]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in normed)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map `[B, first width]` to `[B, last width]`, in the precision of the layers."""
        vectors = vectors.to(next(self.parameters()).dtype)
        for index, layer in enumerate(self.layers):
            vectors = layer(vectors)
            if index < len(self.norms):
                vectors = functional.relu(self.norms[index](vectors))
                vectors = functional.dropout(vectors, self.dropout, self.training)
        return vectors


class FusionEncoder(nn.Module):
    """Layer normalisation over content and gated collaborative vector, then the stack to the latent."""

    def __init__(self, config: PrismConfig) -> None:
        super().__init__()
        width = config.item_dim + config.collaborative_dim
        self.norm = nn.LayerNorm(width)
        widths = [width, *(config.hidden_sizes or ()), config.latent_dim]
        self.stack = Stack(widths, dropout=config.dropout, has_plain_end=True)

    def forward(self, fused: Tensor) -> Tensor:
        """Map `[B, E + C]` to latents `[B, D]`."""
        return self.stack(self.norm(fused.to(self.norm.weight.dtype)))


class DualDecoder(nn.Module):
    """A trunk from the quantized latent, and a head for each of the two vectors of an item."""

    def __init__(self, config: PrismConfig) -> None:
        super().__init__()
        widths = [config.latent_dim, *reversed(config.hidden_sizes or ())]
        self.trunk = Stack(widths, dropout=config.dropout, has_plain_end=False)
        content = [widths[-1], 2 * config.item_dim, config.item_dim]
        self.content = Stack(content, dropout=config.dropout, has_plain_end=True)
        if config.collaborative_weight:
            collaborative = [widths[-1], 4 * config.collaborative_dim, config.collaborative_dim]
            self.collaborative = Stack(collaborative, dropout=config.dropout, has_plain_end=True)

    def forward(self, quantized: Tensor) -> Tensor:
        """Return content vectors `[B, E]` of quantized latents `[B, D]`."""
        return self.content(self.trunk(quantized))

    def both(self, quantized: Tensor) -> tuple[Tensor, Tensor]:
        """Return content vectors `[B, E]` and collaborative vectors `[B, C]` of quantized latents `[B, D]`."""
        inner = self.trunk(quantized)
        return self.content(inner), self.collaborative(inner)


class TagHeads(nn.Module):
    """What ties codes to tags: a classifier for each prefix of codes, and a projection of tags to code vectors."""

    def __init__(self, config: PrismConfig) -> None:
        super().__init__()
        levels = range(config.supervised_levels)
        if config.tag_weight:
            self.classifiers = nn.ModuleList(
                nn.Linear((level + 1) * config.latent_dim, config.tag_sizes[level]) for level in levels
            )
        if config.anchor_weight:
            self.projections = nn.ModuleList(nn.Linear(config.item_dim, config.latent_dim) for _ in levels)

    def logits(self, quantized: QuantizedLatents) -> list[Tensor]:
        """Return logits of the tags of each supervised level, `[B, tags]`, from the code vectors so far.

        Their gradient passes to the code vectors and, straight through, to the residuals.
        """
        passed = quantized.vectors + (quantized.residuals - quantized.residuals.detach())
        return [head(passed[:, : level + 1].flatten(1)) for level, head in enumerate(self.classifiers)]


class AveragedQuantizer(ResidualQuantizer):
    """Codebooks without gradient, whose vectors are moving averages of the residuals that chose them.

    Buffers:
        counts: averaged number of residuals of each code, all levels one after another, `[sum of K]`.
        sums: averaged sum of these residuals, `[sum of K, D]`.
    """

    def __init__(self, config: PrismConfig) -> None:
        super().__init__(config)
        self.decay = config.ema_decay
        self.codebooks.requires_grad_(False)
        self.counts = nn.Buffer(torch.ones(sum(self.level_sizes)))
        self.sums = nn.Buffer(torch.zeros(sum(self.level_sizes), config.latent_dim))

    @torch.no_grad()
    def statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many latents `[B, D]` choose each code, `[sum of K]`, and the sums of their residuals."""
        found = self(latents)
        counts = torch.zeros_like(self.counts)
        sums = torch.zeros_like(self.sums)
        for level in range(len(self.level_sizes)):
            rows = found.codes[:, level] + self._first(level)
            counts += torch.bincount(rows, minlength=len(counts))
            # a product adds in one order, whatever the number of threads
            chosen = functional.one_hot(rows, len(counts)).to(sums)
            with full_precision(rows.device):
                sums += chosen.T @ found.residuals[:, level]
        return counts, sums

    @torch.no_grad()
    def update(self, counts: Tensor, sums: Tensor) -> None:
        """Move the averages by those of a batch, `[sum of K]` and `[sum of K, D]`, and the code vectors to them.

        `n ← γ n + (1 - γ) counts`, `m ← γ m + (1 - γ) sums`, `e = m / n`. Every process of a distributed run must call
        this with the same values.
        """
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        averages = self.sums / self.counts.clamp_min(MIN_COUNT).unsqueeze(1)
        for level, size in enumerate(self.level_sizes):
            rows = slice(self._first(level), self._first(level) + size)
            is_alive = self.counts[rows, None] >= MIN_COUNT
            codebook = self.codebook(level)
            codebook.copy_(torch.where(is_alive, averages[rows], codebook))

    @torch.no_grad()
    def replace_codes(self, level: int, rows: Tensor, vectors: Tensor) -> None:
        """Overwrite code vectors; the averages of those that change begin again, as if one residual had chosen them."""
        codebook = self.codebook(level)
        own = rows.to(codebook.device)
        changed = own[(codebook[own] != vectors.to(codebook)).any(1)]
        super().replace_codes(level, rows, vectors)
        self.counts[changed + self._first(level)] = 1
        self.sums[changed + self._first(level)] = codebook[changed]

    def _first(self, level: int) -> int:
        return sum(self.level_sizes[:level])
