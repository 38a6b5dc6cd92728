"""Assignment of SIDs to catalog rows: checks, then the collision policy, as functions on arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cost_hf.semantic_ids.collisions import append_suffixes, group_sizes, prefix_keys, resolve_collisions
from cost_hf.semantic_ids.item_ids import item_id_list
from cost_hf.semantic_ids.options import COLLISION_POLICIES, CatalogOptions
from cost_hf.semantic_ids.sinkhorn import spread_last_level


def check_ids(item_ids: Sequence[str], *, rows: int, titles: Sequence[str | None] | None) -> None:
    """Raise ValueError where ids are not unique strings, or ids, titles and rows differ in number."""
    if len(item_ids) != rows or (titles is not None and len(titles) != rows):
        counts = f"{len(item_ids)} ids, {'no' if titles is None else len(titles)} titles"
        raise ValueError(f"expected one item id (and title) per row, got {counts} for {rows} rows")
    item_id_list(item_ids, is_unique=True)


def check_levels(level_sizes: Sequence[int], *, model_levels: int, policy: str) -> None:
    """Raise ValueError for levels that no catalog of this collision policy has."""
    if policy not in COLLISION_POLICIES:
        raise ValueError(f"the policy of a catalog is one of {', '.join(COLLISION_POLICIES)}, got {policy!r:.80}")
    if not level_sizes or min(level_sizes) < 1:
        raise ValueError(f"level_sizes must hold one positive number per level, got {tuple(level_sizes)!r:.80}")
    wanted = len(level_sizes) - (policy == "append")
    if model_levels != wanted or wanted < 1:
        raise ValueError(
            f"a catalog of {len(level_sizes)} levels under {policy!r} has {wanted} from the quantizer (1 or more), "
            f"got model_levels={model_levels!r}"
        )


def assign_semantic_ids(
    old_codes: np.ndarray,
    old_ids: Sequence[str],
    new_codes: np.ndarray,
    new_ids: Sequence[str],
    *,
    level_sizes: Sequence[int],
    model_levels: int,
    policy: str,
    x: torch.Tensor | None,
    model: Any,
) -> tuple[np.ndarray, int]:
    """Return the SIDs of new rows, `[n, L]`, and how many of them did not get their own codes.

    Args:
        old_codes: SIDs in use or kept for removed rows, `[N, L]`; they do not change.
        new_codes: model-level codes of the new rows, `[n, L_model]`.
        x, model: vectors `[n, E]` and quantizer, by whose distances rows move to other codes; None without vectors.

    Raises:
        ValueError: for a policy that cannot be followed without vectors, or a catalog that is full.
    """
    if policy == "none":
        return new_codes, 0
    sizes = level_sizes[:model_levels]
    codes = np.concatenate([old_codes[:, :model_levels], new_codes])
    is_new = np.arange(len(codes)) >= len(old_codes)
    moved = 0
    if policy == "sinkhorn" and x is not None:
        codes, moved = spread_last_level(codes, is_new, x, model, item_ids=[*old_ids, *new_ids])
    elif x is not None:
        capacity = level_sizes[-1] if policy == "append" else 1
        codes, moved = resolve_collisions(codes, is_new, x, model, capacity=capacity, item_ids=[*old_ids, *new_ids])
    elif policy != "append":
        _refuse_collisions(codes, is_new, sizes, policy)
    if policy != "append":
        return codes[is_new], moved
    keys = prefix_keys(codes, sizes)
    suffixes = append_suffixes(keys[is_new], new_ids, taken_keys=keys[~is_new], taken_suffixes=old_codes[:, -1])
    if suffixes.max(initial=0) >= level_sizes[-1]:
        place = int(suffixes.argmax())
        raise ValueError(
            f"codes {codes[is_new][place].tolist()} are shared by {int(suffixes[place]) + 1} items, the appended "
            f"level holds {level_sizes[-1]} and is full there; use a larger append_size, or vectors "
            "(from_embeddings), by which items move to other codes"
        )
    return np.column_stack([codes[is_new], suffixes]), moved


def check_policy(policy: str, append_size: int) -> None:
    """Raise ValueError for a policy that does not exist or an appended level without codes."""
    CatalogOptions(collisions=policy, append_size=append_size).validate()


def encode(model: Any, x: torch.Tensor) -> np.ndarray:
    """Return the model-level codes of vectors, `[n, L_model]` int64."""
    device = getattr(model, "device", x.device)
    return model.encode(x.to(device)).cpu().numpy().astype(np.int64)


def collision_report(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, int | float]:
    """Count groups of equal model-level codes `[n, L_model]`; the share is that of items in groups of two or more."""
    sizes = group_sizes(codes, level_sizes)
    shared = sizes > 1
    return {
        "colliding_groups": round(float((1 / sizes[shared]).sum())),
        "collided_share": float(shared.mean()) if len(codes) else 0.0,
        "largest_group": int(sizes.max(initial=0)),
    }


def _refuse_collisions(codes: np.ndarray, is_new: np.ndarray, sizes: Sequence[int], policy: str) -> None:
    collides = is_new & (group_sizes(codes, sizes) > 1)
    if collides.any():
        example = codes[collides][0].tolist()
        raise ValueError(
            f"{int(collides.sum())} items collide, first with codes {example}, and collisions={policy!r} needs vectors "
            "to move them by; use from_embeddings / with_embeddings, or collisions='append'"
        )
