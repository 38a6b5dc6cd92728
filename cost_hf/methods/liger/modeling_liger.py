"""LIGER: a generator of semantic IDs that also reads and scores items by their text vectors, as Transformers models.

arXiv 2411.18814. The paper's model is `LigerForConditionalGeneration` on T5. `LigerForCausalLM` puts the same dense
head on a decoder-only model that learns every next item of a user in one pass; it is an addition of this package.
Text vectors are data, not weights: `attach_catalog` gives a model those of its training, and a search takes the
`item_table` of any catalog. Without text input and dense loss both models are their base classes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, T5ForConditionalGeneration
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast, Seq2SeqLMOutput

from .configuration_liger import LigerCausalConfig, LigerConfig

NO_ITEM = -1
IGNORED_LABEL = -100
ROWS_AT_ONCE = 8192  # of the catalog, in `item_table`


@dataclass
class LigerSeq2SeqOutput(Seq2SeqLMOutput):
    """Output of `LigerForConditionalGeneration`.

    Attributes:
        sid_loss: cross-entropy of the next item's tokens, a scalar; None without labels.
        dense_loss: cross-entropy of the next item among all items, a scalar; None without a dense head.
    """

    sid_loss: Tensor | None = None
    dense_loss: Tensor | None = None


@dataclass
class LigerCausalOutput(CausalLMOutputWithPast):
    """Output of `LigerForCausalLM`; the losses are those of `LigerSeq2SeqOutput`."""

    sid_loss: Tensor | None = None
    dense_loss: Tensor | None = None


class ItemTextEncoder(nn.Module):
    """Maps text vectors `[..., E]` to item embeddings of the model's width: residual layers of linear map, norm, ReLU.

    The same network gives the item embeddings of the input and those that users are compared with.

    Args:
        config: widths and dropout.
        width: D, of the model.
    """

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        sizes = [config.text_dim, *config.text_hidden_sizes]
        self.input_dropout = nn.Dropout(config.text_dropout)
        self.layers = nn.ModuleList(TextLayer(inner, outer, config.text_dropout) for inner, outer in pairwise(sizes))
        self.output = TextLinear(sizes[-1], width)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return item embeddings, `[..., D]`."""
        hidden = self.input_dropout(vectors.to(self.output.weight.dtype))
        for layer in self.layers:
            hidden = layer(hidden)
        return self.output(hidden)


class TextLinear(nn.Linear):
    """A linear map that is initialised as torch does it, not as the layers of the base class are."""


class TextLayer(nn.Module):
    """A layer of `ItemTextEncoder`."""

    def __init__(self, inner: int, outer: int, dropout: float) -> None:
        super().__init__()
        self.linear = TextLinear(inner, outer)
        self.norm = nn.LayerNorm(outer, eps=1e-8)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = TextLinear(inner, outer, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[..., E]` to `[..., F]`."""
        return self.dropout(functional.relu(self.norm(self.linear(hidden)))) + self.shortcut(hidden)


class LigerMixin:
    """What both models add to their base class: text vectors of items, and the dense head."""

    config: Any

    def _add_text(self, width: int) -> None:
        """Create the item text encoder, where there is one, after the weights of the base class."""
        if self.config.reads_text:
            self.item_text = ItemTextEncoder(self.config, width)
            # the items are data: neither is saved with the weights
            self.register_buffer("item_vectors", None, persistent=False)  # type: ignore[attr-defined]
            self.register_buffer("trained_rows", None, persistent=False)  # type: ignore[attr-defined]

    def attach_catalog(self, item_vectors: Tensor, is_trained: Tensor | None = None) -> None:
        """Attach the text vectors of the items for training; nothing happens where the model reads no text.

        Args:
            item_vectors: frozen text vectors of the catalog, `[N, E]`.
            is_trained: items with a click in training, bool `[N]`; all by default. The others are no negatives of the
                dense loss, as in the published code, which masks their logits.
        """
        if not self.config.reads_text:
            return
        if item_vectors.ndim != 2 or item_vectors.shape[1] != self.config.text_dim:
            raise ValueError(
                f"expected text vectors [N, {self.config.text_dim}], one per catalog row, got "
                f"{tuple(item_vectors.shape)}; give those of the encoder that the model is configured for"
            )
        device = self.item_text.output.weight.device
        rows = torch.arange(len(item_vectors)) if is_trained is None else is_trained.cpu().nonzero()[:, 0]
        if len(rows) == 0:
            raise ValueError("is_trained names no item; give the items that have a click in training")
        self.item_vectors = item_vectors.to(device, torch.float32)
        self.trained_rows = rows.to(device)

    @torch.no_grad()
    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the item embeddings of a catalog, `[N, D]`; compute them once for many requests.

        Args:
            item_vectors: text vectors of a catalog `[N, E]`; those of `attach_catalog` by default.
        """
        vectors = self.item_vectors if item_vectors is None else item_vectors
        if vectors is None:
            raise ValueError("the model has no text vectors; pass item_vectors, or call attach_catalog")
        device = self.item_text.output.weight.device
        return torch.cat([self.item_text(part.to(device)) for part in vectors.split(ROWS_AT_ONCE)])

    def users(self, states: Tensor, item_rows: Tensor, attention_mask: Tensor) -> Tensor:
        """Return user embeddings, `[B, D]`: the states at the last token of the last item.

        In the published code that is the last token of the prompt. For a prompt without items it is the last token.

        Args:
            states: last hidden states of the encoder, or of a decoder-only model, `[B, S, D]`.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`.
        """
        places = torch.arange(1, states.shape[1] + 1, device=states.device)
        last_item = ((item_rows >= 0) * places).amax(1)
        last = torch.where(last_item > 0, last_item, (attention_mask * places).amax(1)) - 1
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of items for users, fp32 `[..., B, N]`: cosines over the temperature.

        Args:
            users: of `users`, `[..., B, D]`.
            items: rows of `item_table`, `[..., N, D]`.
        """
        items = functional.normalize(items.float(), dim=-1)
        return functional.normalize(users.float(), dim=-1) @ items.mT / self.config.logits_temperature

    def embed_prompt(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_table: Tensor | None = None,
    ) -> Tensor:
        """Return embedded prompts, `[B, S, D]`: tokens and, with text input, item embeddings.

        Generated tokens have no item embeddings, so decoding is that of the base class.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; not needed.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none; needed with text input.
            item_table: of the catalog, `[N, D]`; by default made from the vectors of `attach_catalog`.
        """
        if not self.config.use_text_input:
            return self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]
        input_ids, item_rows = _with_items(input_ids, item_rows)
        if item_table is None:
            return self._embedded(input_ids, item_rows, self._batch_table(item_rows).of(item_rows.clamp_min(0)))
        return self._embedded(input_ids, item_rows, functional.embedding(item_rows.clamp_min(0), item_table))

    def _embedded(self, input_ids: Tensor, item_rows: Tensor, texts: Tensor | None) -> Tensor:
        """Return the embedded input `[B, S, D]`, given the item embedding at every token `[B, S, D]`, if any."""
        raise NotImplementedError

    def _batch_table(self, item_rows: Tensor | None, labels: Tensor | None = None) -> "BatchTable":
        """Return the embeddings of the items in a batch and of those that its dense loss compares, each computed once.

        The published code computes an item again, with another dropout, wherever it occurs.

        Args:
            item_rows: of tokens, any shape; None where no text is read.
            labels: next items of the dense loss, `[P]`; None without one.
        """
        if self.item_vectors is None:
            raise ValueError("the model has no text vectors; call attach_catalog first")
        candidates = None if labels is None else self._candidates()
        wanted = [part.flatten() for part in (item_rows, labels, candidates) if part is not None]
        rows = torch.cat(wanted).clamp_min(0).unique()  # ascending
        return BatchTable(rows, self.item_text(self.item_vectors[rows]), candidates)

    def _table_for(self, item_rows: Tensor, next_items: Tensor | None) -> "BatchTable":
        """Return the item embeddings of a batch; none where it needs none."""
        if not self.config.use_text_input and next_items is None:
            return BatchTable(item_rows.new_empty(0), torch.empty(0, device=item_rows.device))
        labels = None if next_items is None else next_items[next_items >= 0]
        return self._batch_table(item_rows if self.config.use_text_input else None, labels)

    def _candidates(self) -> Tensor:
        """Return the catalog rows of the softmax of the dense loss, `[K]`."""
        rows = self.trained_rows
        number = self.config.dense_negatives
        if number is None or number >= len(rows):
            return rows
        return rows[torch.randperm(len(rows), device=rows.device)[:number]]

    def _dense_loss(self, users: Tensor, labels: Tensor, table: "BatchTable") -> Tensor:
        """Return the mean cross-entropy of the items `labels` `[P]` for users `[P, D]`, among the items of training.

        In a sampled softmax, logits of negatives are corrected by the logarithm of the items that each stands for.
        """
        if len(labels) == 0:
            return users.sum() * 0.0
        with torch.autocast(users.device.type, enabled=False):
            logits = self.scores(users, table.of(table.candidates))  # [P, K]
            own = self.scores(users[:, None], table.of(labels)[:, None])[:, 0]  # [P, 1]
            is_own = table.candidates == labels[:, None]
            others = (~is_own).sum(1, keepdim=True).clamp_min(1)
            weight = ((len(self.trained_rows) - 1) / others).clamp_min(1.0).log()
            logits = (logits + weight).masked_fill(is_own, -torch.inf)
            return (torch.cat([own, logits], 1).logsumexp(1) - own[:, 0]).mean()

    def _weighted(self, sid_loss: Tensor | None, dense_loss: Tensor | None) -> Tensor | None:
        terms = [(self.config.sid_loss_weight, sid_loss), (self.config.dense_loss_weight, dense_loss)]
        present = [weight * loss for weight, loss in terms if loss is not None and weight > 0]
        return sum(present[1:], start=present[0]) if present else None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, TextLinear):
            super()._init_weights(module)  # type: ignore[misc]
            return
        init.kaiming_uniform_(module.weight, a=5**0.5)  # as torch does it
        if module.bias is not None:
            init.zeros_(module.bias)


@dataclass(frozen=True)
class BatchTable:
    """Item embeddings that a batch needs.

    Attributes:
        rows: catalog rows of the items, ascending, `[U]`.
        table: their embeddings, `[U, D]`.
        candidates: catalog rows of the softmax of the dense loss, `[K]`; None without one.
    """

    rows: Tensor
    table: Tensor
    candidates: Any = None

    def of(self, rows: Tensor) -> Tensor:
        """Return the embeddings of catalog rows, all of them among `self.rows`, `[..., D]`."""
        # not table[...]: with several threads its backward adds the gradients of an item in any order
        return functional.embedding(torch.searchsorted(self.rows, rows), self.table)


class LigerForConditionalGeneration(LigerMixin, T5ForConditionalGeneration):
    """T5 that generates semantic IDs and, by its encoder, scores items by their text vectors (arXiv 2411.18814).

    With text input the encoder reads, of code c of item i, E[code] + MLP(text_i) + P_item[i] + P_code[c], normalised,
    with dropout; items count from the oldest. Tokens that belong to no item have no other terms than E.

    Args:
        config: sizes and objective.
    """

    config_class = LigerConfig
    config: LigerConfig
    decodes_like_base = True

    def __init__(self, config: LigerConfig) -> None:
        super().__init__(config)
        self._add_text(config.d_model)
        if config.use_text_input:
            self.item_positions = nn.Embedding(config.max_items, config.d_model)
            self.code_positions = nn.Embedding(config.num_levels, config.d_model)
            self.text_input_norm = nn.LayerNorm(config.d_model, eps=1e-8)
            self.text_input_dropout = nn.Dropout(config.input_dropout)
        self.post_init()

    def _embedded(self, input_ids: Tensor, item_rows: Tensor, texts: Tensor | None) -> Tensor:
        tokens = self.shared(input_ids)
        if texts is None:
            return tokens
        is_item = item_rows >= 0
        order = (is_item.cumsum(1) - 1).clamp_min(0)  # of the tokens of items, from the oldest
        items = order // self.config.num_levels
        codes = order % self.config.num_levels
        added = texts + self.item_positions(items) + self.code_positions(codes)
        embeds = tokens + added.masked_fill(~is_item[..., None], 0.0)
        return self.text_input_dropout(self.text_input_norm(embeds))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_labels: Tensor | None = None,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Read histories and predict the next items, by their tokens and by their text vectors.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
            labels: tokens of the next item, `[B, L]`.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none.
            item_labels: catalog row of the next item beside every label, `[B, L]`, for the dense loss.
            encoder_outputs: of prompts that are encoded already.
            inputs_embeds: prompts that are embedded already, `[B, S, D]` (`embed_prompt`).
            kwargs: of the base class.
        """
        if encoder_outputs is not None or inputs_embeds is not None or not self.config.reads_text:
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                labels=labels,
                encoder_outputs=encoder_outputs,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )
        input_ids, item_rows = _with_items(input_ids, item_rows)
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        next_items = None
        if self.config.has_dense_head and item_labels is not None:
            next_items = item_labels[:, 0]
        table = self._table_for(item_rows, next_items)
        texts = table.of(item_rows.clamp_min(0)) if self.config.use_text_input else None
        encoded = self.encoder(inputs_embeds=self._embedded(input_ids, item_rows, texts), attention_mask=attention_mask)
        states = encoded.last_hidden_state
        dense_loss = None
        if next_items is not None:
            is_label = next_items >= 0
            users = self.users(states, item_rows, attention_mask)[is_label]
            dense_loss = self._dense_loss(users, next_items[is_label], table)
        if self.config.sid_loss_weight == 0 and dense_loss is not None:  # the decoder would learn nothing
            loss = self._weighted(None, dense_loss)
            return LigerSeq2SeqOutput(loss=loss, encoder_last_hidden_state=states, dense_loss=dense_loss)
        output = super().forward(attention_mask=attention_mask, labels=labels, encoder_outputs=encoded, **kwargs)
        fields = {**output, "loss": self._weighted(output.loss, dense_loss)}
        return LigerSeq2SeqOutput(**fields, sid_loss=output.loss, dense_loss=dense_loss)


class LigerForCausalLM(LigerMixin, LlamaForCausalLM):
    """Llama that generates semantic IDs and scores items by their text vectors; not in the paper.

    All next items of a user are learned in one pass. The item embedding is added at the last token of an item alone: at
    an earlier one it would leak the tokens that follow. The state there is the user embedding. No position embeddings
    are added, since the model has rotary ones.

    Args:
        config: sizes and objective.
    """

    config_class = LigerCausalConfig
    config: LigerCausalConfig
    decodes_like_base = True

    def __init__(self, config: LigerCausalConfig) -> None:
        super().__init__(config)
        self._add_text(config.hidden_size)
        if config.use_text_input:
            self.text_input_dropout = nn.Dropout(config.input_dropout)
        self.post_init()

    def _embedded(self, input_ids: Tensor, item_rows: Tensor, texts: Tensor | None) -> Tensor:
        tokens = self.model.embed_tokens(input_ids)
        if texts is None:
            return tokens
        is_last = self._ends_item(item_rows)
        return tokens + self.text_input_dropout(texts).masked_fill(~is_last[..., None], 0.0)

    def _ends_item(self, item_rows: Tensor) -> Tensor:
        """Return which tokens are the last of an item, bool `[B, S]`; rows of a batch hold whole items only."""
        is_item = item_rows >= 0
        return is_item & (is_item.cumsum(1) % self.config.num_levels == 0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Read users' items and predict the next one at each of them, by its tokens and by its text vector.

        Args:
            input_ids: `[R, S]`.
            attention_mask: of the base class; `[R, 1, S, S]` where a row holds several users.
            position_ids: `[R, S]`.
            past_key_values: of earlier tokens; generated tokens follow them without item embeddings.
            inputs_embeds: prompts that are embedded already, `[R, S, D]` (`embed_prompt`).
            labels: tokens to learn, `[R, S]`, -100 elsewhere; each is predicted one position earlier, as in the base
                class.
            item_rows: catalog row of every token, `[R, S]`, -1 where there is none.
            item_labels: catalog row of every label, `[R, S]`, -100 elsewhere, for the dense loss.
            kwargs: of the base class.
        """
        is_answer = item_rows is None and past_key_values is not None and past_key_values.get_seq_length() > 0
        if inputs_embeds is not None or is_answer or not self.config.reads_text:
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                labels=labels,
                **kwargs,
            )
        input_ids, item_rows = _with_items(input_ids, item_rows)
        is_label: Any = None
        next_items: Any = None
        if self.config.has_dense_head and item_labels is not None:
            following = functional.pad(item_labels[:, 1:], (0, 1), value=IGNORED_LABEL)
            is_label = self._ends_item(item_rows) & (following >= 0)
            next_items = following[is_label]
        table = self._table_for(item_rows, next_items)
        texts = table.of(item_rows.clamp_min(0)) if self.config.use_text_input else None
        output = self.model(
            inputs_embeds=self._embedded(input_ids, item_rows, texts),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        states = output.last_hidden_state
        logits = None
        sid_loss = None
        dense_loss = None
        if self.config.sid_loss_weight > 0 or labels is None:
            logits = self.lm_head(states)
        if self.config.sid_loss_weight > 0 and labels is not None:
            sid_loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        if is_label is not None:
            dense_loss = self._dense_loss(states[is_label], next_items, table)
            total = kwargs.get("num_items_in_batch")
            if total is not None and labels is not None:  # labels of all batches of a step; their losses are added up
                dense_loss = dense_loss * ((labels != IGNORED_LABEL).sum() / total)
        return LigerCausalOutput(
            loss=self._weighted(sid_loss, dense_loss),
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            sid_loss=sid_loss,
            dense_loss=dense_loss,
        )


def _with_items(input_ids: Tensor | None, item_rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both; raise ValueError where one is missing, so that texts are never left out silently."""
    if input_ids is None or item_rows is None:
        raise ValueError(
            "a model that reads texts needs item_rows [B, S] beside input_ids, got "
            f"{'no input_ids' if input_ids is None else 'none'}; PromptBuilder.inputs_with_items gives both"
        )
    return input_ids, item_rows
