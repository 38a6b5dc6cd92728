"""Training with weights that are spread over processes (FSDP), and searches that need all of them.

`fully_shard` takes a model apart in place, and a beam search calls its layers one by one, as often as its histories
need, which differs between processes. So a copy of the model is trained, to which the weights move, and the caller's
model stays behind empty. It is filled for every validation, in each process alike, and for good when training ends: the
memory of a process holds its shard of everything in a step, and all weights, but no gradients, in a search.

Quantizers, item encoders and models from scratch are small, and an adapter has few weights to train. They keep all
weights in every process, under the same launch.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import patch_environment
from torch import nn
from torch.distributed.tensor import DTensor

LAUNCH = "ACCELERATE_USE_FSDP"  # set by `accelerate launch`, read by every Accelerator that is made


@contextmanager
def whole_weights() -> Iterator[None]:
    """Let trainers that are made and run in the block keep all weights in every process, however they were launched."""
    with patch_environment(**{LAUNCH: "false"}):
        yield


def is_sharded(state: Any) -> bool:
    """Return whether training spreads the weights over processes.

    Args:
        state: of an `Accelerator`.

    Raises:
        ValueError: for DeepSpeed ZeRO-3, for the first version of FSDP, and for weights that one process alone reads.
    """
    deepspeed = getattr(state, "deepspeed_plugin", None)
    if deepspeed is not None and deepspeed.zero_stage == 3:
        raise ValueError(
            "training spreads the weights over processes by DeepSpeed ZeRO-3, and validation by ranking gathers those "
            "of FSDP2 alone; launch with cost_hf/recipes/accelerate/fsdp.yaml, or with DeepSpeed ZeRO-2"
        )
    fsdp = getattr(state, "fsdp_plugin", None)
    if fsdp is not None and fsdp.fsdp_version != 2:
        raise ValueError(
            f"training spreads the weights over processes by FSDP version {fsdp.fsdp_version!r}, expected 2; set "
            "fsdp_version: 2, as in cost_hf/recipes/accelerate/fsdp.yaml"
        )
    if fsdp is not None and fsdp.cpu_ram_efficient_loading:
        raise ValueError(
            "fsdp_cpu_ram_efficient_loading is true, expected false: every process reads the backbone itself, and "
            "extends its vocabulary; set it to false, as in cost_hf/recipes/accelerate/fsdp.yaml"
        )
    return fsdp is not None


class ShardedModel:
    """A model whose weights have moved to a copy, for training, and come back for searches.

    Args:
        model: left without weights. Hooks that it has now are on the copy, too.

    Attributes:
        model: the same object.
        trained: the copy, which a trainer may shard.
    """

    def __init__(self, model: nn.Module) -> None:
        moved: dict[int, Any] = {
            id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
            for weight in model.parameters()
        }
        self.model = model
        self.trained = copy.deepcopy(model, moved)  # tied weights stay tied: each is one entry
        self._release()

    @contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        """Yield the model with all weights; every process has to call this at the same time."""
        self.gather()
        try:
            yield self.model
        finally:
            self._release()

    def gather(self) -> nn.Module:
        """Return the model with a copy of all weights; every process has to call this at the same time."""
        device = next(self.trained.parameters()).device
        with torch.no_grad():
            for own, trained in zip(self.model.parameters(), self.trained.parameters(), strict=True):
                whole = trained.full_tensor() if isinstance(trained, DTensor) else trained.detach().clone()
                torch.utils.swap_tensors(own, nn.Parameter(whole, requires_grad=own.requires_grad))
            self.model.to(device)
            for buffer, other in zip(self.model.buffers(), self.trained.buffers(), strict=True):
                buffer.copy_(other)
        return self.model

    def _release(self) -> None:
        for weight in self.model.parameters():
            torch.utils.swap_tensors(
                weight, nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
            )
