"""Certificates hold against the score of every item, and `exact=True` finds what scoring the catalog finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_hf.search import exact_search
from cost_hf.search.beam_search import beam_search
from cost_hf.search.catalog_scores import score_catalog
from cost_hf.search.certificate import Beams, best_left, certify, relative_rounding
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from tests.near_ties import TOLERANCE, assert_same_rows
from tests.recommenders.toys import toy_catalog, toy_causal
from tests.search.searches import MODELS, parts, toy_bart, with_lora

LEVELS = st.permutations([2, 3, 5, 7, 9]).flatmap(
    lambda sizes: st.integers(1, 4).map(lambda levels: tuple(sizes[:levels]))
)


def drawn_mask(kind, batch, items, seed):
    """A mask of one of the kinds that a search takes, as the search and as a table `[B, N]`."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "none":
        return None, torch.ones(batch, items, dtype=torch.bool)
    shared = torch.rand(items, generator=draw) < 0.6
    if kind == "shared":
        return shared, shared.expand(batch, -1)
    denied = torch.randint(-1, items, (batch, 4), generator=draw)
    mask = CatalogMask(items, shared if kind == "shared and denied" else None).without(denied)
    return mask, mask.dense(batch)


def check_lists(found, scores, allowed, leaves):
    """Hold lists and certificates against the scores `[B, N]` of all items; leaves `[N]` are those of the items.

    Returns which lists are proved as a whole, and which must be: no other leaf scores as high as their last item.
    """
    scores = scores.masked_fill(~allowed, -torch.inf)
    size = found.items.shape[1]
    must = []
    for line, certificate in enumerate(
        zip(found.certificate.num_exact.tolist(), found.certificate.bound.tolist(), strict=True)
    ):
        num_exact, bound = certificate
        listed = found.items[line][found.items[line] >= 0]
        best = scores[line].topk(min(size, len(leaves))).values
        assert len(set(listed.tolist())) == len(listed) and allowed[line, listed].all()
        torch.testing.assert_close(found.scores[line, : len(listed)], scores[line, listed], rtol=1e-4, atol=TOLERANCE)
        proved = min(num_exact, len(listed))
        torch.testing.assert_close(found.scores[line, :proved], best[:proved], rtol=1e-4, atol=TOLERANCE)
        others = scores[line].clone()
        others[listed] = -torch.inf
        assert others.max() == -torch.inf or others.max() <= bound + TOLERANCE * max(1, abs(bound))
        if num_exact == size and len(listed) < size:
            assert len(listed) == int(allowed[line].sum())
        others[leaves == leaves[listed[-1]] if len(listed) else []] = -torch.inf
        must.append(not len(listed) or bool(others.max() < found.scores[line, len(listed) - 1] - 1e-3))
    return found.certificate.is_exact(size), torch.tensor(must)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(1, 80),
    beams=st.integers(1, 12),
    batch=st.integers(1, 4),
    level_sizes=LEVELS,
    model_name=st.sampled_from(sorted(MODELS)),
    collisions=st.sampled_from(["append", "none"]),
    normalization=st.sampled_from(["vocabulary", "level"]),
    mask_kind=st.sampled_from(["none", "shared", "denied", "shared and denied"]),
    adapted=st.booleans(),
    widths=st.sampled_from([(1, 1), (1, 3), (2, 256), (32, 256)]),
)
def test_an_exact_search_finds_what_scoring_every_item_finds(
    seed, items, beams, batch, level_sizes, model_name, collisions, normalization, mask_kind, adapted, widths
):
    _, vocabulary, generator, prompts, histories, trie = parts(
        model_name, items=items, level_sizes=level_sizes, seed=seed, batch=batch, collisions=collisions
    )
    generator = with_lora(generator, model_name) if adapted else generator
    mask, allowed = drawn_mask(mask_kind, batch, items, seed)
    options = {"trie": trie, "vocabulary": vocabulary, "normalization": normalization}
    inputs = prompts.inputs(histories)

    scores = score_catalog(generator, *inputs, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "MIN_WIDTH", widths[0])
        patch.setattr(exact_search, "MAX_WIDTH", widths[1])
        found = beam_search(generator, *inputs, num_beams=beams, mask=mask, exact=True, **options)

    is_exact, must_be = check_lists(found, scores, allowed, trie.leaves)
    assert (is_exact | ~must_be).all()
    expected = scores.masked_fill(~allowed, -torch.inf).topk(min(beams, items), dim=1)
    torch.testing.assert_close(found.scores[:, : min(beams, items)], expected.values, rtol=1e-4, atol=TOLERANCE)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(1, 80),
    beams=st.integers(1, 40),
    level_sizes=LEVELS,
    model_name=st.sampled_from(sorted(MODELS)),
    collisions=st.sampled_from(["append", "none"]),
    mask_kind=st.sampled_from(["none", "shared", "denied", "shared and denied"]),
    budget=st.none() | st.integers(1, 30),
)
def test_what_a_search_proves_is_true(seed, items, beams, level_sizes, model_name, collisions, mask_kind, budget):
    _, vocabulary, generator, prompts, histories, trie = parts(
        model_name, items=items, level_sizes=level_sizes, seed=seed, collisions=collisions
    )
    mask, allowed = drawn_mask(mask_kind, len(histories), items, seed)
    options = {"trie": trie, "vocabulary": vocabulary}
    inputs = prompts.inputs(histories)
    search = {} if budget is None else {"exact": True, "budget": budget}

    scores = score_catalog(generator, *inputs, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "MIN_WIDTH", 1)
        found = beam_search(generator, *inputs, num_beams=beams, mask=mask, **search, **options)

    check_lists(found, scores, allowed, trie.leaves)
    if budget is not None:
        first_pass = sum(min(beams, nodes) for nodes in trie.num_nodes[:-1])
        assert (found.certificate.num_expanded <= first_pass + budget).all()


@pytest.mark.parametrize("model_name", MODELS)
def test_as_many_beams_as_items_prove_everything(model_name):
    catalog, vocabulary, generator, prompts, histories, trie = parts(model_name)

    found = beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, num_beams=len(catalog))

    assert found.certificate.is_exact(len(catalog)).all()
    assert (found.certificate.bound == -torch.inf).all()


def test_items_of_one_leaf_are_proved_in_the_order_of_the_trie():
    popularity = torch.arange(12).numpy()
    catalog = toy_catalog(12, (2, 3), collisions="none")
    _, vocabulary, generator, prompts, histories, _ = parts("llama", items=12, level_sizes=(2, 3), collisions="none")
    trie = SidTrie.from_catalog(catalog, popularity=popularity)
    options = {"trie": trie, "vocabulary": vocabulary}
    best = beam_search(generator, *prompts.inputs(histories), num_beams=12, **options)
    together = int((best.scores[0] == best.scores[0, 0]).sum())

    found = beam_search(generator, *prompts.inputs(histories[:1]), num_beams=1, exact=True, **options)

    assert together > 1, "the best leaf holds one item, which ties with none"
    assert found.items[0, 0] == max(best.items[0, :together].tolist())
    assert found.certificate.is_exact(1).all() and found.certificate.bound[0] == found.scores[0, 0]


@pytest.mark.parametrize("exact", [False, True])
def test_items_that_tie_with_the_end_of_the_list_are_no_proof(exact):
    catalog, vocabulary, generator, prompts, histories, trie = parts("llama", items=30)
    for weight in generator.parameters():
        weight.data.zero_()
    options = {"trie": trie, "vocabulary": vocabulary, "exact": exact}
    inputs = prompts.inputs(histories)

    found = beam_search(generator, *inputs, num_beams=7, **options)
    whole = beam_search(generator, *inputs, num_beams=len(catalog), **options)

    assert not found.certificate.num_exact.any() and (found.certificate.bound >= found.scores[:, -1]).all()
    assert whole.certificate.is_exact(len(catalog)).all()


def test_a_prefix_that_leads_to_no_allowed_item_does_not_count():
    catalog, vocabulary, generator, prompts, histories, trie = parts("llama", items=60, level_sizes=(5, 7))
    options = {"trie": trie, "vocabulary": vocabulary}
    inputs = prompts.inputs(histories)
    few = torch.zeros(len(catalog), dtype=torch.bool)
    few[:3] = True

    open_search = beam_search(generator, *inputs, num_beams=3, **options)
    found = beam_search(generator, *inputs, num_beams=3, mask=few, **options)

    assert not open_search.certificate.is_exact(3).any()
    assert found.certificate.is_exact(3).all() and (found.items.sort(1).values == torch.arange(3)).all()


def test_no_allowed_item_is_an_empty_list_that_is_proved():
    catalog, vocabulary, generator, prompts, histories, trie = parts("t5")
    mask = torch.ones(len(histories), len(catalog), dtype=torch.bool)
    mask[1] = False

    found = beam_search(
        generator,
        *prompts.inputs(histories),
        trie=trie,
        vocabulary=vocabulary,
        num_beams=4,
        mask=mask,
        exact=True,
    )

    assert (found.items[1] == -1).all() and found.certificate.is_exact(4).all()


def test_a_budget_ends_a_search_and_a_larger_one_proves_more():
    _, vocabulary, generator, prompts, histories, trie = parts("t5", items=300, level_sizes=(9, 10, 11))
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 40, "exact": True}
    inputs = prompts.inputs(histories)

    found = [beam_search(generator, *inputs, budget=budget, **options).certificate for budget in (1, 50, 1000)]

    bounds = torch.stack([certificate.bound for certificate in found])
    assert (bounds.diff(dim=0) <= 1e-5).all()
    assert not found[0].is_exact(40).any() and found[-1].is_exact(40).all()
    assert (found[0].num_expanded < found[-1].num_expanded).all()


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_encoded_and_embedded_prompts_search_alike(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    input_ids, attention_mask = prompts.inputs(histories)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 6, "exact": True}
    expected = beam_search(generator, input_ids, attention_mask, output_prompt_states=True, **options)
    other = {"inputs_embeds": generator.get_input_embeddings()(input_ids)}
    if model_name == "t5":
        other = {"encoder_outputs": (expected.prompt_states,)}

    found = beam_search(generator, attention_mask=attention_mask, **other, **options)

    assert_same_rows((found.items, found.scores), (expected.items, expected.scores))
    torch.testing.assert_close(found.codes, expected.codes)


def test_no_item_below_a_prefix_scores_above_it_within_rounding():
    beams = Beams(
        nodes=torch.tensor([[0, 1, 2]]),
        scores=torch.tensor([[-1.0, -2.0, -3.0]]),
        codes=torch.zeros(1, 3, 1, dtype=torch.long),
        pruned=torch.tensor([-2.0]),
        num_expanded=torch.tensor([3]),
        rounding=relative_rounding(torch.float32),
    )
    trie = SidTrie(torch.arange(4)[:, None], (4,))

    def proved(pruned):
        at = Beams(**{**vars(beams), "pruned": torch.tensor([pruned])})
        return certify(trie, at, beams.scores, None).num_exact.tolist()

    assert proved(-1.5) == [1] and proved(-2.5) == [2] and proved(-3.5) == [3] and proved(-torch.inf) == [3]
    assert proved(-2.0) == [1] and proved(-2.0 - 1e-6) == [1] and proved(-2.0 - 1e-4) == [2]


def test_the_best_that_was_not_chosen():
    candidates = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]])

    assert best_left(candidates.clone(), torch.tensor([[0], [0]])).tolist() == [2, 1]
    assert best_left(candidates.clone(), torch.tensor([[0, 1, 2], [2, 0, 1]])).tolist() == [-torch.inf, -torch.inf]


def test_a_model_without_cached_decoding_proves_nothing():
    _, vocabulary, generator, prompts, histories, trie = parts("t5", generator=toy_bart)
    options = {"trie": trie, "vocabulary": vocabulary, "num_beams": 4}

    assert beam_search(generator, *prompts.inputs(histories), **options).certificate is None
    with pytest.raises(ValueError, match=r"exact=True needs cached decoding.*Bart"):
        beam_search(generator, *prompts.inputs(histories), exact=True, **options)


@pytest.mark.parametrize("model_name", ["llama", "t5"])
def test_broken_weights_are_named(model_name):
    _, vocabulary, generator, prompts, histories, trie = parts(model_name)
    generator.get_output_embeddings().weight.data.fill_(torch.nan)

    with pytest.raises(ValueError, match="log-probabilities that are NaN; its weights are broken"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, exact=True)


def test_a_budget_is_a_whole_number():
    _, vocabulary, generator, prompts, histories, trie = parts("llama", generator=toy_causal)

    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        beam_search(generator, *prompts.inputs(histories), trie=trie, vocabulary=vocabulary, exact=True, budget=0)
