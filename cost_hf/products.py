"""Faster matrix products, used only where they were measured to be accurate on the machine and weights at hand.

torch's precision `medium` is other arithmetic on other machines: on some CPUs a faster kernel that is as exact as the
default one, on CPUs with AMX and on GPUs bfloat16 or TF32. So nothing here trusts the name: the products of a model's
own matrices are compared with float64, and where they are off by more than a limit the exact ones run. torch's setting
holds for the whole process and all its threads; it is set inside `with` blocks only and put back behind the last one.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
CHOICES = ("exact", "medium", "bf16")
LIMIT = 1e-4  # far above what kernels of the same precision differ by, far below the error of bfloat16 and TF32
ACTIVATIONS = 128  # rows of the made-up activations, as of a few requests with their beams
LARGEST = 4096  # rows of a matrix that are tried: a vocabulary's head says no more with all of them
# kernels differ by shape: a part of one matrix also meets the activations of a training batch, and
# heads of attention are multiplied in a batch
BATCH_ACTIVATIONS, CUT = 4096, 256
HEADS, POSITIONS, HEAD_DIM = 16, 128, 64


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
        """Compute inside the block with the products in `used`.

        `exact` products that were asked for are exact inside a faster block, and change nothing elsewhere.

        Raises:
            RuntimeError: where torch's precision was set for one backend only.
        """
        if self.asked == "exact" and not _in_a_block.get():
            yield
            return
        is_bf16 = self.used == "bf16"
        token = _in_a_block.set(True)
        try:
            # autocast's cache would outlive an optimizer step inside the block and compute with the weights before it
            autocast = torch.autocast(self.device, dtype=torch.bfloat16, enabled=is_bf16, cache_enabled=False)
            with _PRECISION.set("medium" if self.used == "medium" else "highest"), autocast:
                yield
        finally:
            _in_a_block.reset(token)


class _Precision:
    """torch's precision of fp32 products, for blocks that nest or overlap in threads: the latest one's holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[tuple[object, str]] = []
        self._outside = ""

    @contextmanager
    def set(self, precision: str) -> Iterator[None]:
        """Hold `precision` inside the block; the last block to leave puts back what was set before the first."""
        block = (object(), precision)
        with self._lock:
            if not self._blocks:
                self._outside = _current_precision()
            self._blocks.append(block)
            torch.set_float32_matmul_precision(precision)
        try:
            yield
        finally:
            with self._lock:
                self._blocks.remove(block)
                torch.set_float32_matmul_precision(self._blocks[-1][1] if self._blocks else self._outside)


def _current_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError as error:
        raise RuntimeError(
            "the fp32 precision of matrix products was set for one backend (torch.backends.….fp32_precision), which "
            "torch cannot put back behind a block with faster products; ask for exact products, or set the precision "
            "by torch.set_float32_matmul_precision only"
        ) from error


_PRECISION = _Precision()
_in_a_block: ContextVar[bool] = ContextVar("in_a_block", default=False)
EXACT = Products()


@contextmanager
def fast_products(model: nn.Module, products: str = "medium", *, limit: float = LIMIT) -> Iterator[Products]:
    """Compute inside the block with faster matrix products, if the model's own come out right.

    Blocks may be nested, and overlap in threads; the setting before the blocks returns behind the last one, also after
    an error. While a block runs, torch's precision holds for every thread of the process (autocast for its own only).

    Args:
        model: on the device that it will run on.
        products: `medium` (torch's fp32 precision of that name), `bf16` (autocast) or `exact`.
        limit: largest accepted error relative to float64 products.

    Yields:
        What was asked for, what runs and the measured error; with an error above the limit, exact products and a
        warning.

    Raises:
        ValueError: for products that do not exist.
        RuntimeError: where torch's precision was set for one backend only.
    """
    measured = measure_products(model, products, limit=limit)
    with measured.applied():
        yield measured


def measure_products(
    model: nn.Module, products: str, *, device: torch.device | str | None = None, limit: float = LIMIT
) -> Products:
    """Try products on every fp32 matrix of a model and decide whether they may be used.

    Args:
        model: its fp32 weights of two dimensions or more, the first ones flattened, are multiplied by made-up
            activations, as in its forward and backward pass.
        products: `exact` (nothing is measured), `medium` or `bf16`.
        device: where the products will run; by default where the weights are.
        limit: largest accepted error relative to float64 products.

    Raises:
        ValueError: for products that do not exist.
        RuntimeError: where torch's precision was set for one backend only.
    """
    if products not in CHOICES:
        raise ValueError(f"products must be one of {', '.join(CHOICES)}, got {products!r}")
    if products == "exact":
        return EXACT
    weights = [weight.detach() for weight in model.parameters() if weight.ndim >= 2 and weight.dtype == torch.float32]
    matrices = [weight.flatten(0, -2) for weight in weights if weight.numel()]
    if not matrices:
        _warn(f"{products} products were asked for, but the model has no fp32 matrix: nothing is changed")
        return Products(products, "exact", None, limit)
    target = matrices[0].device if device is None else torch.device(device)
    wanted = Products(products, products, None, limit, target.type)
    error = product_error(matrices, wanted, device=target)
    if error <= limit:  # not a number is refused too
        return Products(products, products, error, limit, target.type)
    _warn(
        f"faster products ({products}) are left alone: on this machine ({target.type}) they are off by about "
        f"{error:.0e} relative, more than {limit:g}; exact ones run: the same results, no faster"
    )
    return Products(products, "exact", error, limit, target.type)


def product_error(matrices: list[Tensor], products: Products, *, device: torch.device) -> float:
    """Return the largest error of the products that the matrices take part in, relative to float64.

    Args:
        matrices: weights, fp32 `[out, in]`.
        products: tried as if they were accepted.
        device: where to multiply.
    """
    errors = [torch.zeros((), dtype=torch.float64)]
    with torch.no_grad(), products.applied():
        for left, right in _probes(matrices, device):
            exact = left.cpu().double() @ right.cpu().double()
            if size := exact.norm():  # a matrix of zeros has no relative error
                errors.append(((left @ right).cpu().double() - exact).norm() / size)
    return float(torch.stack(errors).max())


def _probes(matrices: list[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield factors as a model meets them: of its matrices, few and many activations, and of attention."""
    draw = torch.Generator().manual_seed(0)

    def made_up(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device)

    widest = max(matrices, key=lambda matrix: matrix.shape[1])
    cases = [(matrix[:LARGEST], ACTIVATIONS) for matrix in matrices] + [(widest[:CUT, :CUT], BATCH_ACTIVATIONS)]
    for matrix, activations in cases:
        weight = matrix.to(device)
        inputs, gradients = made_up(activations, weight.shape[1]), made_up(activations, weight.shape[0])
        yield inputs, weight.T
        yield gradients, weight
        yield gradients.T, inputs
    queries, keys = made_up(HEADS, POSITIONS, HEAD_DIM), made_up(HEADS, POSITIONS, HEAD_DIM)
    yield queries, keys.mT
    yield made_up(HEADS, POSITIONS, POSITIONS).softmax(-1), keys


@cache
def _warn(message: str) -> None:
    """Warn once: the models of a run meet the same arithmetic, and the rounded error makes it the same message."""
    logger.warning("%s", message)
