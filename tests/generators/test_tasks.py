import numpy as np
import pytest
import torch

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.collation import PrefixDataset
from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.item_texts import ItemTexts
from cost_hf.generators.options import NEXT_ITEM, TEXT_TASKS, TaskOptions, TrainingOptions
from cost_hf.generators.prompts import Example
from cost_hf.generators.ranking_trainer import UnrolledSampler
from cost_hf.generators.tasks import TaskMixture
from tests.generators.backbone_toys import causal_backbone, seq2seq_backbone
from tests.recommenders.toys import toy_catalog

CATALOG = toy_catalog(40, (8, 8))
SEQUENCES = [np.arange(start, start + 4 + start % 3) % 40 for start in range(12)]
USERS = [f"u{number}" for number in range(12)]
TITLES = [f"red lamp {row}" for row in range(40)]


def item_texts(**changes) -> ItemTexts:
    fields = {"titles": TITLES, "texts": [f"{title} for the desk" for title in TITLES], "is_known": np.ones(40, bool)}
    return ItemTexts(**fields | changes)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    return {"causal": causal_backbone(folder / "llama"), "seq2seq": seq2seq_backbone(folder / "t5")}


def examples_of(directory, tasks: TaskOptions, *, texts=None, prompt="instruction", kind="causal", **options):
    generator = GeneratorOptions(kind=kind, backbone=str(directory), prompt=prompt, **options)
    backbone = build_backbone(generator, CATALOG, seed=0, tasks=tasks)
    mixture, collator = training_examples(
        backbone,
        backbone.prompts(CATALOG),
        SEQUENCES,
        USERS,
        training=TrainingOptions(),
        tasks=tasks,
        item_texts=texts or item_texts(),
        overflow=generator.overflow,
        seed=0,
    )
    return backbone, mixture, collator


class Numbers:
    """A task whose examples say which number was asked for."""

    def __init__(self, size: int, base: int):
        self.size, self.base, self.lengths = size, base, np.arange(size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> Example:
        return Example(np.array([self.base]), np.array([number % self.size]), np.array([number // self.size]))


def epoch(mixture: TaskMixture, number: int) -> list[tuple[int, int, int]]:
    first = number * len(mixture)
    return [tuple(int(part[0]) for part in mixture[first + index][:3]) for index in range(len(mixture))]


def test_an_epoch_gives_every_task_its_weight_times_its_examples():
    mixture = TaskMixture({"a": Numbers(10, 1), "b": Numbers(8, 2), "c": Numbers(6, 3)}, {"a": 1.0, "b": 0.25, "c": 2})

    counts = np.bincount([task for task, _, _ in epoch(mixture, 0)])

    assert counts.tolist() == [0, 10, 2, 12]
    assert len(mixture) == len(mixture.lengths) == 24


def test_a_part_of_a_task_takes_turns_until_all_had_one():
    mixture = TaskMixture({"a": Numbers(10, 1), "b": Numbers(8, 2)}, {"a": 1, "b": 0.25}, seed=3)

    seen = [row for number in range(4) for task, row, _ in epoch(mixture, number) if task == 2]

    assert sorted(seen) == list(range(8))
    assert seen != sorted(seen)


def test_a_whole_task_comes_in_its_order_with_another_pass_every_epoch():
    mixture = TaskMixture({"a": Numbers(5, 1)}, {"a": 1.0})

    assert epoch(mixture, 0) == [(1, row, 0) for row in range(5)]
    assert epoch(mixture, 7) == [(1, row, 7) for row in range(5)]


def test_the_sampler_numbers_examples_on_through_the_epochs():
    class Order:
        epoch = 2

        def __len__(self):
            return 3

        def __iter__(self):
            return iter([2, 0, 1])

    assert list(UnrolledSampler(Order())) == [8, 6, 7]


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("task", TEXT_TASKS)
def test_the_loss_covers_the_answer_and_nothing_else(directories, kind, task):
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, task: 1.0})
    backbone, mixture, collator = examples_of(directories[kind], tasks, kind=kind)
    example = mixture[len(mixture) - 1]  # of the last task
    batch = collator([example, mixture[len(mixture) - 2]])

    question = backbone.tokenizer.decode(np.concatenate([example.shared, example.source]))
    answer = backbone.tokenizer.decode(example.target)
    learned = batch["labels"][batch["labels"] >= 0].tolist()

    assert sorted(learned) == sorted([*example.target.tolist(), *mixture[len(mixture) - 2].target.tolist()])
    has_sid_answer = task in ("text_to_item", "titles_to_item")
    assert answer.startswith("<s_a_") if has_sid_answer else answer.startswith("red lamp")
    assert ("<s_a_" in question) != has_sid_answer
    assert ("red lamp" in question) == has_sid_answer


def test_an_example_has_the_items_of_its_subject(directories):
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, "history_to_title": 1.0}, paraphrases=False)
    backbone, mixture, _ = examples_of(directories["causal"], tasks)
    prefixes = PrefixDataset(SEQUENCES, USERS, max_history=20)
    first = len(prefixes)  # next items come first, one a prefix

    for number in (0, 5, len(prefixes) - 1):
        _, history, target = prefixes[number]
        tokens = backbone.prompts(CATALOG)[0].item_tokens
        for place, wanted in ((number, tokens[target].tolist()), (first + number, None)):
            example = mixture[place]
            read = [*example.shared.tolist(), *example.source.tolist()]
            items = tokens[history].flatten().tolist()
            assert any(read[start : start + len(items)] == items for start in range(len(read)))
            assert wanted is None or example.target.tolist() == wanted
        assert backbone.tokenizer.decode(mixture[first + number].target[:-1]) == TITLES[target]


def test_paraphrases_change_with_the_epoch_and_the_first_alone_is_taken_where_asked(directories):
    for paraphrases, many in ((True, True), (False, False)):
        tasks = TaskOptions(paraphrases=paraphrases)
        _, mixture, _ = examples_of(directories["causal"], tasks)
        shared = [mixture[number * len(mixture)].shared.tobytes() for number in range(30)]
        assert (len(set(shared)) > 1) == many


def test_examples_depend_on_their_number_alone(directories):
    tasks = TaskOptions(weights=dict.fromkeys([NEXT_ITEM, *TEXT_TASKS], 0.6))
    first, second = (examples_of(directories["causal"], tasks)[1] for _ in range(2))

    numbers = np.random.default_rng(0).permutation(3 * len(first))
    for number in numbers.tolist():
        _ = second[int(numbers[0])]  # in another order
        for left, right in zip(first[number][:3], second[number][:3], strict=True):
            assert left.tolist() == right.tolist()


def test_items_that_are_held_back_are_spoken_of_nowhere(directories):
    is_known = np.arange(40) % 2 == 0
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, "text_to_item": 1.0, "item_to_title": 1.0})
    backbone, mixture, _ = examples_of(directories["causal"], tasks, texts=item_texts(is_known=is_known))
    counts = dict(zip(mixture.names, mixture.counts, strict=True))

    assert counts["text_to_item"] == counts["item_to_title"] == 20
    said = [backbone.tokenizer.decode(mixture[number].tokens) for number in range(len(mixture))]
    hidden = [f"red lamp {row}" for row in range(1, 40, 2)]
    assert not any(f"{title}<" in text or f"{title} for" in text for text in said for title in hidden)


def test_titles_that_do_not_exist_leave_their_examples_out(directories):
    titles = [None if row < 20 else title for row, title in enumerate(TITLES)]
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, "item_to_title": 1.0})
    _, mixture, _ = examples_of(directories["causal"], tasks, texts=item_texts(titles=titles))
    assert mixture.counts[1] == 20

    with pytest.raises(ValueError, match="the task item_to_title needs items with texts, and there are none"):
        examples_of(directories["causal"], tasks, texts=item_texts(titles=[None] * 40))


def test_a_question_that_is_too_long_is_refused_before_training(tmp_path):
    directory = causal_backbone(tmp_path, max_position_embeddings=90)
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, "titles_to_item": 1.0})

    told = r"a prompt of the task titles_to_item of 3 items takes \d+ tokens .* context of 90; allow 1 items"
    with pytest.raises(ValueError, match=told):
        examples_of(directory, tasks, max_history=3)


@pytest.mark.parametrize("task", ["titles_to_item", "history_to_title"])
def test_a_question_that_is_too_long_drops_its_oldest_items_where_asked(tmp_path, task):
    directory = causal_backbone(tmp_path, max_position_embeddings=96)
    options = TaskOptions(weights={NEXT_ITEM: 1.0, task: 1.0})
    titles = ["a long red lamp for the desk " * 3 + str(row) for row in range(40)]

    _, mixture, _ = examples_of(
        directory, options, texts=item_texts(titles=titles), overflow="drop_oldest", max_history=20, prompt="bare"
    )

    lengths = [len(mixture[number].tokens) for number in range(len(mixture))]
    assert max(lengths) <= 96
    assert mixture.tasks[1].max_items < 20


def test_a_question_without_items_that_is_too_long_has_nothing_to_drop(tmp_path):
    directory = causal_backbone(tmp_path, max_position_embeddings=96)
    options = TaskOptions(weights={NEXT_ITEM: 1.0, "text_to_item": 1.0})

    with pytest.raises(ValueError, match=r"of the task text_to_item of 0 items takes .* shorten the text"):
        examples_of(directory, options, overflow="drop_oldest", prompt="bare")


def test_all_position_training_shares_the_words_of_a_prompt(directories):
    _, mixture, collator = examples_of(directories["causal"], TaskOptions(paraphrases=False), prompt="continuation")

    batch = collator([mixture[number] for number in range(len(mixture))])

    levels, items = 3, sum(map(len, SEQUENCES))
    assert int((batch["labels"] >= 0).sum()) == levels * items
    assert len(batch["labels"]) < len(SEQUENCES)


@pytest.mark.parametrize("prompt", ["continuation", "instruction", "bare"])
@pytest.mark.parametrize("paraphrases", [True, False])
def test_packed_examples_have_the_loss_and_gradients_they_have_alone(directories, prompt, paraphrases):
    tasks = TaskOptions(weights={NEXT_ITEM: 1.0, "item_to_title": 0.3}, paraphrases=paraphrases)
    backbone, mixture, collator = examples_of(directories["causal"], tasks, prompt=prompt)
    model = backbone.model.train()
    examples = [mixture[number] for number in (*range(6), len(mixture) - 1)]
    assert collator.packs

    def sums(batches):
        model.zero_grad()
        loss = sum(model(**batch, num_items_in_batch=torch.tensor(1)).loss for batch in batches)
        loss.backward()
        return loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}

    loss, gradients = sums([collator(examples)])
    plain = [torch.from_numpy(example.tokens)[None] for example in examples]
    labels = [ids.clone() for ids in plain]
    for ids, example in zip(labels, examples, strict=True):
        ids[0, : len(example.shared) + len(example.source)] = -100
    alone = [{"input_ids": ids, "labels": wanted} for ids, wanted in zip(plain, labels, strict=True)]
    expected, expected_gradients = sums(alone)

    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=2e-4)


def test_a_neighbour_in_a_row_with_shared_words_changes_nothing(directories):
    backbone, mixture, collator = examples_of(
        directories["causal"], TaskOptions(paraphrases=False), prompt="continuation"
    )
    model, examples = backbone.model.eval(), [mixture[number] for number in range(4)]
    changed = [examples[0], examples[1]._replace(target=examples[1].target[::-1].copy()), *examples[2:]]

    first, second = collator(examples), collator(changed)
    is_same = (first["input_ids"] == second["input_ids"]).all()
    logits = [model(**{k: v for k, v in batch.items() if k != "labels"}).logits for batch in (first, second)]

    assert not is_same
    row, _ = ((first["input_ids"] != second["input_ids"]).nonzero()[0]).tolist()
    places = (first["input_ids"][row] != second["input_ids"][row]).nonzero().flatten()
    moved = ~torch.isclose(logits[0], logits[1], atol=1e-6).all(-1)
    is_own = torch.zeros_like(moved)
    is_own[row, int(places[0]) : int(places[0]) + len(examples[1].target)] = True
    assert int(places[-1]) < int(places[0]) + len(examples[1].target)
    assert bool(moved[is_own].any()) and not bool(moved[~is_own].any())  # nobody but the changed user


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"next_items": 1.0}, "tasks.weights takes the tasks next_item, .*, got 'next_items'"),
        ({"next_item": 0.0, "item_to_title": 1.0}, "above 0 for next_item"),
        ({"next_item": 1.0, "item_to_title": -1.0}, "tasks.weights must be 0 or more"),
        ({}, "above 0 for next_item"),
    ],
)
def test_weights_that_no_mixture_has_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        TaskOptions(weights=weights).validate()
