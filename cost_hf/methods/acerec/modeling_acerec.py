"""`AceRecModel`: histories of items → latents of their codes → codes of the next item, as a Transformers model.

arXiv 2602.13573. An item is m digits that do not depend on each other. A merger makes k latents of them, which an
attention with a block mask reads together with one intent token an item; the state of that token gives the
distributions of all m digits of the next item at once. The score of an item is the sum of the log-probabilities of its
digits, so the whole catalog is scored by looking digits up. Codes are data, not weights: they are an argument, and the
model scores whatever catalog it is given. `forward` is pure; positions count from the oldest item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from cost_hf.methods.sasrec.layers_sasrec import SasRecLayer, last_positions, recent_items

from .configuration_acerec import AceRecConfig
from .layers_acerec import AttentiveTokenMerger, TokenDecoder, block_mask, initialize_merger
from .objectives_acerec import alignment_losses, popularity_bias, reconstruction_loss

ITEMS_PER_CHUNK = 2048


@dataclass
class AceRecOutput(ModelOutput):
    """Output of an `AceRecModel`.

    Attributes:
        loss: weighted sum of the losses, a scalar; None without labels.
        token_loss: cross-entropy of a digit, mean over digits and labelled positions.
        alignment_loss: of states and summaries of next items; None where its weight is 0.
        reconstruction_loss: one minus the cosine of rebuilt tokens; None where its weight is 0.
        hidden_states: states after every item, fp32 `[B, T, D]`.
    """

    loss: Tensor | None = None
    token_loss: Tensor | None = None
    alignment_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    hidden_states: Tensor | None = None


@dataclass(frozen=True)
class _Items:
    """What a batch reads of the U different items in it.

    Attributes:
        rows: catalog rows, ascending, `[U]`.
        tokens: token ids of their digits, `[U, m]`.
        latents: `[U, k, D]`.
        summaries: `[U, D]`.
    """

    rows: Tensor
    tokens: Tensor
    latents: Tensor
    summaries: Tensor

    def places(self, rows: Tensor) -> Tensor:
        """Return where catalog rows stand here, in the shape of `rows`; 0 for negative ones."""
        return torch.searchsorted(self.rows, rows.contiguous())


class AceRecModel(PreTrainedModel):
    """ACERec: attentive merging of long codes, an intent token, and digits predicted in parallel.

    Args:
        config: sizes and losses.

    Examples:
        >>> import torch
        >>> from cost_hf.methods.acerec.configuration_acerec import AceRecConfig
        >>> from cost_hf.methods.acerec.modeling_acerec import AceRecModel
        >>> config = AceRecConfig(level_sizes=(4,) * 8, num_latents=2, hidden_size=16, intermediate_size=16)
        >>> model = AceRecModel(config).eval()
        >>> codes = torch.randint(4, (50, 8))  # of 50 items
        >>> model.scores(torch.tensor([[3, 1, 7], [9, -1, -1]]), model.item_tokens(codes)).shape
        torch.Size([2, 50])
    """

    config: AceRecConfig
    base_model_prefix = "acerec"
    main_input_name = "histories"
    _no_split_modules = ("SasRecLayer", "AttentiveTokenMerger", "TokenDecoder")

    def __init__(self, config: AceRecConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.tokens = nn.Embedding(config.num_tokens, width)
        self.merger = AttentiveTokenMerger(config)
        self.positions = nn.Embedding(config.max_history, width)
        self.places = nn.Embedding(config.block_size, width)  # within a block
        self.input_norm = nn.LayerNorm(width, eps=1e-6)
        self.layers = nn.ModuleList(SasRecLayer(config) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Linear(width, config.num_levels * width)
        self.decoder = TokenDecoder(config) if config.has_decoder else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        if isinstance(module, AttentiveTokenMerger):
            initialize_merger(module, std=self.config.initializer_range)

    def forward(
        self,
        histories: Tensor,
        item_tokens: Tensor,
        labels: Tensor | None = None,
        popularity: Tensor | None = None,
        label_weights: Tensor | None = None,
    ) -> AceRecOutput:
        """Read histories and predict the digits of the item after every position.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, -1 pads on the right; T at most `max_history`.
            item_tokens: of the catalog, as `item_tokens()` makes them of its codes, `[N, m]`.
            labels: the next rows, `[B, T]`, -100 where nothing is to be learned.
            popularity: training clicks of every item, `[N]`; without them, the alignment loss has no popularity bias.
            label_weights: factor of the losses of every label, `[B, T]`; 1 by default.
        """
        if labels is None:
            items = self._items(histories, item_tokens)
            return AceRecOutput(hidden_states=self._states(histories, items))
        items = self._items(torch.cat([histories, labels], dim=1), item_tokens)
        hidden = self._states(histories, items)
        is_label = labels >= 0
        weights = None if label_weights is None else label_weights[is_label]
        states = hidden[is_label]  # [P, D]
        targets = items.places(labels[is_label])  # [P]
        losses = {"token_loss": _mean(self._token_losses(states, items.tokens[targets]), weights)}
        loss = losses["token_loss"]
        if self.config.alignment_weight > 0:
            losses["alignment_loss"] = _mean(self._alignment_losses(states, items, targets, popularity), weights)
            loss = loss + self.config.alignment_weight * losses["alignment_loss"]
        if self.decoder is not None:
            tokens = functional.embedding(items.tokens, self.tokens.weight)
            losses["reconstruction_loss"] = reconstruction_loss(self.decoder(items.latents), tokens)
            loss = loss + self.config.reconstruction_weight * losses["reconstruction_loss"]
        return AceRecOutput(loss=loss, hidden_states=hidden, **losses)

    def item_tokens(self, codes: Tensor) -> Tensor:
        """Return the token ids of the digits of items, int32 `[N, m]` on the device of the model.

        Args:
            codes: integers `[N, m]`.

        Raises:
            ValueError: for another number of digits.
        """
        if codes.ndim != 2 or codes.shape[1] != self.config.num_levels:
            raise ValueError(
                f"expected codes [N, {self.config.num_levels}], one per digit, got shape {tuple(codes.shape)!r}; give "
                "those of the quantizer that the model was trained with"
            )
        return (codes + self._offsets(codes.device)).to(self.device, torch.int32)

    def read(self, histories: Tensor, item_tokens: Tensor) -> Tensor:
        """Return the states after every item of histories `[B, T]`, fp32 `[B, T, D]`; arguments as in `forward`."""
        return self._states(histories, self._items(histories, item_tokens))

    def log_probs(self, histories: Tensor, item_tokens: Tensor) -> Tensor:
        """Return the log-probabilities of all codes of the next item's digits, fp32 `[B, V]`.

        Those of a digit stand side by side and are normalised on their own; all are 0 for an empty history.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, -1 pads on the right; older than `max_history` ones are
                not read.
            item_tokens: of the catalog, `[N, m]`.
        """
        recent = recent_items(histories, self.config.max_history)
        states = last_positions(recent, self.read(recent, item_tokens))
        logits = self._digit_logits(states)
        found = torch.cat([digit.float().log_softmax(-1) for digit in logits], dim=1)
        return found.masked_fill((recent < 0).all(1)[:, None], 0.0)

    def scores(self, histories: Tensor, item_tokens: Tensor) -> Tensor:
        """Return log-probabilities of all items of the catalog, fp32 `[B, N]`: sums over digits, by look-up.

        Arguments are those of `log_probs`. An item's score does not depend on the other items.
        """
        return catalog_scores(self.log_probs(histories, item_tokens), item_tokens)

    def _items(self, rows: Tensor, item_tokens: Tensor) -> _Items:
        """Return the different items among catalog rows of any shape; negative rows are none."""
        known = rows[rows >= 0].unique()
        own = known if len(known) else rows.new_zeros(1)  # an item that nothing reads
        tokens = item_tokens[own]
        return _Items(own, tokens, *self.merger(self.tokens.weight, tokens))

    def _states(self, histories: Tensor, items: _Items) -> Tensor:
        length = histories.shape[1]
        block = (self.config.block_size, self.config.hidden_size)
        if length > self.config.max_history:
            raise ValueError(
                f"expected histories of at most max_history={self.config.max_history!r} items, got {length!r}; cut "
                "them at their old end"
            )
        # an item is one row here, so that it is gathered at once
        own = [items.latents.flatten(1), *([items.summaries] if self.config.use_intent_token else [])]
        blocks = functional.embedding(items.places(histories), torch.cat(own, dim=1))
        blocks = blocks.masked_fill((histories < 0)[..., None], 0.0).unflatten(-1, block)  # [B, T, k + 1, D]
        hidden = blocks + self.positions.weight[:length, None] + self.places.weight
        hidden = functional.dropout(self.input_norm(hidden.flatten(1, 2)), self.config.dropout, self.training)
        mask = block_mask(length, self.config, device=hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        last = hidden.unflatten(1, (length, self.config.block_size))[:, :, -1]
        return self.output_norm(last).float()

    def _digit_logits(self, states: Tensor) -> list[Tensor]:
        """Return the logits of every digit, `[P, K]` each, of fp32 states `[P, D]`."""
        shape = (self.config.num_levels, self.config.hidden_size)
        added = functional.silu(self.heads(states.to(self.heads.weight.dtype))).unflatten(-1, shape)
        own = states[:, None] + added  # [P, m, D]
        # cosines in fp32 for weights of any precision: the temperature would multiply what is rounded off
        table = functional.normalize(self.tokens.weight.float(), dim=-1).split(self.config.level_sizes)
        users = (functional.normalize(own, dim=-1) / self.config.token_temperature).unbind(1)
        return [user @ tokens.T for user, tokens in zip(users, table, strict=True)]

    def _token_losses(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the mean cross-entropy of the digits of states `[P, D]` whose next items have `tokens` `[P, m]`."""
        codes = (tokens - self._offsets(tokens.device)).long().unbind(1)
        losses = [
            functional.cross_entropy(logits, digit, reduction="none")
            for logits, digit in zip(self._digit_logits(states), codes, strict=True)
        ]
        return torch.stack(losses).mean(0)

    def _alignment_losses(self, states: Tensor, items: _Items, targets: Tensor, popularity: Tensor | None) -> Tensor:
        own, places, counts = targets.unique(return_inverse=True, return_counts=True)
        bias = torch.zeros((), device=states.device)
        if popularity is not None:
            bias = popularity_bias(popularity, self.config.popularity_weight)[items.rows[own]]
        return alignment_losses(
            states,
            items.summaries[own],
            places,
            counts=counts.float(),
            bias=bias,
            temperature=self.config.alignment_temperature,
        )

    def _offsets(self, device: torch.device) -> Tensor:
        """Return the first token of every level, `[m]`."""
        sizes = torch.tensor(self.config.level_sizes, device=device)
        return sizes.cumsum(0) - sizes


def catalog_scores(log_probs: Tensor, item_tokens: Tensor) -> Tensor:
    """Return the sums of the log-probabilities of the digits of items, `[B, N]`, by look-up.

    Args:
        log_probs: of all codes, `[B, V]`.
        item_tokens: of the catalog, `[N, m]`.
    """
    # a clone: with a batch of one, the transposed table counts as contiguous, with strides that make the look-up slow
    table = log_probs.T.clone(memory_format=torch.contiguous_format)  # [V, B]
    # sums are item-major; a few at a time are transposed while they are in the cache of a CPU
    size = ITEMS_PER_CHUNK if table.device.type == "cpu" else max(1, len(item_tokens))
    sums = [functional.embedding_bag(part, table, mode="sum").T for part in item_tokens.split(size)]
    return torch.cat(sums, dim=1)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of losses `[P]`, each times its weight."""
    return (losses if weights is None else losses * weights).mean()
