"""States of texts and of semantic IDs in a language model: the mean of its last hidden states over their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cost_hf.generators.templates import PromptEncoder


def mean_states(model: Any, input_ids: Tensor, attention_mask: Tensor, *, begin_ids: Sequence[int] = ()) -> Tensor:
    """Return the mean of the last hidden states over the tokens of every row, fp32 `[B, D]`.

    Args:
        model: a causal language model, with LoRA or without.
        input_ids: `[B, S]`.
        attention_mask: 1 for tokens, 0 for padding on their right, `[B, S]`.
        begin_ids: tokens before every row, which are not in the mean.
    """
    begin = input_ids.new_tensor(begin_ids).expand(len(input_ids), -1)
    output = body_of(model)(
        input_ids=torch.cat([begin, input_ids], 1),
        attention_mask=torch.cat([torch.ones_like(begin), attention_mask], 1),
        use_cache=False,
    )
    states = output.last_hidden_state[:, len(begin_ids) :]
    mask = attention_mask[..., None].float()
    return (states.float() * mask).sum(1) / mask.sum(1)


def body_of(model: Any) -> nn.Module:
    """Return a language model without its head; LoRA, which is inside its layers, stays."""
    stock = model.get_base_model() if hasattr(model, "get_base_model") else model
    return stock.base_model


@dataclass(frozen=True)
class TextRows:
    """Texts as token ids, none of them empty.

    Attributes:
        rows: of every text, N arrays.
        pad_id: of padding, which masks mark.
        begin_ids: before every text, and in none of its means.
    """

    rows: list[np.ndarray]
    pad_id: int
    begin_ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str], prompt_encoder: PromptEncoder, *, max_tokens: int) -> "TextRows":
        """Return the first `max_tokens` tokens of texts; an empty one is the end token."""
        tokenizer = prompt_encoder.tokenizer
        plain = [prompt_encoder.plain(text, max_tokens=max_tokens) for text in texts]
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"][:max_tokens] if text else [] for text in plain]
        end = tokenizer.eos_token_id
        pad_id = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        rows = [np.array(row or [end], dtype=np.int64) for row in ids]
        return cls(rows, pad_id, prompt_encoder.begin_ids)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `input_ids` and `attention_mask` `[n, S]` of some texts, padded on the right."""
        own = [torch.from_numpy(self.rows[row]) for row in rows.tolist()]
        ids = nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=self.pad_id)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in own], batch_first=True)
        return ids.to(device), mask.to(device)

    @torch.no_grad()
    def vectors(self, model: Any, *, batch_size: int) -> Tensor:
        """Return the states of all texts without dropout, fp32 `[N, D]` on the CPU.

        Texts of like length are embedded together, in an order that depends on the lengths alone.
        """
        was_training = model.training
        model.eval()
        order = np.argsort([len(row) for row in self.rows], kind="stable")
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        found = [
            mean_states(model, *self.batch(batch, model.device), begin_ids=self.begin_ids).cpu() for batch in batches
        ]
        model.train(was_training)
        states = torch.cat(found)
        return states[torch.from_numpy(np.argsort(order))]
