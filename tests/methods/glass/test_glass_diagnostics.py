"""Ranks of true prefixes and gates, compared with what the model says of every prefix."""

import numpy as np
import pytest
import torch

from cost_hf.data.splits import Targets
from cost_hf.methods.glass.diagnostics import (
    by_retrieved,
    describe_long_history,
    mean_gates,
    prefix_ranks,
    summarised,
)
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.glass.glass_toys import CAUSAL, long_histories, ranker_of, toy_catalog, toy_glass
from tests.methods.liger.liger_toys import spread

ITEMS = 40


@pytest.fixture(scope="module")
def catalog():
    return toy_catalog(ITEMS)


@pytest.fixture(scope="module")
def targets():
    rows = long_histories(ITEMS, batch=6, seed=3).numpy()
    histories = [own[own >= 0] for own in rows]
    users = np.array([f"u{case}" for case in range(6)], dtype=object)
    return Targets(users, histories, np.arange(6, dtype=np.int64) * 5)


@pytest.mark.parametrize("normalization", ["vocabulary", "level"])
def test_ranks_are_those_of_every_prefix_where_beams_hold_all(catalog, targets, normalization):
    backbone = spread(toy_glass(catalog))
    ranker = ranker_of(backbone, catalog, num_beams=ITEMS, normalization=normalization)
    first, sizes = backbone.vocabulary.first_id, catalog.level_sizes

    ranks = prefix_ranks(ranker, catalog, targets, batch_size=4)

    for case in range(len(targets)):
        own = torch.from_numpy(targets.histories_matrix(np.array([case])))
        repeated = own.expand(ITEMS, -1)
        ids, mask = ranker.prompts.inputs(repeated)
        labels = ranker.prompts.labels(torch.arange(ITEMS))
        history = ranker.history_inputs(repeated)
        with torch.no_grad():
            logits = backbone.model(input_ids=ids, attention_mask=mask, labels=labels, **history).logits
        if normalization == "level":
            for level, size in enumerate(sizes):
                start = first + sum(sizes[:level])
                logits[:, level, :start] = -torch.inf
                logits[:, level, start + size :] = -torch.inf
        scores = logits.log_softmax(-1).gather(2, labels[..., None])[..., 0].cumsum(1)
        for depth in range(labels.shape[1]):
            of_prefix = {tuple(catalog.codes[row, : depth + 1]): float(scores[row, depth]) for row in range(ITEMS)}
            true = of_prefix[tuple(catalog.codes[targets.items[case], : depth + 1])]
            assert ranks[case, depth] == sum(score > true + 1e-4 for score in of_prefix.values()) + 1


def test_a_prefix_that_the_beam_lost_has_no_rank(catalog, targets):
    ranks = prefix_ranks(ranker_of(spread(toy_glass(catalog)), catalog, num_beams=1), catalog, targets, batch_size=4)

    assert set(ranks.flatten().tolist()) <= {0, 1} and (ranks == 0).any()
    assert (np.diff(ranks, axis=1) <= 0).all()


def test_ranks_are_summarised_over_prefixes_that_were_there_before():
    rows = summarised(np.array([[2, 5], [1, 0], [0, 0]]))

    assert rows[0] == {"cases": 3, "kept": pytest.approx(2 / 3), "rank": 1.5, "change": 0.5}
    assert rows[1] == {"cases": 2, "kept": 0.5, "rank": 5.0, "change": 3.0}
    assert summarised(np.array([[0, 0]]))[1] == {"cases": 0, "kept": None, "rank": None, "change": None}


def test_gates_are_those_of_the_layers(catalog, targets):
    backbone = toy_glass(catalog)
    with torch.no_grad():
        for block in backbone.model.decoder.block:
            block.layer[1].gate.weight.zero_()
            block.layer[1].gate.bias.fill_(2.0)

    retrieved, gates = mean_gates(ranker_of(backbone, catalog), targets, batch_size=4)

    expected = [
        min(4, int((catalog.codes[history, 0] == catalog.codes[item, 0]).sum()))
        for history, item in zip(targets.histories, targets.items, strict=True)
    ]
    assert retrieved.tolist() == expected
    np.testing.assert_allclose(gates, np.where(np.array(expected) > 0, 1 / (1 + np.exp(-2.0)), 0.0), rtol=1e-5)


def test_semantic_ids_of_one_level_open_no_gate(targets):
    ids = [f"i{row:02d}" for row in range(ITEMS)]
    catalog = Catalog.from_codes(ids, np.arange(ITEMS)[:, None], level_sizes=(ITEMS,), collisions="none")
    catalog = catalog.with_vectors(ids, np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32))

    found = describe_long_history(ranker_of(toy_glass(catalog), catalog), catalog, targets, batch_size=4)

    assert len(found["prefixes"]) == 1 and {row["gate"] for row in found["gates"]} == {0.0}


def test_groups_of_retrieved_items_are_by_their_least_number():
    found = by_retrieved(np.array([0, 1, 3, 2, 40]), np.array([0.0, 0.1, 0.2, 0.4, 0.9]))

    assert [(row["retrieved"], row["cases"]) for row in found] == [(0, 1), (1, 1), (2, 2), (16, 1)]
    assert found[2]["gate"] == pytest.approx(0.3)


def test_without_retrieval_there_are_no_gates(catalog, targets):
    backbone = spread(toy_glass(catalog, body="causal", **CAUSAL))

    found = describe_long_history(ranker_of(backbone, catalog), catalog, targets, batch_size=4)

    assert set(found) == {"prefixes"} and len(found["prefixes"]) == len(catalog.level_sizes)
