"""Whether a training computes in bfloat16: what the recipe asks for, where the processor can."""

import logging
import platform

import torch

logger = logging.getLogger(__name__)

X86 = ("x86_64", "AMD64")


def trains_in_bf16(precision: str, *, option: str = "training.precision") -> bool:
    """Return whether products are computed in bfloat16.

    Args:
        precision: auto, fp32 or bf16.
        option: that asks for it, for the warning.

    `auto` is bfloat16 on CUDA alone. On an x86 CPU without AVX-512, `bf16` is fp32 with a warning: oneDNN has no fast
    bfloat16 product there, and a step takes many times as long as in fp32.
    """
    on_cuda = torch.cuda.is_available()
    if precision == "auto":
        return on_cuda
    if precision != "bf16":
        return False
    if on_cuda or _has_fast_bf16():
        return True
    logger.warning(
        "%s is bf16, but this CPU (%s) computes bfloat16 much slower than fp32; training in fp32",
        option,
        torch.backends.cpu.get_cpu_capability(),
    )
    return False


def _has_fast_bf16() -> bool:
    return platform.machine() not in X86 or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
