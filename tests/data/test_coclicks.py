import numpy as np
import pytest

from cost_hf.data.coclicks import co_clicks


def counted_one_by_one(sequences, num_items, window):
    table = np.zeros((num_items, num_items), dtype=int)
    for sequence in sequences:
        for place, item in enumerate(sequence):
            for other in sequence[place + 1 : place + 1 + window]:
                if item != other:
                    table[item, other] += 1
                    table[other, item] += 1
    return table


@pytest.mark.parametrize("window", [1, 3, 100])
def test_pairs_are_counted_within_the_window_of_one_user(window):
    random = np.random.default_rng(window)
    sequences = [random.integers(12, size=length) for length in (0, 1, 2, 9, 30)]

    table = co_clicks(sequences, 15, window=window)

    assert table.toarray().tolist() == counted_one_by_one(sequences, 15, window).tolist()
    assert (table.diagonal() == 0).all() and (table.data > 0).all()


def test_no_history_gives_no_pairs():
    assert co_clicks([], 3).nnz == 0
