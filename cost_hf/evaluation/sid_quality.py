"""Quality of semantic IDs without any generator: what their levels tell about categories and clicks.

A generator learns the levels one after another, so a prefix is worth what it tells about the next click before the
exact item is known. Every measure of agreement grows by itself where groups are larger or items more popular; each
therefore stands beside its chance value, which random codes with the same groups reach, and belongs beside
`group_sizes` of `sid_health`. All values are exact counts: nothing is sampled. They rank codes of one catalog with the
same level sizes; whether a generator gains from them is for the table of results to say.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cost_hf.data.splits import Targets
from cost_hf.evaluation.semantic_ids import prefix_groups
from cost_hf.evaluation.sequences import click_counts, consecutive_pairs
from cost_hf.semantic_ids.item_ids import check_codes


def sid_quality(
    codes: np.ndarray,
    *,
    level_sizes: Sequence[int],
    categories: Sequence[str | None] | None,
    train: Sequence[np.ndarray],
    targets: Targets,
) -> dict[str, Any]:
    """Return all measures of this module: `semantic_ids.quality` of results.json.

    Args:
        codes: model-level codes `[N, L]`, without an appended level.
        level_sizes: codes per level, L numbers.
        categories: comma-separated names of every item, broad to narrow; None where the catalog has none.
        train: catalog rows of every training user, oldest first.
        targets: validation cases: nothing of the test part is looked at.

    Returns:
        JSON-able, lists per level or prefix length 1 … L: what `level_entropies` returns, and `category_purity`,
        `category_purity_chance`, `history_target_overlap` and `co_click_affinity`, `co_click_shares`, as the functions
        of these names say.
    """
    codes = np.asarray(codes, dtype=np.int64)
    check_codes(codes, level_sizes, min_items=1)
    if categories is not None and len(categories) != len(codes):
        raise ValueError(f"categories must have one entry per item, {len(codes)!r}, got {len(categories)!r}")
    groups = prefix_groups(codes)  # [N, L]
    quality: dict[str, Any] = level_entropies(codes, level_sizes)
    quality |= category_purity(groups, categories)
    quality["history_target_overlap"] = history_target_overlap(groups, train, targets)
    return quality | co_click_affinity(groups, train)


def level_entropies(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, list[float]]:
    """Return how evenly levels divide the items, in bits, all items equally likely.

    * `entropy` of level l alone: H(c_l); `entropy_maximum`: log2 of its codes or of the items, whichever are fewer.
    * `conditional_entropy` of level l given the levels before: H(c_l | c_1 … c_l-1). They sum to the entropy of whole
      SIDs, at most log2 N, which only unique SIDs reach. `conditional_entropy_maximum`: what the level's codes and the
      bits that are still missing to log2 N allow.

    Gain: conditional entropy is what a generator that knows nothing of the user must still guess at a level; bits early
    on and few left later make short work of the last levels. Far less than `entropy` means that a level repeats what
    the prefix said. Trap: a collapsed level also has low entropy; it is easy to predict because it says nothing.
    """
    num_items = len(codes)
    joint = [0.0, *(_entropy(column) for column in prefix_groups(codes).T)]  # bits of prefixes of length 0 … L
    room = [np.log2(num_items) - bits for bits in joint[:-1]]
    return {
        "entropy": [_entropy(column) for column in codes.T],
        "entropy_maximum": [float(np.log2(min(size, num_items))) for size in level_sizes],
        "conditional_entropy": [max(after - before, 0.0) for before, after in itertools.pairwise(joint)],
        "conditional_entropy_maximum": [
            float(min(np.log2(size), max(bits, 0.0))) for size, bits in zip(level_sizes, room, strict=True)
        ],
    }


def category_purity(
    groups: np.ndarray, categories: Sequence[str | None] | None
) -> dict[str, list[float | None] | None]:
    """Return how often items with one prefix share their first category, per prefix length.

    * `category_purity`: the share of the other items with an item's prefix that have its category, mean over items.
      Items without a category are left out, and those alone with their prefix: they agree with nobody. Null for a
      length where all are alone; null as a whole without categories, or with a single one.
    * `category_purity_chance`: the same with the other items drawn at random from the catalog.

    Gain: a user stays within few categories, so a pure first code is settled early. Trap: purity rises with depth
    because groups shrink, and is best for the category tree itself, which knows nothing of clicks.

    Args:
        groups: group of every item by prefix length, `prefix_groups(codes)` `[N, L]`.
        categories: comma-separated names `[N]`; the first one counts.
    """
    names = np.array(
        [name.split(",")[0].strip() if isinstance(name, str) else "" for name in categories or []], dtype=object
    )
    has_name = names != ""
    kinds, kind = np.unique(names[has_name], return_inverse=True)  # [N'] of the items with a category
    if len(kinds) < 2:
        return {"category_purity": None, "category_purity_chance": None}
    random_share = (np.bincount(kind)[kind] - 1) / (len(kind) - 1)
    found: list[float | None] = []
    chance: list[float | None] = []
    for group in groups[has_name].T:
        others = np.bincount(group)[group] - 1
        _, cell, sizes = np.unique(group * len(kinds) + kind, return_inverse=True, return_counts=True)
        shared = sizes[cell] - 1
        is_counted = others > 0
        found.append(float((shared[is_counted] / others[is_counted]).mean()) if is_counted.any() else None)
        chance.append(float(random_share[is_counted].mean()) if is_counted.any() else None)
    return {"category_purity": found, "category_purity_chance": chance}


def history_target_overlap(groups: np.ndarray, train: Sequence[np.ndarray], targets: Targets) -> dict[str, Any] | None:
    """Return how often a target shares its prefix with items of its history, per prefix length.

    * `observed`: share of cases whose target has the prefix of at least one history item; `last_observed`: of the last.
    * `chance`, `last_chance`: the same for a target drawn from the training clicks on items outside the history.
    * `cases`: how many were judged. Left out are empty histories, and repeated targets: they share every code with
      themselves, whatever the codes are. Null where no case is left.

    Gain: a generator can copy such a prefix from its input, so these are cases that it can begin without knowing
    anything about the target. Trap: long histories and large groups cover much of the catalog by chance; the distance
    to `chance` is what the codes contribute.

    Args:
        groups: group of every item by prefix length, `[N, L]`.
        train: catalog rows of every training user, oldest first.
        targets: validation cases.
    """
    clicks = click_counts(train, num_items=groups.shape[0])  # [N]
    parts = [_overlap(groups, clicks, block) for block in targets.blocks()]
    cases = sum(part["observed"].shape[1] for part in parts)
    if cases == 0:
        return None
    joined = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return {name: [_share(values) for values in table] for name, table in joined.items()} | {"cases": cases}


def _overlap(groups: np.ndarray, clicks: np.ndarray, targets: Targets) -> dict[str, np.ndarray]:
    """Return the measures of `history_target_overlap` for each case that is judged, `[L, cases]` each."""
    num_items, num_cases = groups.shape[0], len(targets)
    rows, cases = targets.joined()
    last = np.full(num_cases, -1)
    last[cases] = rows  # of equal indices the last one stays
    cases, rows = np.divmod(np.unique(cases * num_items + rows), num_items)  # an item counts once per history
    seen = np.bincount(cases, weights=clicks[rows], minlength=num_cases)  # clicks on the items of a history, [M]
    is_judged = (last >= 0) & ~targets.repeated() & (seen < clicks.sum())
    outside = clicks.sum() - seen[is_judged]
    shares: dict[str, list[np.ndarray]] = {"observed": [], "chance": [], "last_observed": [], "last_chance": []}
    for group in groups.T:
        mass = np.bincount(group, weights=clicks)  # clicks on the items of a group
        own, reached = np.divmod(np.unique(cases * len(mass) + group[rows]), len(mass))
        is_shared, is_beside_last = group[rows] == group[targets.items[cases]], group[rows] == group[last[cases]]
        drawn = np.bincount(own, weights=mass[reached], minlength=num_cases) - seen
        drawn_last = mass[group[last]] - np.bincount(cases, clicks[rows] * is_beside_last, minlength=num_cases)
        shares["observed"].append(np.bincount(cases, is_shared, minlength=num_cases)[is_judged] > 0)
        shares["chance"].append(drawn[is_judged] / outside)
        shares["last_observed"].append((group[last] == group[targets.items])[is_judged])
        shares["last_chance"].append(drawn_last[is_judged] / outside)
    return {name: np.stack(values) for name, values in shares.items()}


def co_click_affinity(groups: np.ndarray, train: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return how much more often neighbours in training share a prefix than independent clicks, per prefix length.

    * `co_click_affinity`: P(same prefix | consecutive training pair) / P(same prefix | random pair), the lift. Both
      kinds of pairs are of different items: a repeat shares every code with itself. A random pair has the first item of
      one consecutive pair and the second of another, so popularity is the same on both sides; all of them are
      counted. Null where no random pair shares the prefix.
    * `co_click_shares`: `observed` and `chance`, the two probabilities, and `pairs`, the number of consecutive pairs.

    Gain: lift 1 means that the code of the last click says nothing about that of the next; above it the generator
    learns transitions of groups from many items at once, also for items with few clicks. Trap: lift rises as groups get
    smaller, without limit, while ever fewer pairs share a prefix: compare it at equal `chance`, and read `observed`,
    the share of clicks that it applies to. Codes fitted to these clicks show what they were told.

    Args:
        groups: group of every item by prefix length, `[N, L]`.
        train: catalog rows of every training user, oldest first.
    """
    pairs = consecutive_pairs(train)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]  # [P, 2]
    first, second = (np.bincount(column, minlength=len(groups)) for column in pairs.T)  # [N] each
    same_item = int((first * second).sum())
    observed: list[float | None] = []
    chance: list[float | None] = []
    for group in groups.T:
        same_group = int((np.bincount(group, first) * np.bincount(group, second)).sum())
        observed.append(_share(group[pairs[:, 0]] == group[pairs[:, 1]]) if len(pairs) else None)
        chance.append((same_group - same_item) / (len(pairs) ** 2 - same_item) if len(pairs) else None)
    lift = [None if not random or own is None else own / random for own, random in zip(observed, chance, strict=True)]
    shares = {"observed": observed, "chance": chance, "pairs": len(pairs)}
    return {"co_click_affinity": lift, "co_click_shares": shares}


def _entropy(labels: np.ndarray) -> float:
    """Return the entropy of labels `[N]` in bits."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float((shares * -np.log2(shares)).sum())


def _share(values: np.ndarray) -> float:
    return float(values.mean())
