"""The pretrained model that an adapter belongs to: the digest by which its weights are recognised, and its commit.

The module is published beside models that need it, so it imports nothing of this package.
"""

import hashlib
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file, extract_commit_hash

SAMPLED = 65536  # values of a tensor that its digest reads


def commit_of(name: str, revision: str | None) -> str | None:
    """Return the commit that a Hub id refers to now; None for a directory."""
    if Path(name).is_dir():
        return None
    return extract_commit_hash(cached_file(name, "config.json", revision=revision), None)


def weights_digest(model: PreTrainedModel) -> str:
    """Return a digest of a model's weights: names, shapes and up to 65,536 evenly spread values of every tensor.

    Values are rounded to bfloat16 first, so a model has the same digest in fp32 and in bf16. Sampling reads a model of
    seven billion weights in seconds; a change of single values between the sampled ones goes undetected.
    """
    state = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        values = weight.detach().flatten()
        step = -(-values.numel() // SAMPLED) or 1
        sampled = values[::step].to("cpu", torch.bfloat16).contiguous().view(torch.int16)
        state.update(f"{name}:{tuple(weight.shape)}:".encode())
        state.update(sampled.numpy().astype("<i2").tobytes())
    return state.hexdigest()
