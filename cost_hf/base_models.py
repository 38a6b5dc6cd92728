"""The digest by which an adapter recognises the weights of the pretrained model that it belongs to.

The module is published beside models that need it, so it imports nothing of this package.
"""

import hashlib

import torch
from transformers import PreTrainedModel

SAMPLED = 65536  # values of a tensor that its digest reads


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
