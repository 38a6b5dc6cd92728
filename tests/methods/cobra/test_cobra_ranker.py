"""BeamFusion against a plain loop, and its limits: the order of beams, and that of cosines."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from cost_hf.methods.cobra.ranker import BeamFusion
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from tests.methods.cobra.cobra_toys import (
    HISTORY,
    OFF,
    TEXTS,
    catalog_with_texts,
    clicks_of,
    ranker_for,
    spread,
    toy_cobra,
)
from tests.near_ties import assert_same_rows
from tests.recommenders.toys import toy_histories

LEAVES = 12  # at most
SETTINGS = {
    "leaf": {},
    "all": {"domain": "all"},
    "few": {"num_beams": 3, "items_per_leaf": 2, "domain": "all"},
    "nearest": {"items_per_leaf": 1},
    "other_factors": {"items_per_leaf": 2, "tau": 0.3, "psi": 4.0},
    "level": {"normalization": "level"},
}


@pytest.fixture(scope="module", params=TEXTS)
def parts(request):
    catalog = catalog_with_texts(request.param)
    return spread(toy_cobra(catalog, request.param)), catalog


@pytest.fixture(scope="module")
def backbone(parts):
    return parts[0]


@pytest.fixture(scope="module")
def catalog(parts):
    return parts[1]


@pytest.fixture(scope="module")
def histories(catalog):
    return toy_histories(catalog, 5, HISTORY, seed=1)


def sid_of(catalog, row) -> tuple[int, ...]:
    return tuple(catalog.codes[row].tolist())


def log_softmax(values: dict) -> dict:
    total = math.log(sum(math.exp(value) for value in values.values()))
    return {key: value - total for key, value in values.items()}


@torch.no_grad()
def sid_scores(backbone, catalog, history, normalization="vocabulary"):
    """Log-probabilities of SIDs and their prefixes, and cosines of items, by a pass over each whole sequence."""
    model, prompts, vocabulary = backbone.model, backbone.prompts(catalog)[0], backbone.vocabulary
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(history[history >= 0][None])
    prompt = model.embed_prompt(input_ids, attention_mask, item_rows)
    table = model.item_table(torch.tensor(catalog.vectors))
    logs, cosines = {}, {}
    for sid in {sid_of(catalog, row) for row in range(len(catalog)) if not catalog.removed[row]}:
        tokens = vocabulary.encode(torch.tensor([sid]))
        embeds = torch.cat([prompt, model.get_input_embeddings()(tokens)], 1)
        states = model.model(inputs_embeds=embeds).last_hidden_state[0]
        logits = model.lm_head(states[prompt.shape[1] - 1 : -1])
        if normalization == "level":
            for level, (first, size) in enumerate(
                zip(vocabulary.level_offsets.tolist(), vocabulary.level_sizes, strict=True)
            ):
                logits[level, :first] = -torch.inf
                logits[level, first + size :] = -torch.inf
        steps = logits.log_softmax(-1).gather(1, tokens[0][:, None])[:, 0].cumsum(0).tolist()
        logs |= {sid[: level + 1]: step for level, step in enumerate(steps)}
        for row in range(len(catalog)):
            if sid_of(catalog, row) == sid:
                cosines[row] = float(functional.cosine_similarity(states[-1], table[row], dim=0))
    return logs, cosines


def fused(catalog, logs, cosines, fusion: BeamFusion, allowed=None) -> dict[int, float]:
    """The score of every candidate, one beam and one item at a time."""
    allowed = set(range(len(catalog))) if allowed is None else allowed
    present = [row for row in cosines if row in allowed and not catalog.removed[row]]
    beams: list[tuple[int, ...]] = [()]
    for depth in range(1, len(catalog.level_sizes) + 1):
        prefixes = {sid_of(catalog, row)[:depth] for row in present}
        children = [prefix for prefix in prefixes if prefix[:-1] in beams]
        beams = sorted(children, key=lambda prefix: -logs[prefix])[: fusion.num_beams]
    members = {sid: [row for row in present if sid_of(catalog, row) == sid] for sid in beams}
    near = {sid: sorted(members[sid], key=lambda row: -cosines[row])[: fusion.items_per_leaf] for sid in beams}
    by_beam = log_softmax({sid: fusion.tau * logs[sid] for sid in beams})
    groups = list(near.values()) if fusion.domain == "leaf" else [[row for rows in near.values() for row in rows]]
    by_item: dict[int, float] = {}
    for group in groups:
        by_item |= log_softmax({row: fusion.psi * cosines[row] for row in group})
    return {row: by_beam[sid] + by_item[row] for sid, rows in near.items() for row in rows}


def assert_is(ranking, expected: list[dict[int, float]]) -> None:
    items = torch.full(ranking.items.shape, -1)
    scores = torch.full(ranking.scores.shape, -torch.inf)
    for line, found in enumerate(expected):
        best = sorted(found, key=lambda row: -found[row])[: items.shape[1]]
        items[line, : len(best)] = torch.tensor(best, dtype=torch.long)
        scores[line, : len(best)] = torch.tensor([found[row] for row in best])
    assert_same_rows((ranking.items, ranking.scores), (items, scores))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_lists_are_those_of_a_plain_loop(backbone, catalog, histories, settings):
    ranker = ranker_for(backbone, catalog, **settings)

    ranking = ranker.rank(histories, top_k=9)

    found = [sid_scores(backbone, catalog, history, ranker.fusion.normalization) for history in histories]
    assert_is(ranking, [fused(catalog, *scores, ranker.fusion) for scores in found])


@pytest.mark.parametrize("settings", [{"domain": "all"}, {"items_per_leaf": 2}])
def test_masks_and_removed_items_hold_within_a_leaf(backbone, catalog, histories, settings):
    without = catalog.without_items([catalog.item_ids[3], catalog.item_ids[5]])
    allowed = torch.rand(len(histories), len(catalog), generator=torch.Generator().manual_seed(2)) < 0.4
    ranker = ranker_for(backbone, without, num_beams=4, **settings)

    ranking = ranker.rank(histories, top_k=24, mask=CatalogMask(len(catalog), allowed))

    expected = [
        fused(without, *sid_scores(backbone, without, history), ranker.fusion, set(line.nonzero()[:, 0].tolist()))
        for history, line in zip(histories, allowed, strict=True)
    ]
    assert_is(ranking, expected)


def test_without_cosines_items_stand_by_beam_then_by_clicks_and_id(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog, psi=0.0, num_beams=LEAVES, domain="all").rank(histories, top_k=len(catalog))

    clicks = clicks_of(catalog)
    for history, items in zip(histories, ranking.items, strict=True):
        logs, _ = sid_scores(backbone, catalog, history)
        members_of: dict[tuple[int, ...], list[int]] = {}
        for row in items.tolist():
            members_of.setdefault(sid_of(catalog, row), []).append(row)
        assert sum(map(len, members_of.values())) == len(catalog)
        beams = [logs[sid] for sid in members_of]  # in the order in which a first item of each stands
        assert all(after <= before + 1e-4 for before, after in pairwise(beams))
        assert [row for rows in members_of.values() for row in rows] == items.tolist()
        for rows in members_of.values():
            assert rows == sorted(rows, key=lambda row: (-clicks[row], catalog.item_ids[row]))


def test_without_cosines_the_first_items_of_leaves_have_the_order_of_a_beam_search(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog, psi=0.0, domain="all").rank(histories, top_k=len(catalog))
    prompts, trie = backbone.prompts(catalog)[0], SidTrie.from_catalog(catalog)
    input_ids, attention_mask, item_rows = prompts.inputs_with_items(histories)

    scores = score_catalog(
        backbone.model,
        input_ids,
        attention_mask,
        trie=trie,
        vocabulary=backbone.vocabulary,
        model_kwargs={"item_rows": item_rows},
    )

    for line, items in enumerate(ranking.items):
        found = scores[line, items[items >= 0]]
        assert (found.diff() <= 1e-4).all() and len(found.unique()) <= 6


def test_without_beams_items_stand_by_cosine(backbone, catalog, histories):
    ranking = ranker_for(backbone, catalog, tau=0.0, num_beams=LEAVES, domain="all").rank(histories, top_k=len(catalog))

    for history, items in zip(histories, ranking.items, strict=True):
        _, cosines = sid_scores(backbone, catalog, history)
        found = torch.tensor([cosines[row] for row in items.tolist()])
        assert len(found) == len(catalog) and (found.diff() <= 1e-4).all()


def test_scores_of_all_candidates_of_the_one_beam_are_probabilities(backbone, catalog, histories):
    for domain in ("all", "leaf"):
        ranking = ranker_for(backbone, catalog, num_beams=1, domain=domain).rank(histories, top_k=len(catalog))

        torch.testing.assert_close(ranking.scores.exp().sum(1), torch.ones(len(histories)))


def test_dead_beams_and_empty_requests_have_no_candidates():
    fusion = BeamFusion()
    beams = torch.tensor([[-1.0, -torch.inf], [-torch.inf, -torch.inf]])
    present = torch.tensor([[[True, False], [False, False]], [[False, False], [False, False]]])

    scores = fusion.log_scores(beams, torch.zeros(2, 2, 2), present)

    assert scores[present].tolist() == [0.0]
    assert (scores[~present] == -torch.inf).all()


def test_a_mask_of_nothing_returns_nothing(backbone, catalog, histories):
    allowed = torch.zeros(len(catalog), dtype=torch.bool)

    ranking = ranker_for(backbone, catalog).rank(histories, top_k=4, mask=allowed)

    assert (ranking.items == -1).all() and (ranking.scores == -torch.inf).all()


def test_a_batch_is_ranked_like_one_history_at_a_time(backbone, catalog, histories):
    ranker = ranker_for(backbone, catalog, items_per_leaf=2)

    batch = ranker.rank(histories, top_k=6)

    for line, history in enumerate(histories):
        alone = ranker.rank(history[history >= 0][None], top_k=6)
        found = (batch.items[line : line + 1], batch.scores[line : line + 1])
        assert_same_rows(found, (alone.items, alone.scores))


def test_short_lists_begin_long_ones(backbone, catalog, histories):
    ranker = ranker_for(backbone, catalog)

    short, long = ranker.rank(histories, top_k=3), ranker.rank(histories, top_k=24)

    assert short.items.shape == (5, 3) and torch.equal(short.items, long.items[:, :3])


@pytest.mark.parametrize("dense", [OFF, {"weight": 0.0}], ids=["off", "inputs"])
def test_without_a_dense_head_the_beams_are_the_list(dense, histories):
    catalog = catalog_with_texts()
    backbone = spread(toy_cobra(catalog, **dense))
    trie = SidTrie.from_catalog(catalog, popularity=clicks_of(catalog))

    own = ranker_for(backbone, catalog).rank(histories, top_k=6)

    assert (own.scores < 0).all()
    if not dense.get("inputs", True):
        stock = BeamRanker(backbone.model, backbone.prompts(catalog)[0], trie, num_beams=6).rank(histories, top_k=6)
        assert torch.equal(own.items, stock.items) and torch.equal(own.scores, stock.scores)


def test_a_ranker_without_dense_vectors_of_items_is_refused(backbone, catalog, histories):
    ranker = ranker_for(backbone, catalog)
    ranker.table = None

    with pytest.raises(ValueError, match="the ranker was given none; pass their table"):
        ranker.rank(histories, top_k=3)
