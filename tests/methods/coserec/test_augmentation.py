import numpy as np
import pytest
import torch

from cost_hf.methods.coserec.augmentation import (
    OPERATORS,
    PAD,
    Augmentation,
    crop,
    insert,
    mask,
    reorder,
    substitute,
)

ITEMS = 40
SIMILAR = (torch.arange(ITEMS) + 1) % ITEMS + 100  # recognisable: no sequence holds such a row
LENGTHS = (1, 2, 3, 5, 9, 10, 12, 12)
WIDTH = 12
RATES = {"substitute": 0.1, "insert": 0.4, "crop": 0.2, "mask": 0.7, "reorder": 0.2}


def sequences():
    rows = torch.full((len(LENGTHS), WIDTH), PAD)
    for number, length in enumerate(LENGTHS):
        rows[number, :length] = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(number))[:length]
    return rows, torch.tensor(LENGTHS)


def items_of(view, row):
    return view.rows[row, : view.lengths[row]].tolist()


@pytest.fixture(autouse=True, params=[0, 1, 2])
def drawn(request):
    torch.manual_seed(request.param)


@pytest.mark.parametrize("operator", [substitute, insert, crop, mask, reorder])
def test_views_are_sequences_with_pads_on_the_right(operator):
    rows, lengths = sequences()
    before = rows.clone()

    view = operator(rows, lengths, 0.5, SIMILAR)

    assert torch.equal(rows, before)
    assert view.rows.shape == rows.shape
    assert ((view.lengths >= 1) & (view.lengths <= WIDTH)).all()
    beyond = torch.arange(WIDTH) >= view.lengths[:, None]
    assert (view.rows[beyond] == PAD).all()
    if operator is not mask:
        assert (view.rows[~beyond] != PAD).all()


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 1.0])
def test_substitutes_stand_where_their_items_stood(rate):
    rows, lengths = sequences()

    view = substitute(rows, lengths, rate, SIMILAR)

    for row, length in enumerate(LENGTHS):
        old, new = rows[row, :length], view.rows[row, :length]
        changed = old != new
        assert changed.sum() == max(int(length * rate), 1)
        assert torch.equal(new[changed], SIMILAR[old[changed]])


@pytest.mark.parametrize("rate", [0.1, 0.4, 1.0])
def test_inserted_items_stand_before_theirs_and_full_rows_lose_the_oldest(rate):
    rows, lengths = sequences()

    view = insert(rows, lengths, rate, SIMILAR)

    for row, length in enumerate(LENGTHS):
        count = max(int(length * rate), 1)
        assert view.lengths[row] == min(length + count, WIDTH)
        found = items_of(view, row)
        own = [item for item in found if item < ITEMS]
        assert own == rows[row, length - len(own) : length].tolist()
        assert found[-1] == rows[row, length - 1]
        for place, item in enumerate(found):
            if item >= ITEMS:
                assert item == SIMILAR[found[place + 1]]


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_crops_are_contiguous(rate):
    rows, lengths = sequences()

    view = crop(rows, lengths, rate, SIMILAR)

    for row, length in enumerate(LENGTHS):
        whole, part = rows[row, :length].tolist(), items_of(view, row)
        assert len(part) == max(int(length * rate), 1)
        first = whole.index(part[0])
        assert part == whole[first : first + len(part)]


def test_masks_hide_a_share_and_move_nothing():
    rows, lengths = sequences()

    view = mask(rows, lengths, 0.7, SIMILAR)

    assert torch.equal(view.lengths, lengths)
    for row, length in enumerate(LENGTHS):
        kept = view.rows[row] != PAD
        assert kept.sum() == length - int(length * 0.7)
        assert torch.equal(view.rows[row][kept], rows[row][kept])


def test_reordering_keeps_all_items_and_those_outside_one_part_in_place():
    rows, lengths = sequences()

    view = reorder(rows, lengths, 0.5, SIMILAR)

    for row, length in enumerate(LENGTHS):
        assert sorted(items_of(view, row)) == sorted(rows[row, :length].tolist())
        moved = np.flatnonzero((view.rows[row] != rows[row]).numpy())
        assert not len(moved) or moved[-1] - moved[0] < int(length * 0.5)


def test_reordering_shuffles_a_whole_sequence_evenly():
    rows = torch.arange(3).repeat(6000, 1)

    orders = reorder(rows, torch.full((6000,), 3), 1.0, SIMILAR).rows

    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 850  # of 1,000 expected, five standard deviations


@pytest.mark.parametrize("operator", [substitute, mask])
def test_every_position_is_chosen_as_often(operator):
    rows = torch.arange(10).repeat(5000, 1)

    changed = operator(rows, torch.full((5000,), 10), 0.3, SIMILAR).rows != rows

    counts = changed.sum(0)
    assert counts.sum() == 15_000
    assert (counts - 1500).abs().max() < 180


def test_short_sequences_get_their_own_operators_only():
    rows, _ = sequences()
    augmentation = Augmentation(RATES, short=("substitute",), short_length=5)

    view = augmentation.views(rows, SIMILAR)

    is_short = torch.tensor(LENGTHS) <= 5
    assert ((view.rows >= ITEMS).sum(1)[is_short] == 1).all()
    assert torch.equal(view.lengths[is_short], torch.tensor(LENGTHS)[is_short])


def test_long_sequences_get_all_operators():
    rows = torch.randperm(ITEMS)[:20].repeat(2000, 1)
    augmentation = Augmentation(RATES, short=("mask",), short_length=4)

    view = augmentation.views(rows, SIMILAR)

    kinds = {
        "crop": view.lengths == 4,
        "mask": (view.rows == PAD).any(1) & (view.lengths == 20),
        "substitute": ((view.rows >= ITEMS).sum(1) == 2),
        "insert": ((view.rows >= ITEMS).sum(1) > 2),
    }
    shares = {name: float(found.float().mean()) for name, found in kinds.items()}
    shares["reorder"] = 1 - sum(shares.values())
    assert set(shares) == set(OPERATORS)
    assert all(0.15 < share < 0.25 for share in shares.values())


def test_two_views_of_a_batch_differ_and_a_seed_gives_the_same():
    rows, _ = sequences()
    augmentation = Augmentation(RATES, short=OPERATORS, short_length=4)

    first, second = augmentation.views(rows, SIMILAR), augmentation.views(rows, SIMILAR)
    torch.manual_seed(11)
    third = augmentation.views(rows, SIMILAR)
    torch.manual_seed(11)
    fourth = augmentation.views(rows, SIMILAR)

    assert not torch.equal(first.rows, second.rows)
    assert torch.equal(third.rows, fourth.rows)
    assert torch.equal(third.lengths, fourth.lengths)
