"""What `fit_codes` is given, checked once at the door and digested."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cost_hf.files import content_digest
from cost_hf.quantizers.options import CodesOptions


@dataclass(frozen=True, eq=False)
class FitInputs:
    """Checked inputs; build them by `checked`.

    Attributes:
        vectors: item text vectors, fp32 `[N, E]`.
        item_ids: `[N]`, or empty where the kind needs none.
        items: catalog table, if given.
        collaborative: collaborative vectors, fp32 `[N, D]`; None where no loss term needs them.
        fit_rows: items that fitting may see, bool `[N]`; None for all.
    """

    vectors: Tensor
    item_ids: list[str]
    items: pd.DataFrame | None
    collaborative: Tensor | None
    fit_rows: Tensor | None

    def __post_init__(self) -> None:
        if self.collaborative is not None and not self.for_fitting(self.collaborative).any():
            raise ValueError(
                "no item that fitting may see has a collaborative vector, all rows are zeros; train the model behind "
                "them on clicks of these items"
            )

    @classmethod
    def checked(
        cls,
        vectors: np.ndarray | Tensor,
        options: CodesOptions,
        *,
        items: pd.DataFrame | None,
        item_ids: Sequence[str] | None,
        collaborative: np.ndarray | Tensor | None,
        fit_rows: np.ndarray | None,
    ) -> "FitInputs":
        """Check what `fit_codes` was given; raise ValueError saying what to change."""
        table = _as_table(vectors, "item vectors", "encode these texts again")
        return cls(
            table,
            _checked_ids(item_ids, items, len(table), options),
            items,
            _checked_collaborative(collaborative, len(table), options),
            _checked_rows(fit_rows, len(table)),
        )

    def for_fitting(self, rows: Tensor) -> Tensor:
        """Return the rows, of a table `[N, …]`, that fitting may see."""
        return rows if self.fit_rows is None else rows[self.fit_rows]

    @property
    def fit_collaborative(self) -> Tensor | None:
        """Collaborative vectors that fitting may see, scaled together to a mean length of 1; None where not needed.

        Dot products with them have no temperature, so their scale is one. A table trained for cosines has none of its
        own, and published ones differ: without a common scale a weight would mean something else for each table.
        """
        if self.collaborative is None:
            return None
        rows = self.for_fitting(self.collaborative)
        lengths = rows.norm(dim=1)
        return rows / lengths[lengths > 0].mean()

    def digest(self, options: CodesOptions, seed: int) -> str:
        """Return the digest of everything that the codes depend on."""
        parts: list[Any] = [self.vectors.numpy(), asdict(options), seed]
        if options.kind in ("random", "category"):
            parts.append(self.item_ids)
        if options.kind == "category" and self.items is not None and options.category_column in self.items:
            parts.append(self.items[options.category_column].fillna("").astype(str).tolist())
        for name, rows in (("collaborative", self.collaborative), ("fit_rows", self.fit_rows)):
            if rows is not None:
                parts += [name, rows.numpy()]
        return content_digest("cost_hf.codes.1", *parts)


def _as_table(vectors: np.ndarray | Tensor, what: str, remedy: str) -> Tensor:
    """Return vectors as fp32 `[N, width]` on the CPU."""
    table = torch.as_tensor(np.array(vectors, dtype=np.float32) if isinstance(vectors, np.ndarray) else vectors)
    table = table.detach().to("cpu", torch.float32).contiguous()
    if table.ndim != 2 or not len(table):
        raise ValueError(
            f"{what.removeprefix('item ')} must be [items, dimensions] with at least one item, got shape "
            f"{tuple(table.shape)!r}"
        )
    broken = torch.nonzero(~table.isfinite().all(1)).squeeze(1)
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(table)} {what} hold NaN or infinity, first in row {int(broken[0])!r}; {remedy}"
        )
    return table


def _checked_ids(
    item_ids: Sequence[str] | None, items: pd.DataFrame | None, num_items: int, options: CodesOptions
) -> list[str]:
    if item_ids is None:
        item_ids = items["item_id"].tolist() if items is not None and "item_id" in items else []
    names = [str(item_id) for item_id in item_ids]
    if names and len(names) != num_items:
        raise ValueError(f"{num_items} item vectors need as many item ids, got {len(names)}")
    if not names and options.kind in ("random", "category"):
        raise ValueError(f"codes.kind={options.kind!r} needs item ids, got none; pass item_ids= or items=")
    return names


def _checked_collaborative(
    collaborative: np.ndarray | Tensor | None, num_items: int, options: CodesOptions
) -> Tensor | None:
    """Return the collaborative vectors where a loss term needs them; others change nothing and are left out."""
    if not options.needs_collaborative:
        return None
    if collaborative is None:
        raise ValueError(
            f"codes.kind={options.kind!r} aligns codes with collaborative item vectors, got collaborative=None; pass "
            f"an array [{num_items}, {options.latent_dim}], or take a kind that needs none (rqvae)"
        )
    table = _as_table(collaborative, "collaborative vectors", "train the model behind them again")
    if table.shape != (num_items, options.latent_dim):
        raise ValueError(
            f"collaborative vectors must be [{num_items} items, codes.latent_dim={options.latent_dim}], since no "
            f"projection lies between, got shape {tuple(table.shape)!r}; train them in that width or set "
            f"codes.latent_dim to {table.shape[1]}"
        )
    return table


def _checked_rows(fit_rows: np.ndarray | None, num_items: int) -> Tensor | None:
    if fit_rows is None:
        return None
    rows = np.asarray(fit_rows)
    if rows.dtype != np.bool_ or rows.shape != (num_items,):
        raise ValueError(
            f"fit_rows must be one bool per item, [{num_items}], got {rows.dtype} of shape {rows.shape!r}; a list of "
            "row numbers has to be turned into a mask"
        )
    if not rows.any():
        raise ValueError("fit_rows leaves no item to fit codes to; let it be true for the items of the training part")
    return None if rows.all() else torch.from_numpy(rows.copy())
