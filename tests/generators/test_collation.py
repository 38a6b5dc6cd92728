import numpy as np
import pytest
import torch

from cost_hf.data import DataOptions, read_tables, split_interactions
from cost_hf.generators.collation import CausalCollator, PrefixDataset, Seq2SeqCollator, SequenceDataset, pad_rows
from cost_hf.generators.packing import pack
from cost_hf.generators.prompts import IGNORED_LABEL, PromptBuilder
from cost_hf.generators.ranking_trainer import LengthGroupedSampler, ShuffledSampler
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import toy_batch, toy_catalog


def prompts_for(is_causal: bool, max_history: int = 4, num_user_tokens: int = 0) -> PromptBuilder:
    catalog = toy_catalog()
    vocabulary = SidVocabulary.for_catalog(catalog, num_user_tokens=num_user_tokens)
    return PromptBuilder.for_catalog(catalog, vocabulary, is_causal=is_causal, max_history=max_history)


def padding_share(lengths: np.ndarray, order: list[int], batch_size: int, levels: int = 4) -> float:
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    cells = sum(len(batch) * (batch.max() * levels + 1) for batch in batches)
    return 1 - sum((batch * levels + 1).sum() for batch in batches) / cells


def test_a_causal_prompt_is_begin_then_the_most_recent_items_padded_on_the_left():
    prompts = prompts_for(is_causal=True, max_history=2)

    input_ids, attention_mask = prompts.inputs(torch.tensor([[7, 8, 9], [5, -1, -1]]))

    begin, pad = prompts.vocabulary.begin_id, prompts.vocabulary.pad_id
    levels = prompts.item_tokens.shape[1]
    assert input_ids[0].tolist() == [begin, *prompts.item_tokens[8].tolist(), *prompts.item_tokens[9].tolist()]
    assert input_ids[1].tolist() == [pad] * levels + [begin, *prompts.item_tokens[5].tolist()]
    assert attention_mask.sum(1).tolist() == [2 * levels + 1, levels + 1]


def test_a_seq2seq_prompt_ends_with_the_end_token():
    prompts = prompts_for(is_causal=False)

    input_ids, attention_mask = prompts.inputs(torch.tensor([[3, -1], [1, 2]]))

    assert (input_ids[:, -1] == prompts.vocabulary.eos_id).all()
    assert attention_mask[0].tolist() == [0] * prompts.item_tokens.shape[1] + [1] * (prompts.item_tokens.shape[1] + 1)


def test_an_empty_history_is_a_prompt_without_items():
    input_ids, attention_mask = prompts_for(is_causal=True).inputs(torch.full((2, 0), -1))

    assert input_ids.tolist() == [[prompts_for(is_causal=True).vocabulary.begin_id]] * 2
    assert attention_mask.tolist() == [[1], [1]]


def test_the_user_token_comes_first_and_is_the_same_in_training_and_prompt():
    prompts = prompts_for(is_causal=True, num_user_tokens=10)

    prompt, _ = prompts.inputs(torch.tensor([[1, 2]]), user_ids=["anna"])
    trained = toy_batch(prompts, [("anna", np.array([1, 2, 3]), 0)])["input_ids"]

    assert prompt[0, 0] == prompts.vocabulary.user_token_id("anna")
    assert trained[0, : prompt.shape[1]].tolist() == prompt[0].tolist()


def test_every_item_of_packed_users_is_a_label_and_nothing_else_is():
    prompts = prompts_for(is_causal=True)

    batch = toy_batch(prompts, [("v", np.array([4]), 0), ("u", np.array([1, 2, 3]), 0), ("w", np.array([5]), 0)])

    levels, ignored = prompts.item_tokens.shape[1], [IGNORED_LABEL]
    first, second, third = (prompts.item_tokens[rows].flatten().tolist() for rows in ([1, 2, 3], [4], [5]))
    rest = 3 * levels + 1 - 2 * (1 + levels)
    assert batch["labels"].tolist() == [ignored + first, ignored + second + ignored + third + ignored * rest]
    begin, pad = [prompts.vocabulary.begin_id], [prompts.vocabulary.pad_id]
    assert batch["input_ids"].tolist() == [begin + first, begin + second + begin + third + pad * rest]
    places = list(range(1 + levels))
    assert batch["position_ids"][1].tolist() == places + places + [0] * rest


@pytest.mark.parametrize("length", [0, 1, 4, 5, 10, 23])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_every_item_of_a_long_sequence_is_a_label_once_and_has_history_before_it(length, size):
    dataset = SequenceDataset([np.arange(length)], ["u"], max_items=size)

    examples = [dataset[number] for number in range(len(dataset))]
    labels = [row for _, rows, first in examples for row in rows[first:].tolist()]
    assert labels == list(range(length))
    assert all(len(rows) <= size for _, rows, _ in examples)
    assert all(first >= size // 2 for _, _, first in examples[1:])
    assert dataset.lengths.tolist() == [len(rows) for _, rows, _ in examples]


def test_history_shared_by_two_windows_is_no_label_twice():
    prompts = prompts_for(is_causal=True)

    batch = toy_batch(prompts, [("u", np.array([1, 2, 3]), 2)])

    levels = prompts.item_tokens.shape[1]
    assert (batch["labels"][0, : 1 + 2 * levels] == IGNORED_LABEL).all()
    assert batch["labels"][0, 1 + 2 * levels :].tolist() == prompts.item_tokens[3].tolist()


def listed(dataset: PrefixDataset) -> list[tuple[list[int], int]]:
    examples = [dataset[index] for index in range(len(dataset))]
    return [(rows.tolist(), target) for _, rows, target in examples]


def test_prefixes_give_every_item_but_the_first_as_target_with_the_items_before_it():
    dataset = PrefixDataset([np.array([5, 6, 7, 8]), np.array([1])], ["u", "v"], max_history=2)

    assert listed(dataset) == [([5], 6), ([5, 6], 7), ([6, 7], 8)]


def test_long_rows_are_what_came_before_a_target_and_before_a_row_of_several():
    prefixes = PrefixDataset([np.array([5, 6, 7, 8])], ["u"], max_history=1, with_first_items=True)
    windows = SequenceDataset([np.arange(9)], ["u"], max_items=4)

    assert [prefixes.long_rows(number, 2).tolist() for number in range(5)] == [[], [5], [5, 6], [6, 7], []]
    for number in range(len(windows)):
        _, rows, _ = windows[number]
        before = np.arange(rows[0])
        assert windows.long_rows(number, 100).tolist() == before.tolist()
        assert windows.long_rows(number, 3).tolist() == before[-3:].tolist()


@pytest.mark.parametrize("is_causal", [True, False])
def test_batches_have_the_long_rows_of_their_examples(is_causal):
    prompts = prompts_for(is_causal=is_causal)
    write = prompts.sequence if is_causal else prompts.pair
    examples = [write("u", np.array([1, 2]), 1)._replace(long_rows=rows) for rows in (np.array([4, 1]), np.array([3]))]
    pad_id = prompts.vocabulary.pad_id
    collate = CausalCollator(pad_id, packs=False) if is_causal else Seq2SeqCollator(pad_id)

    assert collate(examples)["long_rows"].tolist() == [[4, 1], [3, -1]]
    assert "long_rows" not in collate([example._replace(long_rows=None) for example in examples])


def test_first_items_are_targets_of_the_empty_prefix_where_asked():
    dataset = PrefixDataset([np.array([5, 6]), np.array([1])], ["u", "v"], max_history=2, with_first_items=True)

    assert listed(dataset) == [([], 5), ([5], 6), ([], 1)]
    assert dataset.lengths.tolist() == [0, 1, 0]


def test_the_empty_prefix_is_a_source_of_the_end_token_alone():
    prompts = prompts_for(is_causal=False)

    batch = toy_batch(prompts, [("u", np.array([], dtype=np.int64), 3)])

    assert batch["input_ids"].tolist() == [[prompts.vocabulary.eos_id]]
    assert batch["attention_mask"].tolist() == [[1]]


def test_seq2seq_labels_are_the_target_tokens_without_an_end_token():
    prompts = prompts_for(is_causal=False)

    batch = toy_batch(prompts, [("u", np.array([1, 2]), 3), ("v", np.array([4]), 5)])

    assert torch.equal(batch["labels"], prompts.item_tokens[[3, 5]])


@pytest.mark.parametrize("is_grouped", [False, True], ids=["shuffled", "grouped"])
def test_the_order_is_a_permutation_and_depends_on_seed_and_epoch_only(is_grouped):
    lengths = np.random.default_rng(0).integers(1, 20, 997)
    sampler, twin = (
        LengthGroupedSampler(lengths, batch_size=16, seed=3) if is_grouped else ShuffledSampler(997, seed=3)
        for _ in range(2)
    )

    first = list(sampler)
    torch.manual_seed(123)  # a global draw must not matter
    sampler.set_epoch(1)
    twin.set_epoch(1)

    assert len(sampler) == 997
    assert sorted(first) == list(range(997))
    assert list(sampler) == list(twin) != first


@pytest.mark.parametrize("batch_size", [32, 64, 128])
def test_length_groups_keep_padding_within_twelve_percent(batch_size):
    lengths = np.minimum(2 + np.random.default_rng(1).geometric(1 / 6, 3285), 20)
    sampler = LengthGroupedSampler(lengths, batch_size=batch_size, seed=0)
    shuffled = np.random.default_rng(2).permutation(len(lengths)).tolist()

    assert padding_share(lengths, list(sampler), batch_size) <= 0.12
    assert padding_share(lengths, shuffled, batch_size) > 0.4


def test_pad_rows_pads_on_the_right_with_minus_one_unless_asked_otherwise():
    rows = [np.array([1, 2]), np.array([], dtype=np.int64), np.array([3])]

    assert pad_rows(rows).tolist() == [[1, 2], [-1, -1], [3, -1]]
    assert pad_rows(rows, fill=0, on_the_left=True).tolist() == [[1, 2], [0, 0], [0, 3]]
    assert pad_rows([]).shape == (0, 0)


def training_part(directory):
    options = DataOptions(path=str(directory))
    split = split_interactions(read_tables(options), options)
    return split.train, list(split.train_user_ids)


@pytest.mark.parametrize(
    ("name", "batch_size", "has_first"),
    [("amazon_industrial", 64, False), ("amazon_industrial", 64, True), ("amazon_games", 128, False)],
)
def test_padding_of_prefixes_stays_within_twelve_percent_on_real_histories(shared_data, name, batch_size, has_first):
    dataset = PrefixDataset(*training_part(shared_data / name), max_history=20, with_first_items=has_first)

    sampler = LengthGroupedSampler(dataset.lengths, batch_size=batch_size, seed=0)

    assert padding_share(dataset.lengths, list(sampler), batch_size) <= 0.12


@pytest.mark.parametrize(
    ("name", "batch_size"), [("amazon_industrial", 64), ("amazon_beauty", 128), ("amazon_games", 128)]
)
def test_packing_keeps_padding_within_eight_percent_on_real_histories(shared_data, name, batch_size):
    dataset = SequenceDataset(*training_part(shared_data / name), max_items=21)
    tokens = 1 + 4 * dataset.lengths[list(ShuffledSampler(len(dataset), seed=0))[: 40 * batch_size]]

    packings = [pack(tokens[start : start + batch_size]) for start in range(0, len(tokens), batch_size)]

    assert 1 - tokens.sum() / sum(packing.num_rows * packing.width for packing in packings) <= 0.08
