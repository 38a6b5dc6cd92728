"""Quality of semantic IDs, measured without a generator: codebook utilization, neighbourhoods, categories, transitions.

**Utilization and neighbourhoods** (`sid_utilization`). A degenerate codebook shows in its perplexity, not in the share
of codes in use: one giant cluster and a few outliers can use every code. Neighbourhoods are compared by the expected
overlap of top lists with ties in random order, so that items with the same SID or prefix are not affected by row order.
Overlap with prefixes increases with the size of the groups, so it has to be read with the group sizes and collisions.

**Categories and transitions** (`sid_quality`). A generator learns the levels one after another, so a prefix is useful
for what it tells about the next click before the exact item is known. Every measure of agreement increases with the
size of the groups and the popularity of the items; each is therefore given with its chance value, which random codes
with the same groups reach. All values are exact counts, nothing is sampled. They rank codes of one catalog with the
same level sizes; whether a generator gains from them is only seen in its results.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cost_hf.data.splits import Targets
from cost_hf.evaluation.sequences import click_counts, consecutive_pairs
from cost_hf.evaluation.similarity import unit_vectors
from cost_hf.semantic_ids.codebook_utilization import level_utilization
from cost_hf.semantic_ids.item_ids import check_codes

PREFIX_FIGURES = ("group_sizes", "knn_overlap_prefix", "knn_same_prefix")  # of `sid_utilization`
CHUNK_ENTRIES = 2**22  # similarities held at once: 32 MiB


def sid_utilization(
    codes: np.ndarray,
    level_sizes: Sequence[int],
    *,
    vectors: np.ndarray | None = None,
    reconstruction: np.ndarray | None = None,
    neighbours: int = 10,
    max_queries: int = 4096,
    seed: int = 0,
) -> dict[str, Any]:
    """Return codebook utilization, collisions and preserved neighbourhoods of the codes of a catalog.

    Args:
        codes: model-level codes `[N, L]`, without an appended level.
        level_sizes: codes per level, L numbers.
        vectors: item text vectors x `[N, E]`; without them neighbourhoods are not measured.
        reconstruction: x_hat of every item `[N, E]`, where the quantizer has a decoder.
        neighbours: length of the compared neighbour lists, at most N - 1.
        max_queries: neighbourhoods are measured for a seeded sample of this many items in larger catalogs.
        seed: of that sample.

    Returns:
        Plain values: `levels` (per level `num_codes`, `use` as a share, `perplexity`), `unique_share` (distinct SIDs /
        N), `collided_share` (share of items with the SID of another item), `largest_group`, `group_sizes` (mean size of
        an item's group per prefix length 1 … L); with vectors `knn_overlap_prefix`, `knn_same_prefix` (share of
        neighbours with the same prefix, per length); with x_hat `knn_overlap_reconstruction`.

    Raises:
        ValueError: for codes outside their levels, or tables of different length.

    Examples:
        >>> found = sid_utilization(np.array([[0, 0], [0, 1], [1, 0], [1, 0]]), [2, 2])
        >>> found["unique_share"], found["collided_share"], found["levels"][0]["perplexity"]
        (0.75, 0.5, 2.0)
    """
    codes = np.asarray(codes, dtype=np.int64)
    check_codes(codes, level_sizes, min_items=1)
    for name, table in (("vectors", vectors), ("reconstruction", reconstruction)):
        if table is not None and len(table) != len(codes):
            raise ValueError(f"{name} must have one row per item, {len(codes)!r}, got {len(table)!r}; use one catalog")
    prefixes = prefix_groups(codes)  # [N, L]
    sizes = np.stack([np.bincount(column)[column] for column in prefixes.T], axis=1)  # [N, L] own group
    full = sizes[:, -1]
    facts: dict[str, Any] = {
        "levels": [_level(column, size) for column, size in zip(codes.T, level_sizes, strict=True)],
        "unique_share": float((prefixes[:, -1].max() + 1) / len(codes)),
        "collided_share": float((full > 1).mean()),
        "largest_group": int(full.max()),
        "group_sizes": sizes.mean(axis=0).tolist(),
    }
    if vectors is not None and len(codes) > 1:
        queries = np.sort(np.random.default_rng(seed).permutation(len(codes))[:max_queries])
        width = min(neighbours, len(codes) - 1)
        facts |= _neighbourhoods(prefixes, vectors, reconstruction, queries=queries, width=width)
    return facts


def _level(codes: np.ndarray, num_codes: int) -> dict[str, float | int]:
    use, perplexity = level_utilization(codes, num_codes)
    return {"num_codes": int(num_codes), "use": use, "perplexity": perplexity}


def prefix_groups(codes: np.ndarray) -> np.ndarray:
    """Return a dense group number per item and prefix length 1 … L, int64 `[N, L]`; equal for equal prefixes.

    Examples:
        >>> prefix_groups(np.array([[5, 1], [5, 2], [8, 1]])).tolist()
        [[0, 0], [0, 1], [1, 2]]
    """
    groups = np.zeros(len(codes), dtype=np.int64)
    columns = []
    for column in codes.T:
        _, groups = np.unique(groups * (int(column.max()) + 1) + column, return_inverse=True)
        columns.append(groups)
    return np.stack(columns, axis=1)


def top_neighbours(vectors: np.ndarray, queries: np.ndarray, *, width: int) -> np.ndarray:
    """Return the `width` items nearest by cosine to every query row, without itself, int64 `[Q, width]`."""
    units = unit_vectors(vectors)

    def nearest(rows: np.ndarray) -> np.ndarray:
        scores = units[rows] @ units.T
        scores[np.arange(len(rows)), rows] = -np.inf
        return np.argpartition(-scores, width - 1, axis=1)[:, :width]

    return _by_chunks(nearest, queries, len(units))


def expected_overlap(scores: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the expected share of `neighbours` `[Q, k]` in the top k by `scores` `[Q, N]`, float64 `[Q]`.

    Ties are in random order. The score of an item that can't be listed (the query itself) has to be -inf.
    """
    width = neighbours.shape[1]
    threshold = np.partition(scores, scores.shape[1] - width, axis=1)[:, [scores.shape[1] - width]]
    room = width - (scores > threshold).sum(axis=1)
    level = (scores == threshold).sum(axis=1)
    wanted = np.take_along_axis(scores, neighbours, axis=1)
    above_wanted = (wanted > threshold).sum(axis=1)
    level_wanted = (wanted == threshold).sum(axis=1)
    return (above_wanted + level_wanted * room / level) / width


def sid_quality(
    codes: np.ndarray,
    *,
    level_sizes: Sequence[int],
    categories: Sequence[str | None] | None,
    train: Sequence[np.ndarray],
    targets: Targets,
) -> dict[str, Any]:
    """Return how much the levels tell about categories and clicks: `semantic_ids.quality` of results.json.

    Args:
        codes: model-level codes `[N, L]`, without an appended level.
        level_sizes: codes per level, L numbers.
        categories: comma-separated names of every item, broad to narrow; None where the catalog has none.
        train: catalog rows of every training user, oldest first.
        targets: validation cases; the test part is not used.

    Returns:
        Plain values, lists per level or prefix length 1 … L: those of `level_entropies`, `category_purity` and
        `co_click_affinity`, and `history_target_overlap`.

    Raises:
        ValueError: for codes outside their levels, or categories of another number of items.
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
    """Return the entropy of the levels in bits, all items equally likely.

    * `entropy` of level l alone: H(c_l); `entropy_maximum`: log2 of its codes or of the items, whichever are fewer.
    * `conditional_entropy` of level l given the levels before: H(c_l | c_1 … c_l-1). They sum to the entropy of whole
      SIDs, at most log2 N, which only unique SIDs reach. `conditional_entropy_maximum`: its bound by the number of
      codes and by the bits missing to log2 N.

    Conditional entropy is the uncertainty of a generator without information on the user at that level. A value far
    below `entropy` means that the level is mostly determined by its prefix. A collapsed level has low entropy as well:
    it is easy to predict because it carries no information.

    Examples:
        >>> level_entropies(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [2, 2])["conditional_entropy"]
        [1.0, 1.0]
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
    """Return how often items with the same prefix share their first category, per prefix length.

    * `category_purity`: the share of the other items with an item's prefix that have its category, mean over items.
      Items without a category and items with a unique prefix are left out. Null for a length where all prefixes are
      unique; null as a whole without categories, or with a single one.
    * `category_purity_chance`: the same with the other items drawn at random from the catalog.

    Users stay within few categories, so a pure first code is easy to predict. Purity increases with depth because
    groups get smaller, and it is highest for the category tree itself, which contains nothing about clicks.

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
    * `cases`: number of cases. Empty histories are left out, and repeated targets, which share every code with
      themselves under any codes. Null where no case remains.

    A generator can copy such a prefix from its input. Long histories and large groups cover much of the catalog by
    chance; the contribution of the codes is the distance to `chance`.

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


def co_click_affinity(groups: np.ndarray, train: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return how much more often consecutive clicks share a prefix than independent ones, per prefix length.

    * `co_click_affinity`: P(same prefix | consecutive training pair) / P(same prefix | random pair), the lift. Both
      kinds of pairs have different items, since a repeat shares every code with itself. A random pair has the first
      item of one consecutive pair and the second of another, so popularity is the same on both sides; all of them are
      counted. Null where no random pair shares the prefix.
    * `co_click_shares`: `observed` and `chance`, the two probabilities, and `pairs`, the number of consecutive pairs.

    With a lift of 1 the code of the last click carries no information about that of the next; above it the generator
    learns transitions between groups from many items at once, also for items with few clicks. The lift grows without
    bound as groups get smaller, while fewer pairs share a prefix: it has to be compared at equal `chance` and read with
    `observed`, the share of clicks that it applies to. Codes that were fitted to these clicks overfit this measure.

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


def _neighbourhoods(
    prefixes: np.ndarray,
    vectors: np.ndarray,
    reconstruction: np.ndarray | None,
    *,
    queries: np.ndarray,
    width: int,
) -> dict[str, Any]:
    true = top_neighbours(vectors, queries, width=width)  # [Q, width]
    lookup = {int(query): number for number, query in enumerate(queries)}

    def overlap_with(score: Callable[[np.ndarray], np.ndarray]) -> float:
        def overlap(rows: np.ndarray) -> np.ndarray:
            scores = score(rows)
            scores[np.arange(len(rows)), rows] = -np.inf
            return expected_overlap(scores, true[[lookup[int(row)] for row in rows]])

        return float(_by_chunks(overlap, queries, len(prefixes)).mean())

    def shared_levels(rows: np.ndarray) -> np.ndarray:
        return sum(
            ((column[rows, None] == column).astype(np.float64) for column in prefixes.T),
            start=np.zeros((len(rows), len(prefixes))),
        )

    found: dict[str, Any] = {
        "knn": width,
        "knn_queries": len(queries),
        "knn_overlap_prefix": overlap_with(shared_levels),
        "knn_same_prefix": [float((column[true] == column[queries][:, None]).mean()) for column in prefixes.T],
    }
    if reconstruction is not None:
        units = unit_vectors(reconstruction)
        found["knn_overlap_reconstruction"] = overlap_with(lambda rows: units[rows] @ units.T)
    return found


def _by_chunks(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int) -> np.ndarray:
    """Apply a row-wise function to blocks of rows, so that its `[rows, width]` tables stay small."""
    step = max(1, CHUNK_ENTRIES // width)
    return np.concatenate([function(rows[start : start + step]) for start in range(0, len(rows), step)])


def _overlap(groups: np.ndarray, clicks: np.ndarray, targets: Targets) -> dict[str, np.ndarray]:
    """Return the measures of `history_target_overlap` for each case that counts, `[L, cases]` each."""
    num_items = len(groups)
    num_cases = len(targets)
    rows, cases = targets.joined()
    last = np.full(num_cases, -1)
    last[cases] = rows  # of equal indices the last one stays
    cases, rows = np.divmod(np.unique(cases * num_items + rows), num_items)  # an item counts once per history
    seen = np.bincount(cases, weights=clicks[rows], minlength=num_cases)  # clicks on the items of a history, [M]
    is_counted_case = (last >= 0) & ~targets.repeated() & (seen < clicks.sum())
    outside = clicks.sum() - seen[is_counted_case]
    shares: dict[str, list[np.ndarray]] = {"observed": [], "chance": [], "last_observed": [], "last_chance": []}
    for group in groups.T:
        mass = np.bincount(group, weights=clicks)  # clicks on the items of a group
        own, reached = np.divmod(np.unique(cases * len(mass) + group[rows]), len(mass))
        is_shared = group[rows] == group[targets.items[cases]]
        is_shared_with_last = group[rows] == group[last[cases]]
        drawn = np.bincount(own, weights=mass[reached], minlength=num_cases) - seen
        drawn_last = mass[group[last]] - np.bincount(cases, clicks[rows] * is_shared_with_last, minlength=num_cases)
        shares["observed"].append(np.bincount(cases, is_shared, minlength=num_cases)[is_counted_case] > 0)
        shares["chance"].append(drawn[is_counted_case] / outside)
        shares["last_observed"].append((group[last] == group[targets.items])[is_counted_case])
        shares["last_chance"].append(drawn_last[is_counted_case] / outside)
    return {name: np.stack(values) for name, values in shares.items()}


def _entropy(labels: np.ndarray) -> float:
    """Return the entropy of labels `[N]` in bits."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float((shares * -np.log2(shares)).sum())


def _share(values: np.ndarray) -> float:
    return float(values.mean())
