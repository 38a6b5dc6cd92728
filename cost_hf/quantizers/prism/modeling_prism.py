"""`PrismModel`: content and gated collaborative vector → residual quantizer → both vectors, as a Transformers model.

The quantizer of PRISM (arXiv 2601.16556). With content c, collaborative b and popularity p of an item: gate
`g = sigmoid(MLP(b))`, latent `z = encoder(LayerNorm([c; g * b]))`, reconstructions of c and `g * b` from the quantized
latent. Popularity and tags are read in training alone. `forward` is pure, as that of `CostModel`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from cost_hf.quantizers.cost.layers_cost import full_precision
from cost_hf.quantizers.cost.modeling_cost import CostModel
from cost_hf.quantizers.cost.objectives_cost import codebook_loss, commitment_loss
from cost_hf.quantizers.cost.residual_cost import QuantizedLatents, ResidualQuantizer

from .configuration_prism import PrismConfig
from .layers_prism import AveragedQuantizer, CollaborativeGate, DualDecoder, FusionEncoder, TagHeads
from .objectives_prism import anchor_loss, balance_loss, cosine_loss, gate_loss, tag_loss


@dataclass
class PrismOutput(ModelOutput):
    """Output of `PrismModel`. A term whose weight is 0, or whose input is missing, stays None.

    Attributes:
        loss: weighted sum of the terms, a scalar.
        content_loss: one minus the cosine of content vector and reconstruction.
        collaborative_loss: the same of the gated collaborative vector, which is a constant here.
        codebook_loss: distance of code vectors to residuals.
        commitment_loss: distance of residuals to code vectors.
        gate_loss: of the gate as a measure of popularity.
        tag_loss: cross-entropy of tags from codes.
        anchor_loss: distance of tags to code vectors.
        balance_loss: similarity and unequal usage of code vectors.
        codes: `[B, L]` int64.
        reconstruction: of the normalised content vectors, `[B, E]`.
        latents: z, `[B, D]`.
        gates: g, `[B, C]`; None in a model of content alone.
    """

    loss: Tensor | None = None
    content_loss: Tensor | None = None
    collaborative_loss: Tensor | None = None
    codebook_loss: Tensor | None = None
    commitment_loss: Tensor | None = None
    gate_loss: Tensor | None = None
    tag_loss: Tensor | None = None
    anchor_loss: Tensor | None = None
    balance_loss: Tensor | None = None
    codes: Tensor | None = None
    reconstruction: Tensor | None = None
    latents: Tensor | None = None
    gates: Tensor | None = None


class PrismModel(CostModel):
    """Residual quantizer of content and gated collaborative vectors with tag supervision (PRISM).

    Methods that take `item_embeddings` take content vectors `[N, E]`, for items without collaborative vector, such as
    new ones, or both side by side `[N, E + C]`; a collaborative row of zeros is an item without one. The scale of
    collaborative vectors is that of the training.

    Args:
        config: sizes and loss weights.
    """

    config: PrismConfig
    encoder: FusionEncoder  # type: ignore[assignment]
    decoder: DualDecoder  # type: ignore[assignment]
    base_model_prefix = "prism"

    @property
    def reads_more(self) -> bool:
        """Whether items are encoded by collaborative vectors, too, which new items and new texts come without."""
        return self.config.collaborative_dim > 0

    def _build_layers(self, config: PrismConfig) -> None:
        if config.collaborative_dim:
            self.gate = CollaborativeGate(config.collaborative_dim)
        self.encoder = FusionEncoder(config)
        is_averaged = config.codebook_update == "ema"
        self.quantizer = AveragedQuantizer(config) if is_averaged else ResidualQuantizer(config)
        self.decoder = DualDecoder(config)
        if config.tag_weight or config.anchor_weight:
            self.tag_heads = TagHeads(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CollaborativeGate):
            init.ones_(module.scale)
        elif isinstance(module, AveragedQuantizer):
            # as if each code had been chosen once; its vector would jump to 0 otherwise
            init.ones_(module.counts)
            init.copy_(module.sums, torch.cat(list(module.codebooks)))

    def forward(  # type: ignore[override]
        self,
        item_embeddings: Tensor,
        popularity: Tensor | None = None,
        tags: Tensor | None = None,
        tag_vectors: Sequence[Tensor] | None = None,
        term_factors: Mapping[str, float] | None = None,
        return_loss: bool = True,
    ) -> PrismOutput:
        """Quantize and reconstruct items `[B, E]` or `[B, E + C]`.

        Args:
            item_embeddings: content vectors, alone or with collaborative vectors beside them.
            popularity: of the items, in [0, 1], `[B]`; without it there is no gate term.
            tags: of the items, int64 `[B, T]`, from broad to narrow, -1 for none; without them there is no tag term.
            tag_vectors: content vectors of the tags of every level, `[tags, E]` each; without them, no anchor term.
            term_factors: factors of the weights of terms by name (`tag`, `anchor`, …), 1 by default: a curriculum.
            return_loss: whether terms are computed.
        """
        content, gates, gated, is_known = self._split(item_embeddings)
        latents = self.encoder(self._fused(content, gated)).float()
        quantized = self.quantizer(latents)
        passed = latents + (quantized.quantized - latents).detach()
        collaborative = None
        if return_loss and self.config.collaborative_weight:
            reconstruction, collaborative = (part.float() for part in self.decoder.both(passed))
        else:
            reconstruction = self.decoder(passed).float()
        terms: dict[str, Tensor] = {}
        if return_loss:
            with full_precision(content.device):
                terms |= self._code_terms(quantized, tags, tag_vectors)
                if self.config.content_weight:
                    terms["content"] = cosine_loss(content, reconstruction)
                if collaborative is not None and gated is not None:
                    # a constant: with gradient, the smallest gate would be the best reconstructed one
                    terms["collaborative"] = cosine_loss(gated.detach(), collaborative)
                if self.config.gate_weight and popularity is not None and gates is not None:
                    terms["gate"] = gate_loss(
                        gates,
                        popularity,
                        is_known,
                        spread=self.config.gate_spread,
                        spread_weight=self.config.gate_spread_weight,
                        gathers=self.training,
                    )
        factors = term_factors or {}
        weighted = (
            factors.get(name, 1.0) * getattr(self.config, f"{name}_weight") * term for name, term in terms.items()
        )
        return PrismOutput(
            loss=sum(weighted, start=latents.new_zeros(())) if return_loss else None,
            **{f"{name}_loss": term for name, term in terms.items()},
            codes=quantized.codes,
            reconstruction=reconstruction,
            latents=latents,
            gates=gates,
        )

    def embed(self, item_embeddings: Tensor) -> Tensor:
        """Return latents z, fp32 `[N, D]`, of `[N, E]` or `[N, E + C]`."""
        content, _, gated, _ = self._split(item_embeddings)
        return self.encoder(self._fused(content, gated)).float()

    def gate_values(self, item_embeddings: Tensor) -> Tensor:
        """Return the gates g, fp32 `[N, C]`, of items `[N, E + C]`."""
        _, gates, _, _ = self._split(item_embeddings)
        if gates is None:
            raise ValueError("a model of content alone has no gates; train one with collaborative_dim above 0")
        return gates

    @torch.no_grad()
    def fit_statistics(self, item_embeddings: Tensor) -> None:
        """Set the statistics of `input_norm`, and the scale that makes the mean collaborative length of items 1."""
        width = self.config.item_dim
        super().fit_statistics(item_embeddings[:, :width])
        if item_embeddings.shape[1] == width or not self.config.collaborative_dim:
            return
        lengths = self._checked(item_embeddings)[:, width:].float().norm(dim=1)
        known = lengths[lengths > 0]
        if len(known):
            self.gate.scale.copy_(1 / known.mean())

    def _code_terms(
        self, quantized: QuantizedLatents, tags: Tensor | None, tag_vectors: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """Return the unweighted terms of codes and code vectors whose weight is not 0."""
        config = self.config
        terms = {}
        levels = range(config.num_levels)
        if config.codebook_weight:
            terms["codebook"] = codebook_loss(quantized.residuals, quantized.vectors, reduction=config.reduction)
        if config.commitment_weight:
            terms["commitment"] = commitment_loss(quantized.residuals, quantized.vectors, reduction=config.reduction)
        if config.tag_weight and tags is not None:
            terms["tag"] = tag_loss(self.tag_heads.logits(quantized), tags)
        if config.anchor_weight and tag_vectors is not None:
            pairs = zip(self.tag_heads.projections, tag_vectors, strict=False)
            parts = [
                anchor_loss(head(vectors), self.level_vectors(level)) for level, (head, vectors) in enumerate(pairs)
            ]
            terms["anchor"] = torch.stack(parts).mean()
        if config.balance_weight:
            parts = [
                balance_loss(quantized.residuals[:, level], quantized.codes[:, level], self.level_vectors(level))
                for level in levels
            ]
            terms["balance"] = torch.stack(parts).mean()
        return terms

    def _split(self, item_embeddings: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Return normalised content `[N, E]`, gates and gated vectors `[N, C]`, and which items have such a vector."""
        rows = self._checked(item_embeddings)
        content = self.input_norm(rows[:, : self.config.item_dim])
        if not self.config.collaborative_dim:
            return content, None, None, torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        collaborative = rows[:, self.config.item_dim :]
        if not collaborative.shape[1]:
            collaborative = rows.new_zeros(len(rows), self.config.collaborative_dim)
        gates, gated = self.gate(collaborative)
        return content, gates, gated, collaborative.any(1)

    def _fused(self, content: Tensor, gated: Tensor | None) -> Tensor:
        return content if gated is None else torch.cat([content, gated], 1)

    def _checked(self, item_embeddings: Tensor) -> Tensor:
        widths = [self.config.item_dim, self.config.item_dim + self.config.collaborative_dim]
        if item_embeddings.ndim != 2 or item_embeddings.shape[1] not in widths:
            raise ValueError(
                f"item_embeddings must be content vectors [items, {widths[0]}], or with collaborative ones beside them "
                f"[items, {widths[1]}], got shape {tuple(item_embeddings.shape)!r}; use the encoders that the "
                "quantizer was fitted with"
            )
        return item_embeddings
