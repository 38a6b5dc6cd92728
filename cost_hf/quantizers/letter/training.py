"""The two loss terms of LETTER (arXiv 2405.07314) that need more than item vectors; training alone has them.

With the quantized sum z_q of an item (passed straight through), its collaborative vector h and code vectors e:

* collaborative `CE(z_q · H^T, own row)` over the batch: raw dot products, no temperature, no projection, so that h has
  the width of the latents;
* diversity, per level: `CE(e_c · E^T without c, c')`, c' drawn from the other codes of c's cluster; it moves codebooks
  only. Clusters are those of size-constrained k-means over the level's code vectors, computed at every epoch.

Differences from published code: bounds of cluster sizes grow with the codebook, instead of being 10 and 60; items
without collaborative vector do not enter the first term; candidates of all processes count. `fit_codes` scales the
vectors h to a mean length of 1, codebooks start from plain k-means++, and sums over dimensions and levels are this
package's (`codes.reduction: mean` and the published weights give the published means).
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from torch import Tensor
from torch.nn import functional
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cost_hf.quantizers.cost import CostModel, CostOutput
from cost_hf.quantizers.cost.objectives_cost import gather_rows
from cost_hf.quantizers.letter.constrained_kmeans import constrained_kmeans, size_bounds
from cost_hf.quantizers.letter.options import LetterOptions
from cost_hf.quantizers.training.kmeans import seeded_generator
from cost_hf.quantizers.training.trainer import ExtraTerm, QuantizerTrainer


class LetterTrainer(QuantizerTrainer):
    """Trains a `CostModel` with the collaborative and the diversity term, those whose weights are above 0.

    Args:
        options: weights and number of clusters.
        seed: of clusters and drawn codes.
        arguments: of `Trainer`; with the collaborative term, batches hold `collaborative` `[B, D]`.
    """

    def __init__(self, *, options: LetterOptions, seed: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._options = options
        self._diversity = DiversityTerm(options.diversity_clusters, seed=seed)
        if options.diversity_weight:
            self.add_callback(self._diversity)

    def extra_terms(self, output: CostOutput, inputs: Mapping[str, Tensor]) -> dict[str, ExtraTerm]:
        """Return the collaborative and the diversity term."""
        model: CostModel = self.accelerator.unwrap_model(self.model)
        codes: Any = output.codes
        latents: Any = output.latents
        terms = {}
        if self._options.collaborative_weight:
            quantized = model.quantizer.lookup(codes)
            passed = latents + (quantized - latents).detach()
            loss = collaborative_loss(passed, inputs["collaborative"])
            terms["collaborative"] = ExtraTerm(self._options.collaborative_weight, loss)
        if self._options.diversity_weight:
            loss = self._diversity.loss(model, codes)
            terms["diversity"] = ExtraTerm(self._options.diversity_weight, loss)
        return terms


def collaborative_loss(quantized: Tensor, collaborative: Tensor) -> Tensor:
    """Return the mean cross-entropy of finding an item's own collaborative vector among those of the batch.

    Averaged over the processes of a distributed run, which must call with equally many rows, value and gradient are
    those of one process with the whole batch.

    Args:
        quantized: z_q, `[B, D]`.
        collaborative: h, `[B, D]`; rows of zeros are items without one, neither anchors nor candidates.
    """
    candidates, first = gather_rows(collaborative)
    is_known = candidates.any(1)
    own = first + torch.arange(len(quantized), device=quantized.device)
    is_own = own[:, None] == torch.arange(len(candidates), device=quantized.device)  # [B, B * processes]
    # the own logit of an item without h stays, so that the loss that is left out below is finite
    logits = (quantized @ candidates.T).masked_fill(~is_known & ~is_own, float("-inf"))
    losses = functional.cross_entropy(logits, own, reduction="none") * is_known[own]
    return losses.sum() * (len(candidates) / len(quantized)) / is_known.sum().clamp_min(1)


def diversity_loss(codes: Tensor, others: Tensor, codebooks: list[Tensor]) -> Tensor:
    """Return the mean over levels and items of the cross-entropy of another code of the own code's cluster.

    Args:
        codes: chosen codes, `[B, L]`.
        others: the other code of each, `[B, L]`.
        codebooks: `[K, D]` per level.
    """
    losses = []
    for level, codebook in enumerate(codebooks):
        itself = torch.eye(len(codebook), dtype=torch.bool, device=codebook.device)
        # per pair of codes, not per item and code: items with one code have one row
        log_shares = (codebook @ codebook.T).masked_fill(itself, float("-inf")).log_softmax(1)  # [K, K]
        losses.append(-log_shares[codes[:, level], others[:, level]].mean())
    return torch.stack(losses).mean()


class CodeClusters:
    """Clusters of a level's codes, from which another code of the same cluster is drawn.

    Args:
        clusters: cluster of each code, `[K]`; every cluster has two or more codes.
    """

    def __init__(self, clusters: Tensor) -> None:
        sizes = torch.bincount(clusters)
        self._codes = clusters.argsort(stable=True)  # ordered by cluster
        self._others = (sizes - 1)[clusters]  # [K]
        self._first = (sizes.cumsum(0) - sizes)[clusters]  # [K]
        self._position = self._codes.argsort() - self._first  # [K], within the cluster

    def draw_others(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Return, for each code `[B]`, one of the other codes of its cluster, all equally likely, `[B]`."""
        shares = torch.rand(len(codes), dtype=torch.float64, generator=generator).to(codes.device)
        drawn = (shares * self._others[codes]).long()
        return self._codes[self._first[codes] + drawn + (drawn >= self._position[codes])]


class DiversityTerm(TrainerCallback):
    """The diversity term: clusters are computed at the start of each epoch, as a function of (weights, seed, epoch).

    Every process draws its own codes; clusters come from process 0.
    """

    def __init__(self, num_clusters: int, *, seed: int) -> None:
        self._num_clusters = num_clusters
        self._seed = seed
        self._clusters: list[CodeClusters] = []
        self._generator = torch.Generator()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cluster the codes of every level."""
        model = kwargs["model"]
        epoch = round(state.epoch or 0)
        self._generator = seeded_generator("diversity", self._seed, epoch, PartialState().process_index)
        self._clusters = [
            self._cluster(model.level_vectors(level), seed=self._seed + level)
            for level in range(len(model.level_sizes))
        ]

    def loss(self, model: CostModel, codes: Tensor) -> Tensor:
        """Return the term for the codes `[B, L]` of a batch."""
        pairs = zip(self._clusters, codes.unbind(1), strict=True)
        others = [clusters.draw_others(column, self._generator) for clusters, column in pairs]
        codebooks = [model.level_vectors(level) for level in range(codes.shape[1])]
        return diversity_loss(codes, torch.stack(others, 1), codebooks)

    def _cluster(self, codebook: Tensor, *, seed: int) -> CodeClusters:
        num_clusters = min(self._num_clusters, len(codebook) // 2)
        least, most = size_bounds(len(codebook), num_clusters)
        clusters = constrained_kmeans(codebook, num_clusters, least=least, most=most, seed=seed)
        return CodeClusters(broadcast(clusters.to(codebook.device)))
