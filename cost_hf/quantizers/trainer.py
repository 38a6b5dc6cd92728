"""The stock `Trainer` with a loss that may have terms beside the model's own, and a record of all of them.

Terms that need more than item vectors stay out of `CostModel`: a published quantizer knows no users.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import Trainer

from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.letter import DiversityTerm, collaborative_loss


class CodesTrainer(Trainer):
    """Train a `CostModel`, with LETTER's terms where their weights are above 0.

    Args:
        weights: `collaborative_weight` and `diversity_weight`; with the first, batches hold `collaborative` `[B, D]`.
        diversity: the diversity term; it is a callback too.
        arguments: those of `Trainer`.
    """

    def __init__(self, *, weights: Mapping[str, float], diversity: DiversityTerm, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._weights, self._diversity = weights, diversity
        self._terms: dict[str, list[Tensor]] = {}
        if weights["diversity_weight"]:
            self.add_callback(diversity)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, with the model's output where that is asked for."""
        output = model(inputs["item_embeddings"])
        extra = self._extra_terms(output.codes, output.latents, inputs.get("collaborative"))
        loss = sum((self._weights[f"{name}_weight"] * term for name, term in extra.items()), start=output.loss)
        terms = {name: value for name, value in output.items() if name.endswith("loss")}
        terms |= {f"{name}_loss": term for name, term in extra.items()} | {"loss": loss}
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value.detach())
        return (loss, output) if return_outputs else loss

    def take_mean_terms(self) -> dict[str, float]:
        """Return the means of the loss terms over the steps since the last call and over all processes."""
        means = {name: reduce(torch.stack(values).mean(), "mean").item() for name, values in self._terms.items()}
        self._terms = {}
        return means

    def _extra_terms(self, codes: Tensor, latents: Tensor, collaborative: Tensor | None) -> dict[str, Tensor]:
        """Return the unweighted terms whose weight is not 0."""
        model: CostModel = self.accelerator.unwrap_model(self.model)
        terms = {}
        if self._weights["collaborative_weight"] and collaborative is not None:
            quantized = model.quantizer.lookup(codes)
            passed = latents + (quantized - latents).detach()
            terms["collaborative"] = collaborative_loss(passed, collaborative)
        if self._weights["diversity_weight"]:
            terms["diversity"] = self._diversity.loss(model, codes)
        return terms
