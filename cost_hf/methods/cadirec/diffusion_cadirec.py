"""The diffusion of CaDiRec: noise on the vectors of masked items, and an encoder that removes it by the context."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DebertaConfig
from transformers.models.deberta.modeling_deberta import DebertaEncoder

from .configuration_cadirec import CaDiRecConfig

FLOOR = 1e-4  # of the schedule: the first step is not free of noise
SLOWEST_PERIOD = 10_000  # of the sines of a step


class ContextDiffusion(nn.Module):
    """Diffusion over the item vectors at masked positions, with the other items as context (arXiv 2405.09369).

    The encoder is that of DeBERTa (arXiv 2006.03654): bidirectional, with relative positions.
    """

    def __init__(self, config: CaDiRecConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_steps = config.noise_steps
        self.sampling_steps = config.sampling_steps
        self.width = width
        self.step_hidden = nn.Linear(width, 4 * width)
        self.step_output = nn.Linear(4 * width, width)
        self.input_norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = config.diffusion_dropout
        self.encoder = DebertaEncoder(
            DebertaConfig(
                hidden_size=width,
                num_hidden_layers=config.diffusion_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.diffusion_intermediate_size,
                hidden_dropout_prob=config.diffusion_dropout,
                attention_probs_dropout_prob=config.diffusion_dropout,
                relative_attention=True,
                max_relative_positions=config.max_history,
                pos_att_type=["p2c", "c2p"],
            )
        )

    def signal(self, steps: Tensor) -> Tensor:
        """Return ᾱ, the share of the variance at steps from 0 to T - 1 that is signal: `1 - sqrt(t / T + 1e-4)`."""
        return 1 - (steps / self.num_steps + FLOOR).sqrt()

    def noised(self, vectors: Tensor, is_masked: Tensor, steps: Tensor) -> Tensor:
        """Return vectors with noise at masked positions; all others stay as they are.

        Args:
            vectors: of the items of sequences, `[B, T, D]`.
            is_masked: `[B, T]`.
            steps: one of every sequence, `[B]`.
        """
        least = 1 - self.signal(steps.new_zeros(1))
        start = vectors + least.sqrt() * torch.randn_like(vectors)
        return torch.where(is_masked[..., None], self._mixed(start, torch.randn_like(vectors), steps), vectors)

    def forward(self, noised: Tensor, steps: Tensor, is_item: Tensor) -> Tensor:
        """Return the vectors as they stand without noise, `[B, T, D]`.

        Args:
            noised: `[B, T, D]`.
            steps: of the noise, `[B]`.
            is_item: False at pads, `[B, T]`.
        """
        hidden = self.input_norm(noised + self._step_vectors(steps)[:, None])
        hidden = functional.dropout(hidden, self.dropout, self.training)
        with torch.autocast(hidden.device.type, enabled=False):  # DeBERTa masks by the least fp32 number
            return self.encoder(hidden.float(), is_item.int(), output_hidden_states=False).last_hidden_state

    def sampled(self, vectors: Tensor, is_masked: Tensor, is_item: Tensor) -> Tensor:
        """Return vectors for masked positions from noise alone, by `sampling_steps` steps of DDIM, `[B, T, D]`.

        The deterministic process of arXiv 2010.02502, eq. 12 with σ = 0; positions that are not masked keep their
        vectors throughout.

        Args:
            vectors: of the items, `[B, T, D]`; those at masked positions are not read.
            is_masked: `[B, T]`.
            is_item: False at pads, `[B, T]`.
        """
        times = torch.linspace(self.num_steps - 1, 0, self.sampling_steps, device=vectors.device).round().long()
        state = torch.randn_like(vectors)
        clean = state
        for number, time in enumerate(times):
            steps = time.expand(len(vectors))
            current = torch.where(is_masked[..., None], state, vectors)
            clean = self(current, steps, is_item)
            if number + 1 < len(times):
                share = self.signal(time)
                noise = (state - share.sqrt() * clean) / (1 - share).sqrt()
                state = self._mixed(clean, noise, times[number + 1].expand(len(vectors)))
        return clean

    def _mixed(self, vectors: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        share = self.signal(steps)[:, None, None]
        return share.sqrt() * vectors + (1 - share).sqrt() * noise

    def _step_vectors(self, steps: Tensor) -> Tensor:
        """Return the vector of every step, `[B, D]`."""
        half = (self.width + 1) // 2
        rates = torch.exp(-math.log(SLOWEST_PERIOD) * torch.arange(half, device=steps.device) / half)
        angles = steps[:, None] * rates
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)[:, : self.width]
        return self.step_output(functional.silu(self.step_hidden(waves.to(self.step_hidden.weight.dtype))))
