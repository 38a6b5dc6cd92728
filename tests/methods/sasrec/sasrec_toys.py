"""Tiny SASRec models, histories and walks, all from seeds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel

ITEMS, WIDTH = 30, 12
TINY: dict[str, Any] = {
    "num_items": ITEMS,
    "hidden_size": 8,
    "intermediate_size": 16,
    "text_hidden_size": 10,
    "max_history": 6,
    "dropout": 0.2,
    "initializer_range": 0.5,  # spread scores: near ties would hide an error
}


def tiny_model(*, seed: int = 0, **changes: Any) -> SasRecModel:
    """Build a model in eval mode; text models read vectors of `WIDTH`."""
    options = TINY | changes
    if options.get("inputs", "ids") != "ids":
        options.setdefault("text_dim", WIDTH)
    torch.manual_seed(seed)
    return SasRecModel(SasRecConfig(**options)).eval()


def item_vectors(items: int = ITEMS, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    """Unit vectors `[items, width]`."""
    vectors = torch.randn(items, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


class Killed(BaseException):
    """Stands for a signal."""


def rising_validation(stop_after: int | None = None) -> Callable[[Any], dict[str, float]]:
    """Return a validation whose NDCG@10 rises at every call; after `stop_after` calls it kills the run."""
    calls: list[bool] = []

    def validate(model: Any) -> dict[str, float]:
        calls.append(model.training)
        if stop_after is not None and len(calls) > stop_after:
            raise Killed
        return {"ndcg@10": float(len(calls))}

    return validate


def are_equal(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    """Whether two models have the same weights bit for bit."""
    other = right.state_dict()
    return all(torch.equal(value, other[name]) for name, value in left.state_dict().items())


def walks(users: int = 60, items: int = ITEMS, shortest: int = 3, longest: int = 9) -> list[np.ndarray]:
    """Users who walk through the items in steps of one: a rule that a model can learn."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(shortest, longest + 1, users)
    return [(generator.integers(items) + np.arange(length)) % items for length in lengths]
