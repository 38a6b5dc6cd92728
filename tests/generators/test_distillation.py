"""Soft targets of a teacher: their distribution, their loss against a plain loop, and what training makes of them."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cost_hf.files import DamagedFileError
from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.collation import CausalCollator, PrefixDataset
from cost_hf.generators.distillation import SOFT_LABELS, ListTable, SoftTargets, Teacher, TeacherLists, soft_label_loss
from cost_hf.generators.generator_training import GeneratorTrainer, train_generator, training_examples
from cost_hf.generators.options import GeneratorOptions, TrainingOptions
from cost_hf.generators.tasks import NextItemTask
from tests.generators.backbone_toys import causal_backbone
from tests.recommenders.toys import toy_catalog

SEQUENCES = [np.array(rows) for rows in ([7], [3, 9, 3], [1, 2, 5, 2, 30, 8, 11, 4, 4, 17, 21], [12, 6])]
USERS = ["a", "b", "c", "d"]


def lists_for(sequences, *, width: int = 4, num_items: int = 40, most: int = 100, seed: int = 0) -> ListTable:
    """Seeded lists without an item twice; one of the last sequence's is short, and one of the third is empty."""
    generator = np.random.default_rng(seed)
    lists = ListTable.empty([len(rows) for rows in sequences], width=width, most=most)
    for items, scores in zip(lists.items, lists.scores, strict=True):
        items[:] = generator.permutation(num_items)[:width]
        scores[:] = -np.sort(-generator.normal(size=width))
    for row, size in ((-2, 2), (-5, 0)):
        lists.items[row, size:] = -1
        lists.scores[row, size:] = -np.inf
    return lists


def one_item_lists(sequences) -> ListTable:
    """Lists of the true items alone."""
    lists = ListTable.empty([len(rows) for rows in sequences], width=3, most=100)
    lists.items[:, 0] = np.concatenate([[*rows[1:], 0] for rows in sequences])
    lists.scores[:, 0] = 1.0
    return lists


def taught_by(positions: ListTable, *, num_items: int = 40) -> TeacherLists:
    """Lists of positions, and of the items 3 to 5 alone."""
    catalog = lists_for([[row] for row in range(num_items)], seed=1)
    catalog.items[:3] = catalog.items[6:] = -1
    return TeacherLists(positions, catalog)


def generator_of(level_sizes=(4, 5, 3), *, max_history: int = 8, **options) -> tuple[Backbone, list]:
    catalog = toy_catalog(40, level_sizes)
    options = GeneratorOptions(size="tiny", dropout=0.0, max_history=max_history, **options)
    backbone = build_backbone(options, catalog, seed=0)
    with torch.no_grad():  # wide weights: near-uniform answers would hide an error
        weight = backbone.model.get_input_embeddings().weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    backbone.model.eval()
    return backbone, backbone.prompts(catalog)


def batch_of(backbone, prompts, lists, *, sequences=SEQUENCES, epoch: int = 0, **training) -> dict[str, torch.Tensor]:
    options = TrainingOptions(teacher="t", teacher_ends=0.0, teacher_catalog=0.0, **training)
    teacher = None if lists is None else taught_by(lists)
    dataset, collate = training_examples(backbone, prompts, sequences, USERS, training=options, teacher=teacher)
    return collate([dataset[epoch * len(dataset) + number] for number in range(len(dataset))])


def losses(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own loss as a sum over labels, and what soft labels of weight 1 add to it."""
    soft = {name: batch[name] for name in SOFT_LABELS}
    output = model(**{name: value for name, value in batch.items() if name not in soft})
    return output.loss * (batch["labels"] != -100).sum(), soft_label_loss(output.logits, soft)


def log_probabilities(model, prompts, user: str, rows: np.ndarray, tokens: list[int]) -> torch.Tensor:
    """Of the next token after the last `max_history` rows and some tokens of the next item, computed alone."""
    source = prompts.sequence(user, rows, len(rows)).tokens.tolist()
    return model(input_ids=torch.tensor([source + tokens])).logits[0, -1].log_softmax(-1)


def item_loss(model, prompts, user: str, rows: np.ndarray, item: int) -> torch.Tensor:
    """The negative log-probability of an item."""
    tokens = prompts.item_tokens[item].tolist()
    found = [log_probabilities(model, prompts, user, rows, tokens[:level])[token] for level, token in enumerate(tokens)]
    return -sum(found)


def positions_with_lists(lists):
    for sequence, rows in enumerate(SEQUENCES):
        for position in range(1, len(rows)):
            row = int(lists.rows(sequence, np.array([position]))[0])
            if row >= 0:
                yield sequence, position, row


def test_lists_belong_to_the_last_positions_of_a_sequence_and_not_to_its_first():
    lists = ListTable.empty([1, 0, 6, 2], width=2, most=3)
    lists.items[:, 0] = np.arange(len(lists.items))

    assert len(lists.items) == 6  # one of one, three of six, and two of two
    assert lists.rows(0, np.arange(2)).tolist() == [-1, 0]
    assert lists.rows(2, np.arange(7)).tolist() == [-1, -1, -1, -1, 1, 2, 3]
    assert lists.rows(3, np.arange(3)).tolist() == [-1, 4, 5]


def test_an_empty_list_is_none():
    lists = ListTable.empty([3], width=2, most=3)
    lists.items[1, 0] = 5

    assert lists.rows(0, np.arange(4)).tolist() == [-1, -1, 1, -1]


def test_the_distribution_is_a_softmax_of_standardised_scores_over_the_items_of_a_list():
    items = np.array([[4, 2, 9], [1, 8, -1], [6, -1, -1]], dtype=np.int32)
    scores = np.array([[3.0, 2.0, 1.0], [10.0, -10.0, -np.inf], [5.0, -np.inf, -np.inf]], dtype=np.float32)
    lists = ListTable(items, scores, np.array([1]), np.array([0]))

    found = lists.distribution(np.arange(3), 2.0)

    first = np.exp(np.array([1.0, 0.0, -1.0]) / np.sqrt(2 / 3) / 2)
    second = np.exp(np.array([1.0, -1.0]) / 2)
    np.testing.assert_allclose(found[0], first / first.sum())
    np.testing.assert_allclose(found[1], [*(second / second.sum()), 0.0])
    assert found[2].tolist() == [1.0, 0.0, 0.0]


def test_equal_scores_have_equal_weights():
    lists = ListTable(np.array([[4, 2]], np.int32), np.zeros((1, 2), np.float32), np.array([1]), np.array([0]))

    assert lists.distribution(np.array([0]), 0.1).tolist() == [[0.5, 0.5]]


def test_lists_come_back_from_disk_and_others_are_an_error(tmp_path):
    lists = taught_by(lists_for(SEQUENCES))
    lists.save(tmp_path)

    loaded = TeacherLists.load(tmp_path)

    for part in ("positions", "catalog"):
        for name in ("items", "scores", "firsts", "starts"):
            assert np.array_equal(getattr(getattr(loaded, part), name), getattr(getattr(lists, part), name))
    save_file({"weights": np.zeros(3)}, tmp_path / "catalog.safetensors")
    with pytest.raises(DamagedFileError, match="holds no lists of a teacher"):
        TeacherLists.load(tmp_path)


@pytest.mark.parametrize("num_user_tokens", [0, 5])
@pytest.mark.parametrize("level_sizes", [(4, 5, 3), (9,)])
def test_the_loss_of_a_path_is_that_of_a_plain_loop(level_sizes, num_user_tokens):
    backbone, prompts = generator_of(level_sizes, num_user_tokens=num_user_tokens, max_history=20)
    model, lists = backbone.model, lists_for(SEQUENCES)
    teacher = Teacher(lists, 0.5, 0.7, seed=0)
    tokens = prompts[0].item_tokens.numpy()
    expected = 0.0
    for sequence, position, row in positions_with_lists(lists):
        rows = SEQUENCES[sequence]
        history = rows[:position]
        labels = np.arange(len(rows))
        drawn = teacher.soft_targets(sequence, labels, labels, tokens, number=sequence)
        path = drawn.paths[drawn.places.tolist().index(position)].tolist()
        weights = lists.distribution(np.array([row]), 0.7)[0]
        for level in range(len(path)):
            found = log_probabilities(model, prompts[0], USERS[sequence], history, path[:level])
            matching = [
                (tokens[item][level], weight)
                for item, weight in zip(lists.items[row], weights, strict=True)
                if item >= 0 and tokens[item][:level].tolist() == path[:level]
            ]
            total = sum(weight for _, weight in matching)
            expected -= sum(weight / total * found[token] for token, weight in matching)
        expected -= item_loss(model, prompts[0], USERS[sequence], history, rows[position])

    _, added = losses(model, batch_of(backbone, prompts, lists, teacher_temperature=0.7))

    torch.testing.assert_close(added, expected, atol=1e-3, rtol=1e-5)


def test_the_loss_expected_over_paths_is_the_cross_entropy_of_the_listed_items():
    backbone, prompts = generator_of(max_history=20)
    lists = lists_for(SEQUENCES)
    tokens = prompts[0].item_tokens.numpy()
    rows = SEQUENCES[2]
    example = prompts[0].sequence("c", rows, 0)
    weights = lists.distribution(lists.rows(2, np.array([4])), 1.0)
    items = lists.items[lists.rows(2, np.array([4]))]
    place = np.array([1 + 4 * tokens.shape[1]])
    expected = sum(
        weight * item_loss(backbone.model, prompts[0], "c", rows[:4], int(item))
        for weight, item in zip(weights[0], items[0], strict=True)
    )

    found = 0.0
    for column, weight in enumerate(weights[0]):
        path = tokens[items[:, column]]
        targets = SoftTargets(place, path, tokens[items], weights)
        _, added = losses(backbone.model, CausalCollator(0)([example._replace(soft_targets=targets)]))
        found += weight * added

    true = item_loss(backbone.model, prompts[0], "c", rows[:4], int(rows[4]))
    torch.testing.assert_close(found, expected - true, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("num_user_tokens", [0, 5])
def test_a_teacher_of_the_true_items_changes_neither_loss_nor_gradients(num_user_tokens):
    backbone, prompts = generator_of(num_user_tokens=num_user_tokens, max_history=4)
    model = backbone.model

    own, added = losses(model, batch_of(backbone, prompts, one_item_lists(SEQUENCES)))
    added.backward()

    assert abs(added.item()) < 1e-3
    assert max(weight.grad.abs().max() for weight in model.parameters()) < 1e-4
    plain = batch_of(backbone, prompts, None)
    assert not set(SOFT_LABELS) & set(plain)
    torch.testing.assert_close(own, model(**plain).loss * (plain["labels"] != -100).sum(), atol=1e-3, rtol=1e-6)


def test_windows_of_a_long_sequence_have_the_targets_of_their_own_labels():
    backbone, prompts = generator_of(max_history=4)
    lists = one_item_lists(SEQUENCES)

    batch = batch_of(backbone, prompts, lists)

    assert (batch["labels"] != -100).sum() == sum(map(len, SEQUENCES)) * prompts[0].item_tokens.shape[1]
    _, added = losses(backbone.model, batch)
    assert abs(added.item()) < 1e-3  # a list of another position would not have its true item


def test_labels_of_a_batch_are_named_once_and_sum_up_to_their_totals():
    backbone, prompts = generator_of()

    batch = batch_of(backbone, prompts, lists_for(SEQUENCES))

    keys = list(zip(*(batch[name].tolist() for name in SOFT_LABELS[:3]), strict=True))
    assert len(set(keys)) == len(keys)
    totals = torch.zeros(batch["input_ids"].shape)
    totals.index_put_((batch["soft_rows"], batch["soft_columns"]), batch["soft_weights"], accumulate=True)
    torch.testing.assert_close(batch["soft_totals"], totals)


def test_paths_depend_on_the_number_of_an_example_alone_and_change_with_the_epoch():
    backbone, prompts = generator_of()
    lists = lists_for(SEQUENCES)
    first, again, later = (batch_of(backbone, prompts, lists, epoch=epoch) for epoch in (0, 0, 1))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["input_ids"], later["input_ids"])
    assert torch.equal(first["labels"], later["labels"])


def test_a_path_is_drawn_as_often_as_its_weight_says():
    lists = lists_for(SEQUENCES)
    teacher = Teacher(lists, 1.0, 1.0, seed=0)
    tokens = np.arange(40)[:, None]
    place = np.array([2])
    drawn = [teacher.soft_targets(2, place, place, tokens, number=number).paths[0, 0] for number in range(4000)]
    targets = [teacher.target(2, 2, -7, number=number) for number in range(4000)]

    row = lists.rows(2, place)
    weights = lists.distribution(row, 1.0)[0]
    for chosen in (drawn, targets):
        shares = [(np.array(chosen) == item).mean() for item in lists.items[row[0]]]
        np.testing.assert_allclose(shares, weights, atol=0.04)  # five standard deviations


def test_an_example_of_one_target_has_the_true_one_with_the_rest_of_the_weight():
    lists = lists_for(SEQUENCES)
    teacher = Teacher(lists, 0.25, 1.0, seed=0)

    targets = [teacher.target(2, 2, 99, number=number) for number in range(4000)]

    assert abs((np.array(targets) == 99).mean() - 0.75) < 0.035
    assert teacher.target(2, 0, 99, number=0) == 99  # no history, no list


def test_prefixes_of_a_seq2seq_generator_get_drawn_targets():
    catalog = toy_catalog(40, (8, 8))
    backbone = build_backbone(GeneratorOptions(kind="seq2seq", size="tiny", max_history=3), catalog, seed=0)
    prompts = backbone.prompts(catalog)
    rows = PrefixDataset(SEQUENCES, USERS, max_history=3)
    lists = lists_for(SEQUENCES)
    teacher = Teacher(lists, 1.0, 1.0, seed=0)
    taught = NextItemTask(rows, prompts, teacher=teacher)
    plain = NextItemTask(rows, prompts)
    table = prompts[0].item_tokens.numpy()

    for number in range(len(rows)):
        row = int(lists.rows(*((place := rows.first_label(number))[0], np.array([place[1]])))[0])
        items = [int(rows[number][2])] if row < 0 else lists.items[row][lists.items[row] >= 0].tolist()
        assert taught[number].target.tolist() in table[items].tolist()
        assert taught[number].source.tolist() == plain[number].source.tolist()


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_whole_sequences_are_histories_of_a_drawn_item(kind):
    backbone, prompts = generator_of(kind=kind, max_history=4)
    teacher = taught_by(lists_for(SEQUENCES))
    training = TrainingOptions(teacher="t", teacher_ends=1.0, teacher_catalog=0.0)
    taught, _ = training_examples(backbone, prompts, SEQUENCES, USERS, training=training, teacher=teacher)
    plain, _ = training_examples(backbone, prompts, SEQUENCES, USERS, training=TrainingOptions())
    table = prompts[0].item_tokens.numpy()

    assert len(taught) == len(plain) + len(SEQUENCES)
    for number, rows in enumerate(SEQUENCES):
        example = taught[len(plain) + number]
        listed = teacher.positions.items[teacher.positions.rows(number, np.array([len(rows)]))[0]]
        history = [token for row in rows[-4:] for token in table[row].tolist()]
        around = (1, len(example.source)) if kind == "causal" else (0, -1)
        assert example.source[slice(*around)].tolist() == history
        assert example.target.tolist() in table[listed].tolist()
        assert taught.lengths[len(plain) + number] >= len(example.source)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_items_with_a_list_are_examples_of_their_own(kind):
    backbone, prompts = generator_of(kind=kind, num_user_tokens=5)
    teacher = taught_by(lists_for(SEQUENCES))
    training = TrainingOptions(teacher="t", teacher_ends=0.0, teacher_catalog=2.0)
    parts = {"training": training, "teacher": teacher}
    taught, collate = training_examples(backbone, prompts, SEQUENCES, USERS, **parts)
    plain, _ = training_examples(backbone, prompts, SEQUENCES, USERS, training=TrainingOptions())
    table = prompts[0].item_tokens.numpy()
    vocabulary = prompts[0].vocabulary

    assert len(taught) == len(plain) + 2 * 3
    for turn in range(6):
        example = taught[len(plain) + turn]
        item = 3 + turn % 3
        listed = teacher.catalog.items[item][teacher.catalog.items[item] >= 0]
        around = ([vocabulary.begin_id], []) if kind == "causal" else ([], [vocabulary.eos_id])  # nobody's token
        assert example.source.tolist() == [*around[0], *table[item].tolist(), *around[1]]
        assert example.target.tolist() in table[listed].tolist()
        assert taught.lengths[len(plain) + turn] >= len(example.source)
    collate([taught[number] for number in range(len(taught))])


def test_a_model_without_masks_for_pairs_of_tokens_is_refused(tmp_path):
    directory = causal_backbone(tmp_path, "gpt2", n_positions=256)
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(backbone=str(directory), prompt="continuation", max_history=3)
    backbone = build_backbone(options, catalog, seed=0)
    backbone.model.register_forward_hook(lambda *_: None)

    with pytest.raises(ValueError, match=r"training.teacher needs a model that takes a mask .*; set training.teacher"):
        batch_of(backbone, backbone.prompts(catalog), lists_for(SEQUENCES))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_weight": 1.5}, r"training.teacher_weight must be a share from 0 to 1, got 1.5"),
        ({"teacher_temperature": 0.0}, "training.teacher_temperature must be above 0, got 0.0"),
        ({"teacher_ends": 101.0}, "training.teacher_ends must be 0 to 100 passes, got 101.0"),
        ({"teacher_catalog": -1.0}, "training.teacher_catalog must be 0 to 100 passes, got -1.0"),
        ({"teacher_items": 0}, "training.teacher_items must be at least 1, got 0"),
        ({"teacher_folds": 1}, "training.teacher_folds must be at least 2, got 1"),
    ],
)
def test_options_that_no_teacher_can_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options).validate()


def test_fields_of_a_teacher_that_is_not_used_are_no_input():
    plain = TrainingOptions().content()

    assert not [name for name in plain if name.startswith("teacher")]
    assert TrainingOptions(teacher="markov", teacher_weight=0.0, teacher_items=3).content() == plain
    used = {"teacher_weight": 0.5, "teacher_temperature": 1.0, "teacher_ends": 1.0, "teacher_catalog": 1.0}
    assert TrainingOptions(teacher="markov").content() == plain | used


def test_the_trainer_adds_the_weighted_loss_and_divides_it_by_the_labels_of_a_step(tmp_path):
    backbone, prompts = generator_of()
    training = TrainingOptions(teacher="t", teacher_weight=0.3)
    teacher = taught_by(lists_for(SEQUENCES))
    dataset, collate = training_examples(backbone, prompts, SEQUENCES, USERS, training=training, teacher=teacher)
    trainer = GeneratorTrainer(
        backbone.model, training, dataset=dataset, collator=collate, directory=tmp_path, seed=0, validate=None
    )
    batch = collate([dataset[number] for number in range(len(dataset))])
    backbone.model.eval()
    own, added = losses(backbone.model, batch)
    labels = (batch["labels"] != -100).sum()

    for count in (None, 2 * labels):
        found = trainer.compute_loss(backbone.model, dict(batch), num_items_in_batch=count)
        torch.testing.assert_close(found, (own + 0.3 * added) / (labels if count is None else count))


def fit(directory, lists, *, kind="causal", stop_after=None, **training):
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(kind=kind, size="tiny", max_history=8, dropout=0.1)
    backbone = build_backbone(options, catalog, seed=0)
    calls = []

    def validate(model):
        calls.append(model.training)
        if stop_after is not None and len(calls) > stop_after:
            raise KeyboardInterrupt
        return {"ndcg@10": float(len(calls))}

    sequences = [(number + np.arange(4 + number % 5)) % 40 for number in range(60)]
    trained = train_generator(
        backbone,
        backbone.prompts(catalog),
        sequences,
        [f"u{number}" for number in range(60)],
        generator=options,
        training=TrainingOptions(**{"epochs": 3, "batch_size": 16, "warmup_steps": 2, "teacher": "t", **training}),
        validate=validate,
        output_dir=directory,
        seed=0,
        teacher=taught_by(lists(sequences)) if lists else None,
    )
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def are_equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_weight_0_is_training_without_a_teacher_bit_for_bit(tmp_path, kind):
    plain = fit(tmp_path / "plain", None, kind=kind)

    assert are_equal(plain, fit(tmp_path / "zero", lists_for, kind=kind, teacher_weight=0.0))
    assert not are_equal(plain, fit(tmp_path / "half", lists_for, kind=kind))


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_taught_run_stopped_in_its_second_epoch_continues_bit_for_bit(tmp_path, kind):
    straight = fit(tmp_path / "straight", lists_for, kind=kind)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", lists_for, kind=kind, stop_after=1)

    assert are_equal(straight, fit(tmp_path / "stopped", lists_for, kind=kind))
