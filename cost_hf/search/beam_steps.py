"""What a search asks of a model: hidden states of the next token for all beams of all requests.

`generate()` copies the prompt's keys and values for every beam. Here the beams of a request are tokens of one row: a
float mask lets each see the prompt and its own ancestors, so nothing is copied per beam. The steps (`t5_steps`,
`causal_steps`) call the model's own modules, so adapters and quantised layers count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """What a batch of B requests gives the model.

    Attributes:
        input_ids: token ids `[B, S]`; None where one of the next two is given.
        inputs_embeds: embedded prompts `[B, S, d]`.
        encoder_states: what the encoder made of them already, `[B, S, d]` (encoder-decoder models).
        attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
        model_kwargs: further keyword arguments of the encoder, or of every pass of a decoder-only model.
    """

    attention_mask: Tensor
    input_ids: Tensor | None = None
    inputs_embeds: Tensor | None = None
    encoder_states: Tensor | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_padded(self) -> bool:
        """Tell whether a mask is needed; off the CPU always, for looking would stop the device."""
        return self.attention_mask.device.type != "cpu" or not bool(self.attention_mask.all())


class DecodingSteps(Protocol):
    """The decoder's last hidden states behind the beams of a batch of requests."""

    @property
    def batch(self) -> int:
        """B, requests."""

    @property
    def prompt_states(self) -> Tensor | None:
        """Last hidden states at all positions of the prompts, `[B, S, d]`; None before `start` and after `resumed`."""

    def prompt_tensors(self) -> list[Tensor]:
        """Return all that the prompts left behind, `[B, …]` each."""

    def resumed(self, tensors: Sequence[Tensor]) -> "DecodingSteps":
        """Return the steps that go on from such `prompt_tensors`, sharing nothing with these."""

    def start(self, added: Tensor | None = None) -> Tensor:
        """Return the hidden states that predict the first code, `[B, 1, d]`; forget beams of an earlier search."""

    def advance(self, tokens: Tensor, parents: Tensor, added: Tensor | None = None) -> Tensor:
        """Append a token to beams and return the hidden states behind it, `[B, R, d]`.

        Args:
            tokens: `[B, R]`.
            parents: the beam of the previous step that each continues, `[B, R]`.
            added: is added to the embeddings of the tokens, `[B, R, d]`.
        """


class Ancestry:
    """Which of the beam tokens fed so far lie on the path of each beam: bool `[B, R, tokens so far]`."""

    def __init__(self) -> None:
        self.paths: Tensor | None = None

    def extend(self, parents: Tensor) -> Tensor:
        """Take the step in which beam r continues beam `parents[:, r]`; return the paths, own token included."""
        batch, beams = parents.shape
        own = torch.eye(beams, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self.paths is None:
            self.paths = own
        else:
            index = parents[..., None].expand(-1, -1, self.paths.shape[-1])
            self.paths = torch.cat([self.paths.gather(1, index), own], dim=-1)
        return self.paths


def float_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where `visible` and the lowest number of `dtype` elsewhere."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)
