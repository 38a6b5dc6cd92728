"""Values of the statistics for new items, and for samples of the training items that are as large."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cost_hf.experiments.drift.features import CodeFeatures, ItemFeatures, nearest, text_features
from cost_hf.experiments.drift.reference import Coding, TrainingItems
from cost_hf.experiments.drift.statistics import (
    COLLISIONS,
    ERROR,
    UNKNOWN_WORDS,
    WORDS,
    TrainingTotals,
    item_statistics,
)
from cost_hf.experiments.drift.thresholds import item_samples
from cost_hf.quantizers.base import chosen_levels
from cost_hf.quantizers.training.kmeans import nearest_centers, residual_kmeans

MAX_SAMPLE = 1_000  # items of a sample: a shift that so many do not show is none that training again is worth
MAX_SAMPLES = 5  # of new items, of which the median counts
HELD_OUT = 5  # one of so many training items is held out where errors of held-out items are measured
KMEANS_STEPS = 10


@dataclass(frozen=True, eq=False)
class ItemValues:
    """Values of the statistics.

    Attributes:
        new: of the new items, by name.
        samples: of D samples of training items, `[D]` by name.
        size: items of a sample.
        num_new: new items that were looked at.
    """

    new: dict[str, float]
    samples: dict[str, np.ndarray]
    size: int
    num_new: int


def sample_size(num_new: int, num_training: int) -> int:
    """Return how many items a sample has: those that are new, at most half of the training items and `MAX_SAMPLE`."""
    return max(1, min(num_new, num_training // 2, MAX_SAMPLE))


def looked_at(num_new: int, num_training: int, *, seed: int) -> np.ndarray:
    """Return the positions of the new items that are looked at, in random order; all of them where they are few."""
    most = MAX_SAMPLES * sample_size(num_new, num_training)
    return np.random.default_rng(seed).permutation(num_new)[:most]


def item_values(
    item_ids: list[str], texts: list[str], training: TrainingItems, encoder: Any, *, seed: int
) -> ItemValues:
    """Compare new items with training items.

    Args:
        item_ids: ids of the new items, n of them; those of training items are compared with the others.
        texts: their texts.
        training: the training items.
        encoder: gives texts the vectors of new items; None for a recommender that reads none.
        seed: of the samples.
    """
    row_of = {item: row for row, item in enumerate(training.item_ids)}
    new_rows = np.array([row_of.get(item, -1) for item in item_ids], dtype=np.int64)
    known, new = _features(new_rows, texts, training, encoder)
    totals = TrainingTotals.of(
        known,
        num_keys={name: _num_keys(known, new, name) for name in training.codings},
        level_sizes={name: _sizes(coding.quantizer) for name, coding in training.codings.items()},
    )
    size = sample_size(len(item_ids), len(training.item_ids))
    found = [item_statistics(new, chosen, totals) for chosen in _parts(len(item_ids), size)]
    values = {name: float(np.median([each[name] for each in found])) for name in found[0]}
    draws = [item_statistics(known, chosen, totals) for chosen in item_samples(len(known), size, seed=seed)]
    samples = {name: np.array([each[name] for each in draws]) for name in values}
    generator = np.random.default_rng(seed)
    for name in samples:
        base = name.rpartition(".")[2]
        if base == UNKNOWN_WORDS.name:
            words = np.round(samples[WORDS.name] * size).astype(np.int64)
            samples[name] = _predicted(samples[name], words, generator)
        elif base == COLLISIONS.name:
            samples[name] = _predicted(samples[name], np.full(len(draws), size), generator)
        elif base == ERROR.name and not training.is_held_out:
            samples[name] = samples[name] * _held_out_ratio(training, name.rpartition(".")[0], seed=seed)
    return ItemValues(values, samples, size, len(item_ids))


def _parts(count: int, size: int) -> list[np.ndarray]:
    """Return positions of `count` items in random order as parts of `size`, the last ones from the end."""
    if count <= size:
        return [np.arange(count)]
    starts = [min(start, count - size) for start in range(0, count, size)]
    return [np.arange(start, start + size) for start in starts]


def _features(
    new_rows: np.ndarray, texts: list[str], training: TrainingItems, encoder: Any
) -> tuple[ItemFeatures, ItemFeatures]:
    """Return the features of the training items and of the new ones."""
    known_rows = np.arange(len(training.item_ids))
    parts: list[dict[str, Any]] = [{"training_rows": known_rows}, {"training_rows": new_rows}]
    if training.texts is not None:
        for part, own_texts in zip(parts, text_features(training.texts, texts), strict=True):
            part["texts"] = own_texts
    if encoder is not None and (training.vectors is not None or training.codings):
        vectors = encoder.encode(texts)
        if training.vectors is not None:
            for part, own in zip(parts, (training.vectors, vectors), strict=True):
                part["neighbours"] = nearest(own, training.vectors, part["training_rows"])
        codes = {name: _code_features(coding, training.vectors, vectors) for name, coding in training.codings.items()}
        for number, part in enumerate(parts):
            part["codes"] = {name: pair[number] for name, pair in codes.items()}
    known, new = (ItemFeatures(**part) for part in parts)
    return known, new


def _code_features(
    coding: Coding, known_vectors: np.ndarray | None, new_vectors: np.ndarray
) -> tuple[CodeFeatures, CodeFeatures]:
    """Return codes, keys and errors of the training items and of the new ones."""
    new_codes, new_errors = _encoded(coding.quantizer, new_vectors)
    codes = coding.codes[:, : chosen_levels(coding.quantizer)]
    errors = None
    if known_vectors is not None:
        codes, errors = _encoded(coding.quantizer, known_vectors)
    _, keys = np.unique(np.concatenate([codes, new_codes]), axis=0, return_inverse=True)
    keys = keys.ravel()
    known = CodeFeatures(codes, keys[: len(codes)], errors, coding.is_whole)
    # without errors of the training items there is nothing to compare with
    return known, CodeFeatures(new_codes, keys[len(codes) :], None if errors is None else new_errors, coding.is_whole)


def _encoded(quantizer: Any, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of vectors `[n, E]` that say what an item is like, and the distance to the last one, `[n]`."""
    with torch.inference_mode():
        table = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
        codes = quantizer.encode(table)[:, : chosen_levels(quantizer)]
        distances = quantizer.level_distances(table, codes[:, :-1])
        errors = distances.gather(1, codes[:, -1:])[:, 0]
    return codes.cpu().numpy(), errors.double().cpu().numpy()


def _sizes(quantizer: Any) -> tuple[int, ...]:
    """Return the sizes of the levels whose codes say what an item is like."""
    return tuple(quantizer.level_sizes[: chosen_levels(quantizer)])


def _held_out_ratio(training: TrainingItems, name: str, *, seed: int) -> float:
    """Return how much larger the errors of held-out items are than those of items that a quantizer was fitted to.

    The quantizer has seen all training items, so their errors are too small a measure for new ones. Residual k-means of
    the same level sizes, fitted to four fifths of the items, says by how much.
    """
    quantizer = training.codings[name].quantizer
    with torch.inference_mode():
        table = torch.from_numpy(np.ascontiguousarray(training.vectors, dtype=np.float32))
        latents = quantizer.embed(table) if hasattr(quantizer, "embed") else table
        is_held_out = torch.from_numpy(np.random.default_rng(seed).permutation(len(table)) % HELD_OUT == 0)
        fitted = latents[~is_held_out]
        sizes = [min(size, max(1, len(fitted) // 2)) for size in _sizes(quantizer)]
        codebooks = residual_kmeans(fitted, sizes, seed=seed, iterations=KMEANS_STEPS)
        errors = [float(_residuals(part, codebooks).mean()) for part in (fitted, latents[is_held_out])]
    return max(1.0, errors[1] / errors[0]) if errors[0] > 0 else 1.0


def _residuals(latents: torch.Tensor, codebooks: list[torch.Tensor]) -> torch.Tensor:
    """Return the squared distance of every row to the sum of its codes, `[n]`."""
    left = latents
    for codebook in codebooks:
        left = left - codebook[nearest_centers(left, codebook)]
    return left.square().sum(dim=1)


def _predicted(shares: np.ndarray, sizes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return shares that other samples may have where these were counted: where few were, more are possible.

    They are drawn from the posterior predictive distribution under Jeffreys' prior.
    """
    sizes = np.maximum(sizes, 1)
    counts = np.round(shares * sizes)
    rates = generator.beta(counts + 0.5, sizes - counts + 0.5)
    return generator.binomial(sizes, rates) / sizes


def _num_keys(known: ItemFeatures, new: ItemFeatures, name: str) -> int:
    return 1 + max(int(part.codes[name].keys.max(initial=0)) for part in (known, new))
