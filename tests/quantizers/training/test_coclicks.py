"""Co-clicked items as positives: order of items, targets, and fits that resume and see training clicks alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from cost_hf.data.coclicks import co_clicks
from cost_hf.methods import codes_stage as codes_stage_module
from cost_hf.methods.codes_stage import codes_stage
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.quantizers.training import callbacks
from cost_hf.quantizers.training.coclicks import PairedSampler, matched_partners, positive_shares
from tests.quantizers.cost.toys import item_vectors
from tests.quantizers.fit_toy import small_options, toy_coclicks

NUM_ITEMS = 101
ITEMS = item_vectors(NUM_ITEMS, clusters=30)
IDS = [f"item-{number}" for number in range(NUM_ITEMS)]


COCLICKS = toy_coclicks(NUM_ITEMS)


def fit(directory, *, coclicks=COCLICKS, vectors=ITEMS, positives="coclick", fit_rows=None, **changes):
    options = small_options("cost", positives=positives, **changes)
    return fit_codes(vectors, options, output_dir=directory, seed=0, item_ids=IDS, coclicks=coclicks, fit_rows=fit_rows)


def test_partners_were_clicked_together_and_have_each_other():
    partner = matched_partners(COCLICKS, np.random.default_rng(0))

    paired = np.flatnonzero(partner >= 0)
    assert (partner[partner[paired]] == paired).all()
    assert (COCLICKS.toarray()[paired, partner[paired]] > 0).all()
    assert partner[-1] == -1 and len(paired) > 80


def test_partners_are_drawn_by_their_counts():
    table = csr_matrix(np.array([[0, 9, 1], [9, 0, 0], [1, 0, 0]]))
    drawn = [matched_partners(table, np.random.default_rng(seed))[0] for seed in range(200)]

    assert drawn.count(1) > drawn.count(2) > 0


def test_a_draw_that_rounds_up_stays_among_the_items_own():
    class Last:
        """Draws the largest share below 1, which rounds up beside large counts."""

        permutation = staticmethod(np.arange)

        def random(self, count):
            return np.full(count, np.nextafter(1.0, 0.0))

    table = csr_matrix(np.array([[0, 2**40, 0, 0], [2**40, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]))

    assert matched_partners(table, Last()).tolist() == [1, 0, 3, 2]


def test_an_epoch_holds_every_item_once_and_partners_side_by_side():
    sampler = PairedSampler(COCLICKS, seed=3)

    order = np.array(list(sampler))

    assert sorted(order) == list(range(NUM_ITEMS)) and len(sampler) == NUM_ITEMS
    counts = COCLICKS.toarray()
    has_neighbour = counts[order[:-1], order[1:]] > 0
    near = np.zeros(NUM_ITEMS, dtype=bool)
    near[:-1] |= has_neighbour
    near[1:] |= has_neighbour
    assert near.mean() > 0.8


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = PairedSampler(COCLICKS, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 4) == order(0, 4)
    assert order(0, 4) != order(0, 5) and order(0, 4) != order(1, 4)


def test_shares_follow_the_counts_within_the_batch():
    table = csr_matrix(np.array([[0, 3, 1, 0], [3, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]))

    shares = positive_shares(table, np.array([0, 3]), np.array([0, 3, 1, 2]), share=0.5)

    assert shares.tolist() == [[0.0, 0.0, 0.375, 0.125], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.trains
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    straight = fit(tmp_path / "straight")
    stock = callbacks.CheckpointCallback.on_epoch_end

    def dying(self, args, state, control, **kwargs):
        if round(state.epoch) > 3:
            raise KeyboardInterrupt
        return stock(self, args, state, control, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(callbacks.CheckpointCallback, "on_epoch_end", dying)
        fit(tmp_path / "killed")
    resumed = fit(tmp_path / "killed")

    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.history == straight.history


@pytest.mark.trains
def test_codes_depend_on_the_counts_and_only_with_them_as_positives(tmp_path):
    other = toy_coclicks(NUM_ITEMS, seed=1)

    own = fit(tmp_path / "own")

    assert fit(tmp_path / "other", coclicks=other).inputs_digest != own.inputs_digest
    assert fit(tmp_path / "other", coclicks=other).quantizer_digest != own.quantizer_digest
    plain = fit(tmp_path / "self", positives="self", coclicks=None)
    assert plain.inputs_digest == fit(tmp_path / "self 2", positives="self", coclicks=other).inputs_digest
    assert plain.quantizer_digest != own.quantizer_digest


@pytest.mark.trains
def test_items_that_fitting_does_not_see_and_their_clicks_change_nothing(tmp_path):
    seen = np.arange(NUM_ITEMS) % 10 > 0
    vectors = ITEMS.clone()
    vectors[~seen] = item_vectors(int((~seen).sum()), seed=9)
    changed = COCLICKS.toarray()
    changed[~seen] += 1
    changed[:, ~seen] += 1
    np.fill_diagonal(changed, 0)

    first = fit(tmp_path / "first", fit_rows=seen)
    second = fit(tmp_path / "second", fit_rows=seen, vectors=vectors, coclicks=csr_matrix(changed))

    assert first.quantizer_digest == second.quantizer_digest


@pytest.mark.parametrize(
    ("coclicks", "message"),
    [
        (None, r"needs the counts of pairs of items, \[101, 101\], got coclicks=None"),
        (csr_matrix((4, 4)), r"got shape \(4, 4\)"),
        (csr_matrix((NUM_ITEMS, NUM_ITEMS)), "no two items were clicked together"),
    ],
)
def test_missing_counts_are_refused(tmp_path, coclicks, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, coclicks=coclicks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positives": "others"}, "codes.positives must be one of self, coclick, got 'others'"),
        ({"coclick_share": 0.3}, r"codes.coclick_share=0.3 is for codes.positives coclick, got 'self'"),
        ({"positives": "coclick", "coclick_share": 1.0}, "codes.coclick_share must be between 0 and 1, got 1.0"),
    ],
)
def test_values_that_no_run_can_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CodesOptions.of("cost", **changes).validate()


def test_co_clicks_need_the_contrastive_term():
    options = CodesOptions.of("cost_rqvae", positives="coclick", contrastive_weight=0.0)

    with pytest.raises(ValueError, match=r"is of the contrastive term, got codes.contrastive_weight=0"):
        options.validate()


def test_counts_are_those_of_the_training_part(monkeypatch):
    given = {}
    train = [np.array([0, 1, 2]), np.array([2, 3])]
    items = pd.DataFrame({"item_id": ["a", "b", "c", "d"]})
    # a split without evaluation parts: reading one of them would fail
    data = SimpleNamespace(
        tables=SimpleNamespace(items=items, num_items=4, digest=""), split=SimpleNamespace(train=train), fit_rows=None
    )
    workspace = SimpleNamespace(
        data=data,
        text_vectors=lambda: SimpleNamespace(vectors=np.eye(4, dtype=np.float32), digest=""),
        stage_of=str,
        folder_of=str,
        stages=SimpleNamespace(run=lambda name, **arguments: arguments["compute"]("codes"), output_dir=Path("run")),
    )

    def fitted(*_, **arguments):
        given.update(arguments)
        return CodesResult(np.zeros((4, 3), dtype=np.int64), (64, 64, 64), None)

    monkeypatch.setattr(codes_stage_module, "fit_codes", fitted)
    monkeypatch.setattr(codes_stage_module.ItemEncoder, "load", lambda *_: SimpleNamespace(settings=None))

    codes_stage(workspace, CodesOptions.of("cost", positives="coclick"), seed=0)

    assert (given["coclicks"] != co_clicks(train, 4)).nnz == 0
