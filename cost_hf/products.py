"""Faster matrix products, used only where they were measured to be accurate on the machine and weights at hand.

torch's precision `medium` is other arithmetic on other machines: on some CPUs a faster kernel that is as exact as the
default one, on CPUs with AMX and on GPUs bfloat16 or TF32. So nothing here trusts the name: the products of a model's
own matrices are compared with float64, and where they are off by more than a limit the exact ones run. torch's setting
holds for the whole process and all its threads; it is set inside a `with` block only and put back behind it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
CHOICES = ("exact", "medium", "bf16")
LIMIT = 1e-4  # far above what kernels of the same precision differ by, far below the error of bfloat16 and TF32
ACTIVATIONS = 128  # rows of the made-up activations, as of a few requests with their beams
LARGEST = 4096  # rows of a matrix that are tried: a vocabulary's head says no more with all of them


@dataclass(frozen=True)
class Products:
    """Which matrix products were asked for, and which run.

    Attributes:
        asked: `exact`, `medium` or `bf16`.
        used: the same, or `exact` where it was refused.
        relative_error: largest error of what was asked for, relative in the Frobenius norm; None where nothing was
            measured.
        limit: largest error that is accepted.
        device: type of the device that was measured.
    """

    asked: str = "exact"
    used: str = "exact"
    relative_error: float | None = None
    limit: float = LIMIT
    device: str = "cpu"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Compute inside the block with the products in `used`; `exact` products that were asked for change nothing."""
        if self.asked == "exact":
            yield
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium" if self.used == "medium" else "highest")
        try:
            if self.used == "bf16":
                # its cache would outlive an optimizer step inside the block and compute with the weights before it
                with torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=False):
                    yield
            else:
                yield
        finally:
            torch.set_float32_matmul_precision(before)


EXACT = Products()


@contextmanager
def fast_products(model: nn.Module, products: str = "medium", *, limit: float = LIMIT) -> Iterator[Products]:
    """Compute inside the block with faster matrix products, if the model's own come out right.

    Blocks may be nested; the setting before the block returns behind it, also after an error. While the block runs, the
    setting holds for every thread of the process.

    Args:
        model: on the device that it will run on.
        products: `medium` (torch's fp32 precision of that name), `bf16` (autocast) or `exact`.
        limit: largest accepted error relative to float64 products.

    Yields:
        What was asked for, what runs and the measured error; with an error above the limit, exact products and a
        warning.

    Raises:
        ValueError: for products that do not exist.
    """
    measured = measure_products(model, products, limit=limit)
    with measured.applied():
        yield measured


def measure_products(
    model: nn.Module, products: str, *, device: torch.device | str | None = None, limit: float = LIMIT
) -> Products:
    """Try products on every fp32 matrix of a model and decide whether they may be used.

    Args:
        model: its two-dimensional fp32 weights are multiplied by made-up activations, as in its forward and backward
            pass.
        products: `exact` (nothing is measured), `medium` or `bf16`.
        device: where the products will run; by default where the weights are.
        limit: largest accepted error relative to float64 products.

    Raises:
        ValueError: for products that do not exist.
    """
    if products not in CHOICES:
        raise ValueError(f"products must be one of {', '.join(CHOICES)}, got {products!r}")
    if products == "exact":
        return EXACT
    matrices = [weight.detach() for weight in model.parameters() if weight.ndim == 2 and weight.dtype == torch.float32]
    if not matrices:
        _warn(f"{products} products were asked for, but the model has no fp32 matrix: nothing is changed")
        return Products(products, "exact", None, limit)
    target = matrices[0].device if device is None else torch.device(device)
    wanted = Products(products, products, None, limit, target.type)
    error = product_error(matrices, wanted, device=target)
    if error <= limit:  # not a number is refused too
        return Products(products, products, error, limit, target.type)
    _warn(
        f"{products} products are off by about {error:.0e} relative on this machine ({target.type}), above the limit "
        f"of {limit:g}: exact products are used"
    )
    return Products(products, "exact", error, limit, target.type)


def product_error(matrices: list[Tensor], products: Products, *, device: torch.device) -> float:
    """Return the largest error of the products that the matrices take part in, relative to float64.

    Args:
        matrices: weights, fp32 `[out, in]`.
        products: tried as if they were accepted.
        device: where to multiply.
    """
    draw = torch.Generator().manual_seed(0)
    errors = [torch.zeros((), dtype=torch.float64)]
    with torch.no_grad(), products.applied():
        for matrix in matrices:
            weight = matrix[:LARGEST].to(device)
            inputs = torch.randn(ACTIVATIONS, weight.shape[1], generator=draw).to(device)
            gradients = torch.randn(ACTIVATIONS, weight.shape[0], generator=draw).to(device)
            for left, right in ((inputs, weight.T), (gradients, weight), (gradients.T, inputs)):
                exact = left.cpu().double() @ right.cpu().double()
                if size := exact.norm():  # a matrix of zeros has no relative error
                    errors.append(((left @ right).cpu().double() - exact).norm() / size)
    return float(torch.stack(errors).max())


@cache
def _warn(message: str) -> None:
    """Warn once: the models of a run meet the same arithmetic, and the rounded error makes it the same message."""
    logger.warning("%s", message)
