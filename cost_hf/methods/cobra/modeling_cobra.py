"""COBRA: a decoder-only model over items of codes and dense vectors, as a Transformers model (arXiv 2503.02453).

An item is its codes, then its dense vector: `c_1 … c_L v`. The state at a dense vector predicts the first code of the
next item, the state at a code the next code, and the state at the last code the dense vector. Texts are data, not
weights: `attach_catalog` gives a model those of its training, and a search takes the `item_table` of any catalog.
Without dense inputs and dense loss the model is its base class.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_cobra import CobraConfig

IGNORED_LABEL = -100
CLS_WORD = 1  # id of [CLS] among the words of the light encoder; 0 pads
ROWS_AT_ONCE = 1024  # of the catalog, in `item_table`


@dataclass
class CobraOutput(CausalLMOutputWithPast):
    """Output of `CobraForCausalLM`.

    Attributes:
        sid_loss: mean cross-entropy of a code, a scalar; None without labels.
        dense_loss: mean contrastive loss of a dense vector, a scalar; None without a dense head.
    """

    sid_loss: Tensor | None = None
    dense_loss: Tensor | None = None


class TextLinear(nn.Linear):
    """A linear map that is initialised as torch does it, not as the layers of the base class are."""


class TextVectorEncoder(nn.Module):
    """Maps frozen text vectors `[..., E]` to dense vectors: hidden layers of linear map, norm, ReLU with a shortcut.

    Args:
        config: widths and dropout.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        sizes = [config.text_dim, *config.text_hidden_sizes]
        self.input_dropout = nn.Dropout(config.text_dropout)
        self.layers = nn.ModuleList(TextLayer(inner, outer, config.text_dropout) for inner, outer in pairwise(sizes))
        self.output = TextLinear(sizes[-1], config.hidden_size)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return dense vectors, `[..., D]`."""
        hidden = self.input_dropout(vectors.to(self.output.weight.dtype))
        for layer in self.layers:
            hidden = layer(hidden)
        return self.output(hidden)


class TextLayer(nn.Module):
    """A hidden layer of `TextVectorEncoder`."""

    def __init__(self, inner: int, outer: int, dropout: float) -> None:
        super().__init__()
        self.linear = TextLinear(inner, outer)
        self.norm = nn.LayerNorm(outer)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = TextLinear(inner, outer, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[..., E]` to `[..., F]`."""
        return self.dropout(functional.relu(self.norm(self.linear(hidden)))) + self.shortcut(hidden)


class LightTextEncoder(nn.Module):
    """A small bidirectional Transformer over `[CLS] word word …`, the trainable encoder of the paper.

    Args:
        config: sizes, pooling and dropout.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.pooling = config.text_pooling
        self.words = nn.Embedding(config.text_vocab_size, width)
        self.positions = nn.Embedding(config.text_dim + 1, width)
        self.dropout = nn.Dropout(config.text_dropout)
        self.layers = nn.ModuleList(TextBlock(config) for _ in range(config.text_layers))
        self.norm = nn.LayerNorm(width)
        self.output = TextLinear(width, width)

    def forward(self, words: Tensor) -> Tensor:
        """Return dense vectors `[n, D]` of word ids `[n, T]`, 0 at padding."""
        words = functional.pad(words.long(), (1, 0), value=CLS_WORD)
        is_word = words > 0
        columns = torch.arange(words.shape[1], device=words.device)
        hidden = self.dropout(self.words(words) + self.positions(columns))
        for layer in self.layers:
            hidden = layer(hidden, is_word[:, None, None])
        hidden = self.norm(hidden)
        if self.pooling == "cls":
            return self.output(hidden[:, 0])
        share = is_word / is_word.sum(1, keepdim=True)
        return self.output((hidden * share[..., None]).sum(1))


class TextBlock(nn.Module):
    """A layer of `LightTextEncoder`: attention and feed-forward, normalised before each."""

    def __init__(self, config: CobraConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.query_key_value = TextLinear(width, 3 * width)
        self.merge = TextLinear(width, width)
        self.inner = TextLinear(width, 4 * width)
        self.outer = TextLinear(4 * width, width)
        self.dropout = nn.Dropout(config.text_dropout)

    def forward(self, hidden: Tensor, is_visible: Tensor) -> Tensor:
        """Map `[n, T, D]` to the same shape; `is_visible` is `[n, 1, 1, T]`."""
        mixed = self.query_key_value(self.attention_norm(hidden)).unflatten(-1, (3, self.heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # [n, heads, T, D / heads] each
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=is_visible)
        hidden = hidden + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        activated = functional.gelu(self.inner(self.feed_forward_norm(hidden)))
        return hidden + self.dropout(self.outer(activated))


@dataclass(frozen=True)
class BatchTable:
    """Dense vectors of the items of a batch, each computed once.

    Attributes:
        rows: catalog rows of the items, ascending, `[U]`.
        table: their dense vectors, `[U, D]`.
    """

    rows: Tensor
    table: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """Return the dense vectors of catalog rows, all of them among `self.rows`, `[..., D]`."""
        # not table[...]: with several threads its backward adds the gradients of an item in any order
        return functional.embedding(torch.searchsorted(self.rows, rows), self.table)


class CobraForCausalLM(LlamaForCausalLM):
    """Llama that generates the codes of the next item, and then its dense vector.

    In a batch an item has L + 1 tokens where dense vectors are an input, else L. The embedding of the last of L + 1 is
    replaced by the dense vector with an embedding of its type and one of the item's position; codes have tables of
    their own by level and rotary positions, so a generated code is embedded as in the base class. The rows of the
    language model head that belong to a level are its linear head.

    Args:
        config: sizes and objective.
    """

    config_class = CobraConfig
    config: CobraConfig
    decodes_like_base = True

    def __init__(self, config: CobraConfig) -> None:
        super().__init__(config)
        if config.reads_text:
            encoder = TextVectorEncoder if config.text_encoder == "vectors" else LightTextEncoder
            self.item_text = encoder(config)
            # the items are data: none of these is saved with the weights
            self.register_buffer("item_vectors", None, persistent=False)
            self.register_buffer("leaf_of", None, persistent=False)
            self.register_buffer("leaf_items", None, persistent=False)
        if config.use_text_input:
            self.dense_type = nn.Embedding(1, config.hidden_size)
            self.item_positions = nn.Embedding(config.max_items, config.hidden_size)
            self.dense_dropout = nn.Dropout(config.input_dropout)
        self.post_init()

    def attach_catalog(
        self, item_vectors: Tensor, codes: Tensor | None = None, is_trained: Tensor | None = None
    ) -> None:
        """Attach the items of training; nothing happens where the model reads no texts.

        Args:
            item_vectors: of the catalog, `[N, E]`: frozen text vectors or, for the light encoder, word ids.
            codes: of the catalog, `[N, L]`; needed where items of one leaf are negatives.
            is_trained: items with a click in training, bool `[N]`; all by default. The others are no negatives, which
                would teach that they are never right.
        """
        if not self.config.reads_text:
            return
        if item_vectors.ndim != 2 or item_vectors.shape[1] != self.config.text_dim:
            raise ValueError(
                f"expected texts [N, {self.config.text_dim}], one row per catalog row, got "
                f"{tuple(item_vectors.shape)}; give vectors of the encoder (or as many words) that the model is "
                "configured for"
            )
        device = self.item_text.output.weight.device
        self.item_vectors = item_vectors.to(device, torch.float32)
        if codes is not None:
            self.leaf_of = codes.unique(dim=0, return_inverse=True)[1].to(device)
            trained = torch.ones(len(codes), dtype=torch.bool) if is_trained is None else is_trained.cpu()
            self.leaf_items = trained.nonzero()[:, 0].to(device)

    @torch.no_grad()
    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the dense vectors of a catalog, `[N, D]`; compute them once for many requests.

        Args:
            item_vectors: as for `attach_catalog`, whose are taken by default.
        """
        vectors = self.item_vectors if item_vectors is None else item_vectors
        if vectors is None:
            raise ValueError("the model has no texts of items; pass item_vectors, or call attach_catalog")
        device = self.item_text.output.weight.device
        return torch.cat([self.item_text(part.to(device)) for part in vectors.split(ROWS_AT_ONCE)])

    def cosines(self, queries: Tensor, items: Tensor) -> Tensor:
        """Return the cosines of predicted dense vectors `[..., P, D]` and those of items `[..., N, D]`, fp32."""
        items = functional.normalize(items.float(), dim=-1)
        return functional.normalize(queries.float(), dim=-1) @ items.mT

    def embed_prompt(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        item_rows: Tensor | None = None,
        item_table: Tensor | None = None,
    ) -> Tensor:
        """Return embedded prompts, `[B, S, D]`: codes and, where they are an input, dense vectors.

        Args:
            input_ids: `[B, S]`.
            attention_mask: 1 at tokens, 0 at padding, `[B, S]`; all ones by default.
            item_rows: catalog row of every token, `[B, S]`, -1 where there is none; needed with dense inputs.
            item_table: of the catalog, `[N, D]`; by default made from what `attach_catalog` was given.
        """
        if not self.config.use_text_input:
            return self.get_input_embeddings()(input_ids)
        input_ids, item_rows = _with_items(input_ids, item_rows)
        positions = _positions(input_ids, attention_mask)
        rows = item_rows[self._is_dense(item_rows)]
        vectors = self._batch_table(rows).of(rows) if item_table is None else functional.embedding(rows, item_table)
        return self._embedded(input_ids, item_rows, positions, vectors)

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
        """Read users' items and predict the next one after each of them, by its codes and by its dense vector.

        The loss is (sum of the cross-entropies of the L codes + weight · dense loss) / L: the paper's up to a factor,
        and that of the base class where there is no dense loss.

        Args:
            input_ids: `[R, S]`, whole items.
            attention_mask: of the base class; `[R, 1, S, S]` where a row holds several users.
            position_ids: `[R, S]`, from 0 for every user.
            past_key_values: of earlier tokens; generated codes follow them.
            inputs_embeds: prompts that are embedded already, `[R, S, D]` (`embed_prompt`).
            labels: tokens to learn, `[R, S]`, -100 elsewhere; each is predicted one position earlier, as in the base
                class. Those of dense vectors are ignored.
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
        position_ids = _positions(input_ids, attention_mask) if position_ids is None else position_ids
        is_dense = self._is_dense(item_rows)
        is_query = None
        targets = None
        if self.config.has_dense_head and item_labels is not None:
            is_query = self._ends_codes(item_rows) & (item_labels >= 0)
            targets = item_labels[is_query]
        read = item_rows[is_dense]
        members = None if targets is None else self._leaf_members(targets)
        table = self._batch_table(torch.cat([part for part in (read, targets, members) if part is not None]))
        output = self.model(
            inputs_embeds=self._embedded(input_ids, item_rows, position_ids, table.of(read)),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        states = output.last_hidden_state
        logits = self.lm_head(states)
        sid_loss = None
        dense_loss = None
        total = kwargs.pop("num_items_in_batch", None)  # labels of all batches of a step; their losses are added up
        if labels is not None:
            codes = labels.masked_fill(is_dense, IGNORED_LABEL)
            if total is not None:  # the trainer counts the tokens of dense vectors as well
                kwargs["num_items_in_batch"] = total * self.config.num_levels / self.config.item_width
            sid_loss = self.loss_function(logits=logits, labels=codes, vocab_size=self.config.vocab_size, **kwargs)
        if is_query is not None and targets is not None:
            dense_loss = self._dense_loss(states[is_query], targets, _sequences(position_ids)[is_query], table, members)
            if total is not None:
                dense_loss = dense_loss * (len(targets) * self.config.item_width / total)
        return CobraOutput(
            loss=self._weighted(sid_loss, dense_loss),
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            sid_loss=sid_loss,
            dense_loss=dense_loss,
        )

    def _embedded(self, input_ids: Tensor, item_rows: Tensor, position_ids: Tensor, vectors: Tensor) -> Tensor:
        """Return the embedded input `[R, S, D]`, given the dense vectors of its items in order, `[items, D]`."""
        tokens = self.get_input_embeddings()(input_ids)
        if not self.config.use_text_input:
            return tokens
        is_dense = self._is_dense(item_rows)
        # what comes before the first item is shorter than an item, so this counts whole items
        items = position_ids[is_dense] // self.config.item_width - 1
        items = items.clamp(0, self.config.max_items - 1)
        dense = self.dense_dropout(vectors + self.dense_type.weight[0] + self.item_positions(items))
        return tokens.masked_scatter(is_dense[..., None], dense.to(tokens.dtype))

    def _item_order(self, item_rows: Tensor) -> Tensor:
        """Return which token of its item every token is, from 1, `[R, S]`; 0 for tokens of none.

        Rows hold whole items only.
        """
        is_item = item_rows >= 0
        return ((is_item.cumsum(1) - 1) % self.config.item_width + 1) * is_item

    def _is_dense(self, item_rows: Tensor) -> Tensor:
        """Return which tokens stand for a dense vector, bool `[R, S]`."""
        return self._item_order(item_rows) == self.config.num_levels + 1

    def _ends_codes(self, item_rows: Tensor) -> Tensor:
        """Return which tokens are the last code of an item, bool `[R, S]`."""
        return self._item_order(item_rows) == self.config.num_levels

    def _batch_table(self, rows: Tensor) -> BatchTable:
        """Return the dense vectors of the items at some catalog rows `[n]`, each computed once."""
        if self.item_vectors is None:
            raise ValueError("the model has no texts of items; call attach_catalog first")
        unique = rows.unique()  # ascending
        return BatchTable(unique, self.item_text(self.item_vectors[unique]))

    def _leaf_members(self, targets: Tensor) -> Tensor | None:
        """Return the items of training in the leaves of `targets` `[P]`; None where these are no negatives."""
        if not self.config.leaf_negatives:
            return None
        if self.leaf_of is None:
            raise ValueError("items of one leaf are negatives, and the model has no codes; pass them to attach_catalog")
        return self.leaf_items[torch.isin(self.leaf_of[self.leaf_items], self.leaf_of[targets])]

    def _dense_loss(
        self, queries: Tensor, targets: Tensor, users: Tensor, table: BatchTable, members: Tensor | None
    ) -> Tensor:
        """Return the mean InfoNCE of the dense vectors of the items `targets` `[P]`, given predictions `[P, D]`.

        The negatives of an item are the other targets of the batch, but for those that the configuration masks, and the
        other items of its leaf where `members` are given. An item without a negative has loss 0.

        Args:
            queries: predicted dense vectors.
            targets: catalog rows of the next items.
            users: number of the sequence of each, `[P]`.
            table: with the dense vectors of all items that are compared.
            members: items in the leaves of the targets, `[C]`.
        """
        if len(targets) == 0:
            return queries.sum() * 0.0
        with torch.autocast(queries.device.type, enabled=False):
            items, column = targets.unique(return_inverse=True)
            logits = functional.embedding(column, self._logits(queries, items, table).T).T  # [P, P]
            hidden = torch.zeros_like(logits, dtype=torch.bool)
            if self.config.mask_duplicates:
                hidden |= targets[:, None] == targets
            if self.config.mask_same_user:
                hidden |= users[:, None] == users
            if members is not None:
                leaves = self.leaf_of[targets][:, None]
                hidden |= leaves == self.leaf_of[targets]  # each stands once among the members
            hidden.fill_diagonal_(False)
            own = logits.diagonal()
            logits = logits.masked_fill(hidden, -torch.inf)
            if members is not None:
                is_other = (leaves == self.leaf_of[members]) & (targets[:, None] != members)
                of_leaf = self._logits(queries, members, table).masked_fill(~is_other, -torch.inf)  # [P, C]
                logits = torch.cat([logits, of_leaf], 1)
            return (logits.logsumexp(1) - own).mean()

    def _logits(self, queries: Tensor, items: Tensor, table: BatchTable) -> Tensor:
        """Return the cosines of queries `[P, D]` and items `[C]` over the temperature, `[P, C]`."""
        vectors = table.of(items)
        vectors = vectors.detach() if self.config.detach_targets else vectors
        return self.cosines(queries, vectors) / self.config.dense_temperature

    def _weighted(self, sid_loss: Tensor | None, dense_loss: Tensor | None) -> Tensor | None:
        if sid_loss is None or dense_loss is None:
            return sid_loss
        return sid_loss + self.config.dense_loss_weight / self.config.num_levels * dense_loss

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, TextLinear):
            super()._init_weights(module)
            return
        init.kaiming_uniform_(module.weight, a=5**0.5)  # as torch does it
        if module.bias is not None:
            init.zeros_(module.bias)


def _positions(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the positions of tokens in their rows, `[B, S]`, 0 at padding on the left."""
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return (attention_mask.cumsum(1) - 1).clamp_min(0)


def _sequences(position_ids: Tensor) -> Tensor:
    """Return a number for the sequence of every token, `[R, S]`; each begins at position 0, and each row anew."""
    rows = torch.arange(len(position_ids), device=position_ids.device)[:, None] * (position_ids.shape[1] + 1)
    return (position_ids == 0).cumsum(1) + rows


def _with_items(input_ids: Tensor | None, item_rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both; raise ValueError where one is missing, so that texts are never left out silently."""
    if input_ids is None or item_rows is None:
        raise ValueError(
            "a model that reads texts needs item_rows [B, S] beside input_ids, got "
            f"{'no input_ids' if input_ids is None else 'none'}; PromptBuilder.inputs_with_items gives both"
        )
    return input_ids, item_rows
