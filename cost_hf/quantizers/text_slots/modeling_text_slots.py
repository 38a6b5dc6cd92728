"""`TextSlotsModel`: codes of the states that a language model with LoRA has at slot tokens after an item's text.

The model reads `start, text, slot_1 … slot_S`; the states at the slots pass a linear bottleneck to z `[S, E]`, and
after `start` and a linear map of z, as a prefix, the same model has to write the text again. Codes are the nearest
centroids of the slots. It is one reading of STORE (arXiv 2409.07276v1), whose tokenizer is not published.

The language model is no part of the weights: they hold slots, bottleneck, LoRA and centroids, and the configuration
names the model and its digest. `attach_base` brings one that is in memory; otherwise it is loaded with the first text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from cost_hf.base_models import weights_digest
from cost_hf.quantizers.cost.layers_cost import constant_weight, full_precision
from cost_hf.quantizers.cost.modeling_base_cost import QuantizerPreTrainedModel
from cost_hf.quantizers.cost.residual_cost import squared_distances

from .configuration_text_slots import TextSlotsConfig
from .objectives_text_slots import dropped_words, views_loss, word_alignment_loss

ADAPTER = "tokenize"
TEXTS_PER_BATCH = 32
IGNORED = -100


@dataclass
class TextSlotsOutput(ModelOutput):
    """Output of a `TextSlotsModel` for texts.

    Attributes:
        loss: weighted sum of the terms; None where only vectors were encoded.
        reconstruction_loss: cross-entropy of the texts given their slots, a mean over tokens, natural logarithm.
        contrastive_loss: of two views; None where its weight is 0.
        alignment_loss: of slots and words; None where its weight is 0.
        slots: what the bottleneck keeps, slots side by side, `[B, S · E]`.
        codes: `[B, L]` int64, of vectors; None for texts in training.
    """

    loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    alignment_loss: Tensor | None = None
    slots: Tensor | None = None
    codes: Tensor | None = None


class SlotTokens(nn.Module):
    """Embeddings of the slot tokens, `[S, D]`."""

    def __init__(self, num_slots: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_slots, width))

    def forward(self, count: int) -> Tensor:
        """Return them for a number of texts, `[B, S, D]`."""
        return self.weight.expand(count, -1, -1)


class InnerWeights(nn.ParameterDict):
    """Matrices A of LoRA by layer, `[r, inputs]`."""


class OuterWeights(nn.ParameterDict):
    """Matrices B of LoRA by layer, `[outputs, r]`, which start at 0."""


class LowRankWeights(nn.Module):
    """LoRA (arXiv 2106.09685): the weights that the adapter's layers of a language model use."""

    def __init__(self, layers: Sequence[Sequence[Any]], rank: int) -> None:
        super().__init__()
        # names of parameters hold no dots
        names = [name.replace(".", "/") for name, _, _ in layers]
        self.inner = InnerWeights(
            {key: nn.Parameter(torch.empty(rank, inputs)) for key, (_, inputs, _) in zip(names, layers, strict=True)}
        )
        self.outer = OuterWeights(
            {key: nn.Parameter(torch.empty(outputs, rank)) for key, (_, _, outputs) in zip(names, layers, strict=True)}
        )

    def install(self, base: PreTrainedModel) -> None:
        """Make the adapter's layers of a model use these very weights."""
        for key in self.inner:
            layer = base.get_submodule(key.replace("/", "."))
            layer.lora_A[ADAPTER].weight = self.inner[key]
            layer.lora_B[ADAPTER].weight = self.outer[key]


class Centroids(nn.ParameterList):
    """Code vectors of every level, `[K, E]` or `[K, S · E]`; no gradient step changes them."""


class TextSlotsPreTrainedModel(QuantizerPreTrainedModel):
    """Weight initialisation and loading rules."""

    config: TextSlotsConfig
    base_model_prefix = "text_slots"
    main_input_name = "input_ids"
    # argmin over distances is decided by small differences: codes must not change with the precision of the model
    _keep_in_fp32_modules_strict = ("slot_tokens", "bottleneck", "prefix", "adapter", "centroids")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SlotTokens):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, InnerWeights):
            for weight in module.values():
                init.normal_(weight, std=weight.shape[1] ** -0.5)
        elif isinstance(module, OuterWeights):
            for weight in module.values():
                init.zeros_(weight)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, Centroids):
            for weight in module:
                init.normal_(weight, std=self.config.code_dim**-0.5)


class TextSlotsModel(TextSlotsPreTrainedModel):
    """Quantizer of item texts by slot tokens of a language model (STORE-style).

    Args:
        config: sizes, loss weights and the language model.
    """

    reads_texts = True

    def __init__(self, config: TextSlotsConfig) -> None:
        super().__init__(config)
        self.slot_tokens = SlotTokens(config.num_slots, config.hidden_size)
        self.bottleneck = nn.Linear(config.hidden_size, config.slot_dim)
        self.prefix = nn.Linear(config.slot_dim, config.hidden_size)
        self.adapter = LowRankWeights(config.adapter_layers, config.adapter_rank)
        self.centroids = Centroids(constant_weight(size, config.code_dim) for size in config.level_sizes)
        self.__dict__["_base"] = None  # no module of this one: it is not saved with it
        self.__dict__["_tokenizer"] = None
        self.post_init()

    @property
    def has_parallel_levels(self) -> bool:
        """Whether levels do not depend on each other."""
        return self.config.clustering == "parallel"

    @property
    def base_digest(self) -> str:
        """Digest of the weights of the language model."""
        return self.config.base_digest

    @property
    def base_name(self) -> str:
        """Hub id or directory of the language model."""
        return self.config.base_name

    @property
    def base(self) -> PreTrainedModel:
        """The language model with the adapter; it is loaded where none is attached.

        Raises:
            OSError: where it can't be loaded.
            ValueError: where its weights are others than in training; both digests are named.
        """
        if self._base is None:
            base = self._loaded(AutoModelForCausalLM, dtype=torch.float32)
            found = weights_digest(base)
            if found != self.config.base_digest:
                raise ValueError(
                    f"the quantizer was trained on {self.config.base_name!r} with digest {self.config.base_digest}, "
                    f"and that model now has {found}; restore the revision that it was trained on"
                )
            self.attach_base(base.to(self.device))
        return self._base

    @property
    def tokenizer(self) -> Any:
        """Tokenizer of the language model as it was pretrained; raises as `base` where it can't be loaded."""
        if self._tokenizer is None:
            self.__dict__["_tokenizer"] = self._loaded(AutoTokenizer)
        return self._tokenizer

    def attach_base(self, base: PreTrainedModel) -> None:
        """Read texts by this language model, whose weights must be those of `config.base_digest`.

        Its modules get the adapter of this quantizer, and its weights are frozen.
        """
        from peft import LoraConfig, inject_adapter_in_model

        config = self.config
        settings = LoraConfig(
            r=config.adapter_rank,
            lora_alpha=2 * config.adapter_rank,
            target_modules=[name for name, _, _ in config.adapter_layers],
            fan_in_fan_out=not isinstance(_linear_of(base, config.adapter_layers), nn.Linear),
        )
        inject_adapter_in_model(settings, base, adapter_name=ADAPTER)
        base.requires_grad_(False)
        self.adapter.install(base)
        self.to(base.device)  # never the other way round: the weights may be those of a generator
        self.__dict__["_base"] = base.eval()

    def release_base(self) -> None:
        """Forget the language model; it is loaded again with the next text."""
        self.__dict__["_base"] = None

    def forward(
        self,
        item_embeddings: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> ModelOutput:
        """Return the loss of texts, or the codes of what was read in texts.

        Args:
            item_embeddings: slots side by side, `[B, S · E]`, in place of texts.
            input_ids: tokens of texts, `[B, T]`, padded on the right.
            attention_mask: 1 at tokens, 0 at padding, `[B, T]`.
        """
        if input_ids is None:
            if item_embeddings is None:
                raise ValueError("expected input_ids of texts, or item_embeddings, got neither; pass one of them")
            return TextSlotsOutput(codes=self.encode(item_embeddings))
        config = self.config
        is_word = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        slots = self._read(input_ids, is_word)  # [B, S, E]
        prefixes = self.prefix(slots)
        terms: dict[str, Tensor] = {}
        if config.reconstruction_weight:
            losses, counts = self._rebuild(prefixes, input_ids, is_word)
            terms["reconstruction_loss"] = losses.sum() / counts.sum()
        if config.contrastive_weight:
            view = self._read(input_ids, dropped_words(is_word, config.view_dropout))
            terms["contrastive_loss"] = views_loss(slots.flatten(1), view.flatten(1), temperature=config.temperature)
        if config.alignment_weight:
            words = self.base.get_input_embeddings()(input_ids)
            terms["alignment_loss"] = word_alignment_loss(prefixes, words, is_word)
        weights = {name: getattr(config, name.replace("_loss", "_weight")) for name in terms}
        loss = sum((weights[name] * term for name, term in terms.items()), start=slots.new_zeros(()))
        return TextSlotsOutput(loss=loss, slots=slots.flatten(1), **terms)

    def encode(self, item_embeddings: Tensor | Sequence[str]) -> Tensor:
        """Return the codes of texts, or of what `embed_texts` made of them; two items may have the same ones.

        Args:
            item_embeddings: N texts, or slots side by side `[N, S · E]`.

        Returns:
            int64 `[N, L]`.
        """
        if not isinstance(item_embeddings, Tensor):
            item_embeddings = self.embed_texts(item_embeddings)
        return super().encode(item_embeddings)

    @torch.no_grad()
    def match_embeddings(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Scale the map of slots to embeddings, so that prefixes have the root mean square of embeddings of words.

        Layers of a pretrained model add little to a prefix that is many times larger, which is then learned slowly.

        Args:
            input_ids: tokens of some texts, `[B, T]`, padded on the right.
            attention_mask: 1 at tokens, 0 at padding, `[B, T]`.
        """
        ids = input_ids.to(self.device)
        is_word = attention_mask.to(self.device)
        with full_precision(self.device):
            prefixes = self.prefix(self._read(ids, is_word)).float()
        words = self.base.get_input_embeddings()(ids)[is_word.bool()].float()
        ratio = (words.square().mean() / prefixes.square().mean()).sqrt()
        for weight in self.prefix.parameters():
            weight.mul_(ratio)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return what the bottleneck keeps of texts, slots side by side, fp32 `[N, S · E]` on the CPU.

        Texts of similar length are read together, in eval mode.
        """
        tokens = self.tokenized(texts)
        order = sorted(range(len(tokens)), key=lambda row: (len(tokens[row]), row))
        found = torch.empty(len(tokens), self.config.item_dim)
        for start in range(0, len(order), TEXTS_PER_BATCH):
            rows = order[start : start + TEXTS_PER_BATCH]
            batch = padded([tokens[row] for row in rows])
            with full_precision(self.device):
                read = self._read(batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device))
            found[rows] = read.flatten(1).float().cpu()
        return found

    def tokenized(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the first `max_tokens` tokens of every text, without special tokens at its ends.

        Raises:
            ValueError: for one string in place of a list, and for a text without tokens.
        """
        if isinstance(texts, str):
            raise ValueError(f"expected a list of texts, got the string {texts!r:.80}; pass it in a list")
        if not len(texts):
            return []
        ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        empty = [row for row, own in enumerate(ids) if not own]
        if empty:
            raise ValueError(f"text {empty[0]} has no tokens, got {texts[empty[0]]!r:.80}; give every item a text")
        return [own[: self.config.max_tokens] for own in ids]

    @torch.no_grad()
    def token_losses(self, slots: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the mean cross-entropy of the tokens of each text given slots `[N, S · E]`, fp32 `[N]`.

        Logarithms are natural. The end of a text counts as a token, except where it was cut.
        """
        tokens = self.tokenized(texts)
        found = []
        for start in range(0, len(tokens), TEXTS_PER_BATCH):
            batch = padded(tokens[start : start + TEXTS_PER_BATCH])
            ids, is_word = (batch[name].to(self.device) for name in ("input_ids", "attention_mask"))
            with full_precision(self.device):
                given = slots[start : start + len(ids)].to(self.device)
                losses, counts = self._rebuild(self._prefixes(given), ids, is_word)
            found.append((losses / counts).float().cpu())
        return torch.cat(found) if found else torch.empty(0)

    @torch.no_grad()
    def write_texts(self, slots: Tensor, *, max_tokens: int | None = None) -> list[str]:
        """Return the texts that the model writes of slots `[N, S · E]`, greedily."""
        most = self.config.max_tokens if max_tokens is None else max_tokens
        written: list[str] = []
        for part in slots.split(TEXTS_PER_BATCH):
            with full_precision(self.device):
                written += self._texts_of(self._written(self._prefixes(part.to(self.device)), most))
        return written

    @torch.no_grad()
    def quantized(self, codes: Tensor) -> Tensor:
        """Return the slots that codes `[N, L]` stand for, side by side, `[N, S · E]`."""
        self._check_codes(codes, least=len(self.level_sizes))
        chosen = [vectors[column] for vectors, column in zip(self.centroids, codes.unbind(1), strict=True)]
        return torch.cat(chosen, 1) if self.has_parallel_levels else torch.stack(chosen).sum(0)

    @torch.no_grad()
    def token_vectors(self, level: int) -> Tensor:
        """Return the code vectors of a level in the space of the language model's embeddings, `[K, D]`.

        Of codes over all slots it is the mean over the slots.
        """
        vectors = self.level_vectors(level)
        slots = vectors.unflatten(1, (-1, self.config.slot_dim))
        return self.prefix(slots).mean(1)

    def level_vectors(self, level: int) -> Tensor:
        """Return the centroids of a level, `[K, E]`, or `[K, S · E]` with residual clustering."""
        self._check_level(level)
        return self.centroids[level]

    @torch.no_grad()
    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return squared distances of slots to the centroids of a level.

        Args:
            item_embeddings: slots side by side, `[N, S · E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < L`; of parallel levels they do not matter.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        self._check_prefix(prefix, len(item_embeddings))
        level = prefix.shape[1]
        items = self._checked(item_embeddings).float()
        if self.has_parallel_levels:
            items = items.split(self.config.slot_dim, dim=1)[level]
        else:
            for vectors, column in zip(self.centroids, prefix.unbind(1), strict=False):
                items = items - vectors[column]
        return squared_distances(items, self.centroids[level])

    @torch.no_grad()
    def replace_centroids(self, levels: Sequence[Tensor]) -> None:
        """Overwrite the centroids `[K, E]` (or `[K, S · E]`) of all levels, in place."""
        expected = [tuple(weight.shape) for weight in self.centroids]
        if [tuple(weight.shape) for weight in levels] != expected:
            raise ValueError(f"expected centroids of the shapes {expected!r}, got {[tuple(w.shape) for w in levels]!r}")
        for weight, value in zip(self.centroids, levels, strict=True):
            weight.copy_(value)

    def _codes(self, items: Tensor) -> Tensor:
        codes = torch.empty(len(items), 0, dtype=torch.long, device=items.device)
        while codes.shape[1] < len(self.level_sizes):
            codes = torch.cat([codes, self.level_distances(items, codes).argmin(1, keepdim=True)], 1)
        return codes

    def _read(self, input_ids: Tensor, is_word: Tensor) -> Tensor:
        """Return what the bottleneck keeps of the states at the slots, `[B, S, E]`; words with mark 0 are not seen."""
        slots = self.slot_tokens(len(input_ids))
        words = self.base.get_input_embeddings()(input_ids)
        embeds = self._after_start(torch.cat([words, slots.to(words.dtype)], 1))
        seen = is_word.new_ones(1, 1).expand(len(is_word), -1)
        mask = torch.cat([seen, is_word, seen.expand(-1, slots.shape[1])], 1)
        states = self._states(embeds, mask)[:, -slots.shape[1] :]
        return self.bottleneck(states.to(self.bottleneck.weight.dtype))

    def _rebuild(self, prefixes: Tensor, input_ids: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of texts given their prefixes `[B, S, D]`, summed over tokens, and their number.

        Both are `[B]`.
        """
        words = self.base.get_input_embeddings()(input_ids)
        embeds = self._after_start(torch.cat([prefixes.to(words.dtype), words], 1))
        mask = torch.cat([is_word.new_ones(len(is_word), 1 + prefixes.shape[1]), is_word], 1)
        states = self._states(embeds, mask)[:, prefixes.shape[1] :]
        lengths = is_word.sum(1)
        labels = functional.pad(input_ids.masked_fill(is_word == 0, IGNORED), (0, 1), value=IGNORED)
        is_whole = lengths < self.config.max_tokens  # the end of a text that was cut is not known
        labels[is_whole, lengths[is_whole]] = self._end_id
        logits = self._logits(states).float()
        losses = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(labels)
        return losses.sum(1), (labels != IGNORED).sum(1)

    def _written(self, embeds: Tensor, most: int) -> Tensor:
        """Return the likeliest tokens after prefixes `[B, S, D]`, one after the other, `[B, T]`."""
        ids = torch.empty(len(embeds), 0, dtype=torch.long, device=self.device)
        embeds = self._after_start(embeds)
        cache = None
        while ids.shape[1] < most and not bool((ids == self._end_id).any(1).all()):
            output = self.base.base_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            chosen = self._logits(output.last_hidden_state[:, -1:]).argmax(-1)
            ids = torch.cat([ids, chosen], 1)
            embeds = self.base.get_input_embeddings()(chosen)
        return ids

    def _after_start(self, embeds: Tensor) -> Tensor:
        """Return embeddings `[B, T, D]` behind that of the start token, `[B, 1 + T, D]`.

        The first token of a pretrained model is an attention sink, whatever it is.
        """
        start = torch.full((len(embeds), 1), self._start_id, device=embeds.device)
        return torch.cat([self.base.get_input_embeddings()(start).to(embeds.dtype), embeds], 1)

    def _prefixes(self, slots: Tensor) -> Tensor:
        return self.prefix(self._checked(slots).unflatten(1, (self.config.num_slots, -1)))

    def _states(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states, `[B, T, D]`; positions count the tokens that are seen."""
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        output = self.base.base_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        )
        return output.last_hidden_state

    def _logits(self, states: Tensor) -> Tensor:
        """Return the logits of the tokens that the model was pretrained with."""
        return self.base.get_output_embeddings()(states)[..., : self.config.vocab_size]

    def _loaded(self, auto: Any, **options: Any) -> Any:
        """Load model or tokenizer of the language model by its Auto class."""
        config = self.config
        try:
            return auto.from_pretrained(config.base_name, revision=config.base_revision, **options)
        except (OSError, HFValidationError) as error:  # the second one for a directory that is gone
            raise OSError(
                f"the codes of texts are made by {config.base_name!r}, which can't be loaded; restore that model, or "
                "pass codes of new items"
            ) from error

    @property
    def _start_id(self) -> int:
        start = self.tokenizer.bos_token_id
        return self._end_id if start is None else start

    @property
    def _end_id(self) -> int:
        return self.tokenizer.eos_token_id

    def _texts_of(self, ids: Tensor) -> list[str]:
        rows = []
        for own in ids.tolist():
            end = own.index(self._end_id) if self._end_id in own else len(own)
            rows.append(self.tokenizer.decode(own[:end], skip_special_tokens=True).strip())
        return rows

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move or cast the language model along with the weights of this one."""
        if self.__dict__.get("_base") is not None:
            self._base._apply(fn, recurse)
        return super()._apply(fn, recurse)


def padded(tokens: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return token ids `[B, T]`, padded on the right, with their mask; the id of padding does not matter."""
    width = max(map(len, tokens))
    ids = torch.zeros(len(tokens), width, dtype=torch.long)
    mask = torch.zeros(len(tokens), width, dtype=torch.long)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _linear_of(base: PreTrainedModel, layers: Sequence[Sequence[Any]]) -> nn.Module:
    """Return the first adapted layer: GPT-2 has transposed ones, of a class of its own."""
    layer = base.get_submodule(layers[0][0])
    return getattr(layer, "base_layer", layer)
