"""`CostModel`: item vector → encoder → residual quantizer → decoder, as a Transformers model.

`forward` is pure: it writes no buffer and initialises nothing, because Transformers builds models on the meta device
and loads weights after `__init__`. State changes are named methods (`fit_statistics`, `quantizer.replace_codes`) that
training code calls. Equations: arXiv 2404.14774; `x_hat = D(z + sg(z_hat - z))` passes gradients straight through.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_cost import CostConfig
from .layers_cost import InputNorm, Mlp, full_precision
from .modeling_base_cost import QuantizerPreTrainedModel
from .objectives_cost import codebook_loss, commitment_loss, contrastive_loss, reconstruction_loss
from .pipeline_cost import SemanticIdPipeline
from .residual_cost import QuantizedLatents, ResidualQuantizer, squared_distances

# the pipeline among them: where the package is not installed, a model is saved with the files that this one imports
__all__ = ["CostModel", "CostOutput", "CostPreTrainedModel", "SemanticIdPipeline"]


@dataclass
class CostOutput(ModelOutput):
    """Output of `CostModel`. A term whose weight is 0 is not computed and stays None.

    Attributes:
        loss: weighted sum of the terms, a scalar.
        contrastive_loss: unweighted in-batch contrastive term.
        reconstruction_loss: unweighted squared error of x_hat.
        codebook_loss: unweighted distance of code vectors to residuals.
        commitment_loss: unweighted distance of residuals to code vectors.
        codes: `[B, L]` int64.
        reconstruction: x_hat in the space of the normalised item vectors, `[B, E]`.
        latents: z, `[B, D]`.

    Examples:
        >>> import torch
        >>> from cost_hf import CostConfig, CostModel
        >>> model = CostModel(CostConfig(item_dim=8, latent_dim=4, hidden_sizes=(6,), level_sizes=(4, 4)))
        >>> output = model(torch.randn(5, 8))
        >>> output.codes.shape, output.reconstruction_loss is None
        (torch.Size([5, 2]), True)
    """

    loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    codebook_loss: Tensor | None = None
    commitment_loss: Tensor | None = None
    codes: Tensor | None = None
    reconstruction: Tensor | None = None
    latents: Tensor | None = None


class CostPreTrainedModel(QuantizerPreTrainedModel):
    """Weight initialisation and loading rules shared by models of this family."""

    config: CostConfig
    base_model_prefix = "cost"
    _no_split_modules = ("ResidualQuantizer",)
    # argmin over distances is decided by small differences: codes must not change with the precision of the layers
    _keep_in_fp32_modules_strict = ("quantizer", "input_norm")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.ParameterList):
            # the list, not the quantizer: outside Transformers a module that owns no weight directly is never visited
            for codebook in module:
                init.uniform_(codebook, -1 / len(codebook), 1 / len(codebook))


class CostModel(CostPreTrainedModel):
    """Residual quantizer for semantic IDs (RQ-VAE family); contrastive CoST loss by default.

    Args:
        config: sizes and loss weights.

    Examples:
        >>> import torch
        >>> from cost_hf import CostConfig, CostModel
        >>> model = CostModel(CostConfig(item_dim=16, hidden_sizes=(32,), latent_dim=8, level_sizes=(4, 4, 4)))
        >>> model.encode(torch.randn(10, 16)).shape
        torch.Size([10, 3])
    """

    def __init__(self, config: CostConfig) -> None:
        super().__init__(config)
        self.input_norm = InputNorm(config.input_norm, config.item_dim)
        self._build_layers(config)
        self.post_init()

    def _build_layers(self, config: CostConfig) -> None:
        """Set encoder, quantizer and decoder; a model of the family with other layers overrides this."""
        widths = [config.item_dim]
        if config.hidden_sizes is not None:
            widths += [*config.hidden_sizes, config.latent_dim]
        self.encoder = Mlp(widths)
        self.quantizer = ResidualQuantizer(config)
        self.decoder = Mlp(widths[::-1])

    def forward(self, item_embeddings: Tensor, return_loss: bool = True, positives: Tensor | None = None) -> CostOutput:
        """Quantize and reconstruct item vectors `[B, E]`.

        In training mode the contrastive candidates, and the items over which `sinkhorn_epsilon` balances the last
        level, are those of all processes of a distributed run, which must then call at the same time with equally many
        rows.

        Args:
            item_embeddings: item vectors.
            return_loss: whether loss terms are computed.
            positives: shares of other items of the batch in the target of the contrastive term, `[B, C]`.
        """
        items = self._normalised(item_embeddings)
        latents = self.encoder(items).float()
        quantized = self.quantizer(latents, sinkhorn_epsilon=self.config.sinkhorn_epsilon if self.training else 0.0)
        passed = latents + (quantized.quantized - latents).detach()
        reconstruction = self.decoder(passed).float()
        with full_precision(items.device):
            terms = self._loss_terms(items, reconstruction, quantized, positives) if return_loss else {}
        weighted = (getattr(self.config, f"{name}_weight") * term for name, term in terms.items())
        return CostOutput(
            loss=sum(weighted, start=items.new_zeros(())) if return_loss else None,
            **{f"{name}_loss": term for name, term in terms.items()},
            codes=quantized.codes,
            reconstruction=reconstruction,
            latents=latents,
        )

    def embed(self, item_embeddings: Tensor) -> Tensor:
        """Return latents z, fp32 `[N, D]`."""
        return self.encoder(self._normalised(item_embeddings)).float()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the reconstructions x_hat of codes, or of their prefixes, `[N, l]` with `1 <= l <= L`, `[N, E]`.

        They are in the space of the normalised item vectors; a contrastive model fixes directions, not lengths.
        """
        self._check_codes(codes, least=1)
        parts = [self.decoder(self.quantizer.lookup(part)).float() for part in self._batches(codes)]
        return torch.cat(parts).to(codes.device) if parts else torch.empty(0, self.config.item_dim)

    def level_vectors(self, level: int) -> Tensor:
        """Return the code vectors of a level, `[K, D]`."""
        self._check_level(level)
        return self.quantizer.codebook(level)

    @torch.no_grad()
    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return squared distances of what a prefix leaves over to the codes of the next level.

        Args:
            item_embeddings: item vectors, `[N, E]`.
            prefix: codes of the first l levels, `[N, l]` with `0 <= l < L`; the nearest codes or any other.

        Returns:
            `[N, K]` fp32, K being the size of level l.
        """
        self._check_prefix(prefix, len(item_embeddings))
        residuals = self.embed(item_embeddings) - self.quantizer.lookup(prefix)
        return squared_distances(residuals, self.level_vectors(prefix.shape[1]))

    def _codes(self, items: Tensor) -> Tensor:
        """Return the nearest code to the residual at every level (arXiv 2404.14774)."""
        return self.quantizer(self.embed(items)).codes

    def _loss_terms(
        self, items: Tensor, reconstruction: Tensor, quantized: QuantizedLatents, positives: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the unweighted terms whose weight is not 0."""
        config = self.config
        reduction = self.config.reduction
        terms = {}
        if config.contrastive_weight:
            terms["contrastive"] = contrastive_loss(
                items,
                reconstruction,
                temperature=config.temperature,
                duplicate_similarity=config.duplicate_similarity,
                gathers_candidates=self.training,
                positives=positives,
            )
        if config.reconstruction_weight:
            terms["reconstruction"] = reconstruction_loss(items, reconstruction, reduction=reduction)
        if config.codebook_weight:
            terms["codebook"] = codebook_loss(quantized.residuals, quantized.vectors, reduction=reduction)
        if config.commitment_weight:
            terms["commitment"] = commitment_loss(quantized.residuals, quantized.vectors, reduction=reduction)
        return terms
