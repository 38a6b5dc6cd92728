"""The order of training examples: a function of (seed, epoch) alone, so that a resumed run sees the same batches."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class ShuffledSampler(Sampler[int]):
    """Random order of `count` examples; a function of (seed, epoch) alone.

    The stock sampler draws from the global generator, so a resumed run would see other batches.
    """

    def __init__(self, count: int, *, seed: int):
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist())


class LengthGroupedSampler(ShuffledSampler):
    """Random order in which neighbours have similar lengths; for batches that are padded.

    A permutation is cut into windows of `window` batches, each sorted by length and dealt out as whole batches in
    random order.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, window: int = 32):
        super().__init__(len(lengths), seed=seed)
        self.lengths, self.batch_size, self.window = np.asarray(lengths), batch_size, window

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        span = self.batch_size * self.window
        order = np.concatenate(
            [part[np.argsort(self.lengths[part], kind="stable")] for part in _cut(order, span)] or [order]
        )
        batches = _cut(order, self.batch_size)
        full = [batch for batch in batches if len(batch) == self.batch_size]
        mixed = [full[index] for index in generator.permutation(len(full))]
        # the short batch stays last: a short one in the middle would shift every batch border behind it
        return iter(np.concatenate(mixed + batches[len(full) :]).tolist() if batches else [])


class UnrolledSampler(Sampler[int]):
    """Numbers the examples of a sampler on through the epochs, for data sets that give other examples every time.

    Example i of epoch e has the number e · count + i, so a data set needs no state, and a resumed run sees the same.
    """

    def __init__(self, sampler: ShuffledSampler):
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        first = self.sampler.epoch * len(self)
        return (first + index for index in self.sampler)


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
