"""Item embeddings of a catalog are computed in blocks, and those of an earlier state are used again.

The recommenders that are built on it are tested with their methods.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cost_hf.recommenders.text_generative import ItemTable


class CountingModel:
    """A text encoder that remembers how many rows it was asked for."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def item_table(self, vectors: Tensor) -> Tensor:
        self.computed.append(len(vectors))
        return vectors.sin()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("cost_hf.recommenders.text_generative.ROWS_AT_ONCE", 5)


def test_rows_are_the_embeddings_and_targets_have_unit_length():
    vectors = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))

    table = ItemTable(CountingModel(), vectors)

    assert torch.equal(table.rows, vectors.sin())
    torch.testing.assert_close(table.targets, functional.normalize(vectors.sin(), dim=-1))


def test_blocks_that_did_not_change_are_copied():
    model = CountingModel()
    vectors = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    changed = torch.cat([vectors, vectors[:3] + 1.0])
    changed[7] += 1.0
    earlier = ItemTable(model, vectors)
    model.computed.clear()

    again = ItemTable(model, changed, earlier)

    assert model.computed == [5, 5, 2]  # the block that changed, and those at the end
    assert torch.equal(again.rows, ItemTable(model, changed).rows)
