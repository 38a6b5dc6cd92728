"""The processor and the function must constrain alike: same beams, bit for bit, and nothing that is no item."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from cost_hf.search.logits_processor import SidLogitsProcessor, prefix_allowed_tokens_fn
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.catalog_mask import CatalogMask
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.near_ties import assert_same_beams
from tests.recommenders.toys import toy_catalog, toy_causal, toy_t5

MODELS = {"llama": toy_causal, "t5": toy_t5}


class Setting:
    """A random catalog with a generator and prompts of its kind."""

    def __init__(self, kind, *, seed=0, batch=2, collisions="none", items=25, level_sizes=(3, 4, 3)):
        self.catalog = toy_catalog(items, level_sizes, seed, collisions=collisions)
        self.vocabulary = SidVocabulary.for_catalog(self.catalog)
        self.trie = SidTrie.from_catalog(self.catalog)
        self.model = MODELS[kind](self.vocabulary, seed)
        history = self.vocabulary.encode(torch.tensor(self.catalog.codes))[: 2 * batch].reshape(batch, -1)
        edge = torch.full((batch, 1), self.vocabulary.begin_id if kind == "llama" else self.vocabulary.eos_id)
        self.input_ids = torch.cat([edge, history] if kind == "llama" else [history, edge], dim=1)
        self.attention_mask = torch.ones_like(self.input_ids)
        self.levels = len(self.vocabulary.level_sizes)

    def generate(self, num_beams, **constraint):
        output = self.model.generate(
            input_ids=self.input_ids, attention_mask=self.attention_mask, num_beams=num_beams,
            num_return_sequences=num_beams, max_new_tokens=self.levels, eos_token_id=None, length_penalty=0.0,
            return_dict_in_generate=True, output_scores=True, **constraint,
        )  # fmt: skip
        return output.sequences[:, -self.levels :], output.sequences_scores

    def by_processor(self, num_beams, mask=None):
        return self.generate(num_beams, logits_processor=[SidLogitsProcessor(self.trie, self.vocabulary, mask=mask)])

    def by_function(self, num_beams, mask=None):
        function = prefix_allowed_tokens_fn(self.trie, self.vocabulary, mask=mask)
        return self.generate(num_beams, prefix_allowed_tokens_fn=function)

    def rows(self, tokens):
        nodes = self.trie.prefix(self.vocabulary.decode(tokens))
        return [set(rows[real].tolist()) for rows, real in zip(*self.trie.leaf_rows(nodes), strict=True)]


def draw_mask(setting, per_request, share, seed):
    shape = (len(setting.input_ids), len(setting.catalog)) if per_request else (len(setting.catalog),)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[..., 0] = True  # a function can't say that nothing is allowed
    return mask


@pytest.mark.parametrize("kind", list(MODELS))
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_beams=st.integers(1, 12),
    masked=st.sampled_from(["none", "one", "per request"]),
    collisions=st.sampled_from(["none", "append"]),
)
def test_processor_and_function_give_the_same_beams(kind, seed, num_beams, masked, collisions):
    setting = Setting(kind, seed=seed, collisions=collisions)
    mask = None if masked == "none" else draw_mask(setting, masked == "per request", 0.4, seed)

    tokens, scores = setting.by_processor(num_beams + 1, mask)
    expected_tokens, expected_scores = setting.by_function(num_beams + 1, mask)

    assert torch.equal(tokens, expected_tokens)
    assert torch.equal(scores, expected_scores)


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    length=st.integers(0, 3),
    causal=st.booleans(),
    masked=st.sampled_from(["none", "table", "line", "catalog"]),
)
@settings(deadline=None)
def test_processor_and_function_allow_the_same_tokens(seed, rows, length, causal, masked):
    catalog = toy_catalog(20, (3, 4, 3), seed, collisions="none")
    vocabulary, trie = SidVocabulary.for_catalog(catalog, first_id=5), SidTrie.from_catalog(catalog)
    picks = torch.randint(0, 20, (rows,), generator=torch.Generator().manual_seed(seed))
    items = vocabulary.encode(torch.tensor(catalog.codes[picks.numpy()]))
    start = torch.cat([torch.full((rows, 1), vocabulary.begin_id), items], 1) if causal else torch.zeros(rows, 1)
    ids = torch.cat([start.long(), items[:, :length]], 1)
    denied = torch.randint(-1, 20, (rows, 6), generator=torch.Generator().manual_seed(seed))
    mask = torch.rand(rows, 20, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[torch.arange(rows), picks] = True
    seen = CatalogMask(20, mask.any(0)).without(denied.masked_fill(denied == picks[:, None], -1))
    mask = {"none": None, "table": mask, "line": mask.any(0)[None], "catalog": seen}[masked]
    scores = torch.randn(rows, vocabulary.size + 3)

    processed = SidLogitsProcessor(trie, vocabulary, mask=mask)(ids, scores)
    expected = PrefixConstrainedLogitsProcessor(prefix_allowed_tokens_fn(trie, vocabulary, mask=mask), 1)(ids, scores)

    assert torch.equal(processed, expected)


@given(seed=st.integers(0, 10**6), length=st.integers(0, 2))
@settings(deadline=None)
def test_the_processor_allows_what_continues_an_allowed_item(seed, length):
    catalog = toy_catalog(20, (3, 4, 3), seed, collisions="none")
    vocabulary, trie = SidVocabulary.for_catalog(catalog, first_id=5), SidTrie.from_catalog(catalog)
    codes, denied = torch.tensor(catalog.codes), torch.arange(20).view(4, 5)
    mask = CatalogMask(20, torch.arange(20) % 7 > 0).without(denied)
    ids = torch.cat([torch.zeros(4, 1).long(), vocabulary.encode(codes[:1])[:, :length].expand(4, -1)], 1)

    processed = SidLogitsProcessor(trie, vocabulary, mask=mask)(ids, torch.zeros(4, vocabulary.size))

    for row, line in enumerate(mask.dense(4)):
        items = line & (codes[:, :length] == codes[0, :length]).all(1)
        expected = (codes[items, length] + vocabulary.level_offsets[length]).unique()
        assert torch.equal((processed[row] > -torch.inf).nonzero()[:, 0], expected)


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_beam_is_an_allowed_item_and_none_comes_twice(kind):
    setting = Setting(kind, collisions="append")
    mask = draw_mask(setting, True, 0.3, 0)

    tokens, scores = setting.by_processor(30, mask)

    for request in range(2):
        lines = slice(30 * request, 30 * request + 30)
        live = scores[lines] > -1e8
        found = [row for rows in setting.rows(tokens[lines][live]) for row in rows]
        assert sorted(found) == mask[request].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("kind", list(MODELS))
def test_two_calls_of_one_processor_agree(kind):
    setting = Setting(kind)
    processor = SidLogitsProcessor(setting.trie, setting.vocabulary)

    first = setting.generate(4, logits_processor=[processor])
    setting.generate(3, logits_processor=[processor])
    second = setting.generate(4, logits_processor=[processor])

    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_request_without_allowed_items_gets_dead_beams_and_does_not_touch_its_neighbour(kind):
    setting = Setting(kind)
    mask = draw_mask(setting, True, 0.5, 0)
    alone_tokens, alone_scores = setting.by_processor(5, mask)
    mask[0] = False

    tokens, scores = setting.by_processor(5, mask)

    assert (scores[:5] < -1e8).all()
    assert torch.equal(tokens[5:], alone_tokens[5:])
    assert torch.equal(scores[5:], alone_scores[5:])


def test_the_function_says_that_a_mask_leaves_nothing():
    setting = Setting("t5")
    mask = torch.zeros(2, 25, dtype=torch.bool)

    with pytest.raises(ValueError, match=r"mask of request 0 allows no item.*use SidLogitsProcessor or beam_search"):
        setting.by_function(3, mask)


def test_beams_of_a_causal_model_fed_by_embeddings_start_at_the_first_token():
    setting = Setting("llama")
    processor = SidLogitsProcessor(setting.trie, setting.vocabulary)
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 3, "eos_token_id": None}
    options |= {"length_penalty": 0.0, "return_dict_in_generate": True, "output_scores": True}

    output = setting.model.generate(
        inputs_embeds=setting.model.get_input_embeddings()(setting.input_ids), logits_processor=[processor], **options
    )

    assert_same_beams((output.sequences, output.sequences_scores), setting.by_processor(4), width=4)


def test_left_padding_does_not_move_the_start():
    setting = Setting("llama")
    expected = setting.by_processor(4)
    pad = torch.zeros(2, 3, dtype=torch.long)
    setting.input_ids = torch.cat([pad, setting.input_ids], 1)
    setting.attention_mask = torch.cat([pad, setting.attention_mask], 1)

    assert_same_beams(setting.by_processor(4), expected, width=4)


def simple():
    catalog = Catalog.from_codes(["x", "y"], [[0, 1], [1, 0]], level_sizes=[2, 2], collisions="none")
    return SidTrie.from_catalog(catalog), SidVocabulary.for_catalog(catalog)  # ids: a 3 4, b 5 6, begin 7


def legal_tokens(processor, ids):
    return [row.isfinite().nonzero()[:, 0].tolist() for row in processor(torch.tensor(ids), torch.zeros(len(ids), 9))]


def test_rows_at_different_levels_are_each_constrained_at_their_own():
    processor = SidLogitsProcessor(*simple())

    legal = legal_tokens(processor, [[0, 0, 7], [0, 7, 4], [7, 3, 6], [7, 7, 3]])

    assert legal == [[3, 4], [5], [3, 4], [6]]


def test_only_the_last_begin_marker_counts():
    assert legal_tokens(SidLogitsProcessor(*simple()), [[7, 3, 6, 8, 7]]) == [[3, 4]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 3, 6, 4, 6, 3, 5], None),
        ([0, 5], r"tokens \[5\] \(<s_b_0>\); a causal prompt needs"),
        ([7, 3, 6, 2], r"tokens \[2\] \(\?\); items after <\|sid_begin\|> must be complete"),
        ([0, 6], "trie and vocabulary must belong"),
    ],
    ids=["whole", "level", "foreign", "hint"],
)
def test_an_unknown_prefix_is_an_error_that_names_it(ids, message):
    trie, vocabulary = simple()
    calls = [
        lambda: SidLogitsProcessor(trie, vocabulary)(torch.tensor([ids]), torch.zeros(1, 9)),
        lambda: prefix_allowed_tokens_fn(trie, vocabulary)(0, torch.tensor(ids)),
    ]

    for call in calls:
        if message is None:
            call()
        else:
            with pytest.raises(ValueError, match=message):
                call()


def test_a_mask_that_does_not_fit_the_batch_is_an_error():
    processor = SidLogitsProcessor(*simple(), mask=torch.ones(2, 2, dtype=torch.bool))

    with pytest.raises(ValueError, match="mask has 2 rows but scores have 3"):
        processor(torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 9))


def test_a_trie_of_another_shape_is_an_error():
    trie, _ = simple()

    with pytest.raises(ValueError, match=r"the trie has level_sizes=\(2, 2\), the vocabulary \(2, 3\)"):
        SidLogitsProcessor(trie, SidVocabulary((2, 3)))
    with pytest.raises(ValueError, match="the vocabulary"):
        prefix_allowed_tokens_fn(trie, SidVocabulary((2, 3)))


def test_scores_over_too_small_a_vocabulary_are_an_error():
    with pytest.raises(ValueError, match="scores cover 6 tokens, the SIDs need 7"):
        SidLogitsProcessor(*simple())(torch.tensor([[0]]), torch.zeros(1, 6))


def test_scores_of_legal_tokens_are_untouched():
    scores = torch.randn(1, 9)

    processed = SidLogitsProcessor(*simple())(torch.tensor([[0]]), scores)

    assert torch.equal(processed[0, 3:5], scores[0, 3:5])
    assert processed[0, [0, 1, 2, 5, 6, 7, 8]].isneginf().all()
