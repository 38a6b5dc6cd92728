"""Candidates are beams, unclicked items and, where asked for, the nearest ones; they are ranked by cosine."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cost_hf.methods.liger.ranker import _without_repeats, free_beam_search
from cost_hf.recommenders import rankers
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.search.beam_search import beam_search
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.liger.liger_toys import (
    BODIES,
    HISTORY,
    OFF,
    UNCLICKED,
    catalog_with_texts,
    clicks_of,
    ranker_for,
    spread,
    toy_liger,
)
from tests.near_ties import assert_same_rows
from tests.recommenders.toys import toy_histories

BEAMS = 6


@pytest.fixture(scope="module")
def catalog():
    return catalog_with_texts()


@pytest.fixture(scope="module")
def histories(catalog):
    return toy_histories(catalog, 5, HISTORY, seed=1)


@pytest.fixture(scope="module", params=BODIES)
def backbone(request, catalog):
    return spread(toy_liger(request.param, catalog))


def cosines(backbone, catalog, histories) -> torch.Tensor:
    """Scores of all items for every history, one history at a time, `[B, N]`."""
    model, prompts = backbone.model, backbone.prompts(catalog)[0]
    items = functional.normalize(model.item_table(torch.tensor(catalog.vectors)), dim=1)
    lines = []
    with torch.no_grad():
        for history in histories:
            input_ids, attention_mask, item_rows = prompts.inputs_with_items(history[history >= 0][None])
            embeds = model.embed_prompt(input_ids, attention_mask, item_rows)
            body = model.encoder if model.config.is_encoder_decoder else model.model
            states = body(inputs_embeds=embeds, attention_mask=attention_mask).last_hidden_state[0]
            user = states[item_rows[0] >= 0][-1]
            lines.append(items @ functional.normalize(user, dim=0) / model.config.logits_temperature)
    return torch.stack(lines)


def beams_of(backbone, catalog, histories, mask=None):
    prompts = backbone.prompts(catalog)[0]
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(histories)
    return beam_search(
        backbone.model,
        input_ids,
        attention_mask,
        trie=SidTrie.from_catalog(catalog, popularity=clicks_of(catalog)),
        vocabulary=backbone.vocabulary,
        num_beams=BEAMS,
        mask=mask,
        model_kwargs={"item_rows": item_rows},
    ).items


def expected_lists(scores, candidates, length):
    """The candidates of every line by score, `[B, length]`, -1 behind the last."""
    items = torch.full((len(scores), length), -1)
    values = torch.full((len(scores), length), -torch.inf)
    for line, rows in enumerate(candidates):
        best = sorted(rows, key=lambda row: -float(scores[line, row]))[:length]
        items[line, : len(best)] = torch.tensor(best, dtype=torch.long)
        values[line, : len(best)] = scores[line, best]
    return items, values


def test_the_union_of_beams_and_unclicked_items_is_ranked_by_cosine(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog).rank(histories, top_k=20)

    beams = beams_of(backbone, catalog, histories)
    candidates = [set(line.tolist()) | set(UNCLICKED) for line in beams]
    scores = cosines(backbone, catalog, histories)
    expected = expected_lists(scores, candidates, ranking.items.shape[1])
    assert_same_rows((ranking.items, ranking.scores), expected)
    assert all(set(line[line >= 0].tolist()) == rows for line, rows in zip(ranking.items, candidates, strict=True))


def test_the_nearest_items_join_the_candidates(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog, dense_top_k=4).rank(histories, top_k=24)

    scores = cosines(backbone, catalog, histories)
    beams = beams_of(backbone, catalog, histories)
    candidates = [
        set(line.tolist()) | set(UNCLICKED) | set(own.topk(4).indices.tolist())
        for line, own in zip(beams, scores, strict=True)
    ]
    expected = expected_lists(scores, candidates, ranking.items.shape[1])
    assert_same_rows((ranking.items, ranking.scores), expected)
    best = scores.topk(4, dim=1).indices
    assert torch.equal(ranking.items[:, :1], best[:, :1])


def test_the_whole_catalog_may_be_the_candidates(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog, ranks_catalog=True).rank(histories, top_k=24)

    scores = cosines(backbone, catalog, histories)
    expected = expected_lists(scores, [range(len(catalog))] * len(histories), 24)
    assert_same_rows((ranking.items, ranking.scores), expected)


def test_lists_are_cut_and_never_longer_than_the_candidates(backbone, catalog, histories):
    ranker = ranker_for(backbone, catalog)

    short, long = ranker.rank(histories, top_k=3), ranker.rank(histories, top_k=24)

    assert short.items.shape == (5, 3)
    assert torch.equal(short.items, long.items[:, :3])
    assert long.items.shape[1] == BEAMS + len(UNCLICKED)


@pytest.mark.parametrize("search", [{}, {"dense_top_k": 5}, {"ranks_catalog": True}, {"is_constrained": False}])
def test_masks_hold_for_every_kind_of_candidate(backbone, catalog, histories, search):
    allowed = torch.zeros(len(histories), len(catalog), dtype=torch.bool)
    allowed[:, [0, 3, 4, 8, 11, 20]] = True
    allowed[0, 3] = False  # unclicked, and not for everybody

    ranking = ranker_for(backbone, catalog, **search).rank(histories, top_k=24, mask=CatalogMask(len(catalog), allowed))

    for line, rows in zip(allowed, ranking.items, strict=True):
        assert line[rows[rows >= 0]].all()
    assert (ranking.items[1:] == 3).any(1).all() and not (ranking.items[0] == 3).any()


@pytest.mark.parametrize("search", [{"dense_top_k": 5}, {"ranks_catalog": True}])
def test_some_requests_at_a_time_are_ranked_as_all_of_them(monkeypatch, backbone, catalog, histories, search):
    draw = torch.Generator().manual_seed(0)
    mask = CatalogMask(len(catalog), torch.rand(len(histories), len(catalog), generator=draw) < 0.5)
    ranker = ranker_for(backbone, catalog, **search)
    whole = ranker.rank(histories, top_k=24, mask=mask)

    monkeypatch.setattr(rankers, "TILE_SCORES", 2 * len(catalog))
    parts = ranker.rank(histories, top_k=24, mask=mask)

    assert_same_rows((parts.items, parts.scores), (whole.items, whole.scores))


def test_removed_items_are_no_candidates(backbone, catalog, histories):
    without = catalog.without_items([catalog.item_ids[3], catalog.item_ids[5]])

    for search in ({}, {"dense_top_k": 9}, {"ranks_catalog": True}, {"is_constrained": False}):
        items = ranker_for(backbone, without, **search).rank(histories, top_k=24).items
        assert not torch.isin(items, torch.tensor([3, 5])).any()


def test_equal_scores_stand_in_the_order_of_clicks_then_of_ids(backbone, catalog):
    ranker = ranker_for(backbone, catalog)
    rows = torch.randperm(len(catalog))[None]

    items, scores = ranker._ordered(rows, torch.ones(1, len(catalog)), 20)

    clicks = clicks_of(catalog)
    expected = sorted(range(len(catalog)), key=lambda row: (-clicks[row], catalog.item_ids[row]))
    assert items[0].tolist() == expected[:20] and (scores == 1).all()


def test_a_batch_is_ranked_like_one_history_at_a_time(backbone, catalog, histories):
    ranker = ranker_for(backbone, catalog, dense_top_k=3)

    batch = ranker.rank(histories, top_k=9)

    for line, history in enumerate(histories):
        alone = ranker.rank(history[history >= 0][None], top_k=9)
        width = alone.items.shape[1]
        found = (batch.items[line : line + 1, :width], batch.scores[line : line + 1, :width])
        assert_same_rows(found, (alone.items, alone.scores))


def test_free_beams_that_are_no_item_are_dropped_and_counted(backbone, catalog, histories):
    model, prompts, vocabulary = backbone.model, backbone.prompts(catalog)[0], backbone.vocabulary
    trie = SidTrie.from_catalog(catalog)
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(histories)
    embeds = model.embed_prompt(input_ids, attention_mask, item_rows)

    found, invalid = free_beam_search(model, embeds, attention_mask, trie=trie, vocabulary=vocabulary, num_beams=BEAMS)
    ranker = ranker_for(backbone, catalog, is_constrained=False)
    ranking = ranker.rank(histories, top_k=24)

    assert invalid == BEAMS * len(histories) - int((found.items >= 0).sum())
    assert ranker.num_invalid_beams == invalid
    for line, rows in zip(ranking.items, found.items, strict=True):
        assert set(line[line >= 0].tolist()) == set(rows[rows >= 0].tolist()) | set(UNCLICKED)


@pytest.mark.parametrize("body", BODIES)
def test_free_beams_have_the_order_of_constrained_ones(body, histories):
    codes = np.stack(np.divmod(np.arange(24), 12), axis=1)  # every SID is an item
    ids = [f"item{row:03d}" for row in range(24)]
    catalog = Catalog.from_codes(ids, codes, level_sizes=(2, 12), collisions="none")
    catalog = catalog.with_vectors(ids, catalog_with_texts().vectors)
    backbone = spread(toy_liger(body, catalog))
    input_ids, attention_mask, item_rows = backbone.prompts(catalog)[0].inputs_with_items(histories)
    embeds = backbone.model.embed_prompt(input_ids, attention_mask, item_rows)
    trie = SidTrie.from_catalog(catalog)
    common = {"trie": trie, "vocabulary": backbone.vocabulary}

    free, _ = free_beam_search(backbone.model, embeds, attention_mask, num_beams=300, **common)
    bound = beam_search(backbone.model, attention_mask=attention_mask, inputs_embeds=embeds, num_beams=24, **common)

    for line, rows in zip(free.items, bound.items, strict=True):
        own = line[line >= 0].tolist()
        assert own and own == [row for row in rows.tolist() if row in own]


@pytest.mark.parametrize("body", BODIES)
def test_without_a_dense_head_the_beams_are_the_list(body, catalog, histories):
    for dense in (OFF, {"weight": 0.0}):
        backbone = spread(toy_liger(body, catalog, **dense))

        ranking = ranker_for(backbone, catalog).rank(histories, top_k=BEAMS)

        assert torch.equal(ranking.items, beams_of(backbone, catalog, histories))
        assert (ranking.scores < 0).all()


@pytest.mark.parametrize("body", BODIES)
def test_with_everything_off_the_ranking_is_that_of_the_generator(body, catalog, histories):
    backbone = spread(toy_liger(body, catalog, **OFF))
    trie = SidTrie.from_catalog(catalog, popularity=clicks_of(catalog))

    own = ranker_for(backbone, catalog).rank(histories, top_k=BEAMS)
    stock = BeamRanker(backbone.model, backbone.prompts(catalog)[0], trie, num_beams=BEAMS).rank(histories, top_k=BEAMS)

    assert torch.equal(own.items, stock.items) and torch.equal(own.scores, stock.scores)


def test_repeats_within_a_line_are_left_out_but_for_the_first():
    rows = torch.tensor([[4, 2, 4, -1, 2, 4], [-1, -1, 0, 0, 1, 2]])

    assert _without_repeats(rows).tolist() == [[4, 2, -1, -1, -1, -1], [-1, -1, 0, -1, 1, 2]]
