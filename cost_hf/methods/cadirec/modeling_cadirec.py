"""`CaDiRecModel`: a SASRec, and beside it the diffusion that makes its views in training.

arXiv 2405.09369. The diffusion is used in training alone: what recommends is the SASRec.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from cost_hf.methods.contrastive import contrastive_loss, pooled, random_positions, share_of
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel, SequenceOutput
from cost_hf.methods.sasrec.objectives_sasrec import POSITIONS_PER_CHUNK, catalog_cross_entropy

from .configuration_cadirec import CaDiRecConfig
from .diffusion_cadirec import ContextDiffusion


class CaDiRecModel(PreTrainedModel):
    """SASRec with the losses of a context-aware diffusion and of contrastive views.

    Args:
        config: sizes and weights.
    """

    config: CaDiRecConfig
    base_model_prefix = "cadirec"
    main_input_name = "histories"

    def __init__(self, config: CaDiRecConfig) -> None:
        super().__init__(config)
        self.sasrec = SasRecModel(config.sasrec())
        self.diffusion = ContextDiffusion(config)
        self.post_init()

    def forward(
        self,
        histories: Tensor,
        labels: Tensor | None = None,
        item_vectors: Tensor | None = None,
        negatives: Tensor | None = None,
        label_weights: Tensor | None = None,
        log_expected: Tensor | None = None,
    ) -> SequenceOutput:
        """Read histories as SASRec does; in training, add both other losses to its own.

        With both weights 0 it is SASRec bit for bit: nothing more is computed and nothing is drawn.

        Args:
            histories: catalog rows, oldest first, `[B, T]`, -1 pads on the right.
            labels: the next rows, `[B, T]`, -100 where nothing is to be learned.
            item_vectors: frozen item vectors of the catalog `[N, E]`, for models with text inputs.
            negatives: sampled catalog rows, `[B, T, K]` for the binary loss, `[K]` for the sampled softmax.
            label_weights: factor of the loss of every label, `[B, T]`; 1 by default.
            log_expected: natural logarithm of the draws expected of each negative, `[K]`, for the sampled softmax.
        """
        is_plain = not (self.config.diffusion_weight or self.config.contrastive_weight)
        if labels is None or is_plain or not self.training:
            return self.sasrec(
                histories,
                labels,
                item_vectors=item_vectors,
                negatives=negatives,
                label_weights=label_weights,
                log_expected=log_expected,
            )
        table = self.sasrec.item_table(item_vectors)  # of all items, which the diffusion chooses from
        hidden = self.sasrec.read(histories, table)
        loss = self.sasrec.next_item_loss(hidden, table, labels, negatives, label_weights, log_expected)
        lengths = (histories >= 0).sum(1)
        count = share_of(lengths, self.config.masked_share, least=1)
        is_masked = random_positions(lengths, count, width=histories.shape[1])
        states, diffusion_loss = self._diffuse(histories, is_masked, table)
        loss = loss + self.config.diffusion_weight * diffusion_loss
        if self.config.contrastive_weight:
            if self.config.sampling == "ddim":
                states = self._sampled(histories, is_masked, table)
            loss = loss + self.config.contrastive_weight * self._contrast(histories, is_masked, states, table)
        return SequenceOutput(loss=loss, hidden_states=hidden)

    def _diffuse(self, histories: Tensor, is_masked: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return what stands at masked positions without noise, `[P, D]`, and the loss of their items."""
        steps = torch.randint(self.config.noise_steps, (len(histories),), device=histories.device)
        noised = self.diffusion.noised(self._vectors(histories, table), is_masked, steps)
        states = self.diffusion(noised, steps, histories >= 0)[is_masked]
        users = self.sasrec.scaled(states.float())
        return states, catalog_cross_entropy(users, self.sasrec.targets(table), histories[is_masked])

    @torch.no_grad()
    def _sampled(self, histories: Tensor, is_masked: Tensor, table: Tensor) -> Tensor:
        """Return what the reverse process puts at masked positions, `[P, D]`."""
        return self.diffusion.sampled(self._vectors(histories, table), is_masked, histories >= 0)[is_masked]

    def _most_likely(self, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and rows of the items that suit states `[P, D]` best, `[P, S]` each."""
        targets = self.sasrec.targets(table)
        count = min(self.config.num_substitutes, len(targets))
        parts = self.sasrec.scaled(states.float()).split(POSITIONS_PER_CHUNK)
        best = [(users @ targets.T).topk(count) for users in parts]  # of [C, N] each
        return torch.cat([part.values for part in best]), torch.cat([part.indices for part in best])

    @staticmethod
    def _vectors(histories: Tensor, table: Tensor) -> Tensor:
        # not table[...]: with several threads its backward adds the gradients of an item in any order
        return functional.embedding(histories.clamp_min(0), table)

    def _contrast(self, histories: Tensor, is_masked: Tensor, states: Tensor, table: Tensor) -> Tensor:
        """Return the loss of two views, whose masked items are drawn from the most likely ones.

        Items are read from a detached table, so this loss trains the layers alone.
        """
        with torch.no_grad():
            scores, items = self._most_likely(states, table)
            drawn = torch.multinomial(scores.softmax(1), 2, replacement=True)
            substitutes = items.gather(1, drawn)  # [P, 2]
        views = histories.repeat(2, 1, 1)
        views[:, is_masked] = substitutes.T
        hidden = self.sasrec.read(views.flatten(0, 1), table.detach())
        last = pooled(hidden, (histories >= 0).sum(1).repeat(2), "last")
        first, second = last.chunk(2)
        return contrastive_loss(
            first,
            second,
            similarity=self.config.contrastive_similarity,
            temperature=self.config.contrastive_temperature,
        )
