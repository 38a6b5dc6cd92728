"""Weights of labels: the loss that they give, and no change where all are 1."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cost_hf.generators.backbones import GeneratorOptions, build_backbone
from cost_hf.generators.collation import PrefixDataset, SequenceDataset
from cost_hf.generators.generator_training import extra_loss, train_generator, training_examples
from cost_hf.generators.options import TrainingOptions
from cost_hf.generators.prompts import IGNORED_LABEL
from tests.recommenders.toys import toy_catalog

SEQUENCES = [np.array([0, 5, 7, 9]), np.array([3, 4]), np.array([8, 2, 1])]
USERS = ["u", "v", "w"]
WEIGHTS = [np.array(part, dtype=np.float32) for part in ([1, 0, 3, 0.5], [0, 0], [2, 1, 0])]
ONES = [np.ones(len(part), dtype=np.float32) for part in SEQUENCES]


def batch_of(kind, weights, **training):
    backbone = build_backbone(GeneratorOptions(kind=kind, size="tiny", max_history=8), toy_catalog(40, (8, 8)), seed=0)
    options = TrainingOptions(**training)
    dataset, collator = training_examples(
        backbone, backbone.prompts(toy_catalog(40, (8, 8))), SEQUENCES, USERS, training=options, weights=weights
    )
    return backbone, collator([dataset[number] for number in range(len(dataset))])


def test_examples_without_a_label_are_left_out():
    windows = SequenceDataset(SEQUENCES, USERS, max_items=9, weights=WEIGHTS)
    unlabelled = SequenceDataset(SEQUENCES, USERS, max_items=9, weights=WEIGHTS, num_unlabelled=1)
    prefixes = PrefixDataset(SEQUENCES, USERS, max_history=8, weights=WEIGHTS)

    assert [windows[number][0] for number in range(len(windows))] == ["u", "w"]
    assert [unlabelled[number][0] for number in range(len(unlabelled))] == ["u", "w"]
    assert [prefixes[number][2] for number in range(len(prefixes))] == [7, 9, 2]
    assert [prefixes.label_weights(number).tolist() for number in range(len(prefixes))] == [[3], [0.5], [1]]


def test_windows_give_the_weights_of_their_labels():
    rows = SequenceDataset([np.arange(7)], ["u"], max_items=4, weights=[np.arange(7, dtype=np.float32)])

    examples = [(rows[number], rows.label_weights(number)) for number in range(len(rows))]
    labels = [(items[first:].tolist(), weights.tolist()) for (_, items, first), weights in examples]

    assert labels == [([0, 1, 2], [0, 1, 2]), ([3, 4], [3, 4]), ([5, 6], [5, 6])]


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_loss_is_the_weighted_sum_over_the_number_of_labels(kind):
    backbone, batch = batch_of(kind, WEIGHTS)
    weights = batch.pop("label_weights")
    labels = batch["labels"]

    output = backbone.model.eval()(**batch)
    count = (labels != IGNORED_LABEL).sum()
    found = output.loss + extra_loss(output.logits, labels, weights, is_causal=kind == "causal") / count

    logits = output.logits[:, :-1] if kind == "causal" else output.logits
    wanted = labels[:, 1:] if kind == "causal" else labels
    factors = weights[:, 1:] if kind == "causal" else weights
    losses = functional.cross_entropy(logits.transpose(1, 2).float(), wanted, reduction="none")
    torch.testing.assert_close(found, (factors * losses).sum() / count)
    assert (weights[labels != IGNORED_LABEL] > 0).all()


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_labels_of_weight_zero_are_not_learned(kind):
    _, batch = batch_of(kind, WEIGHTS, first_items=True)
    _, plain = batch_of(kind, None, first_items=True)

    learned = sum(int((part > 0).sum()) for part in WEIGHTS)
    tokens = len(toy_catalog(40, (8, 8)).level_sizes)
    assert int((batch["labels"] != IGNORED_LABEL).sum()) == learned * tokens
    assert int((plain["labels"] != IGNORED_LABEL).sum()) == sum(map(len, SEQUENCES)) * tokens


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_weights_of_one_train_bit_for_bit_the_same_model(tmp_path, kind):
    models = []
    for name, weights in (("plain", None), ("ones", ONES)):
        catalog = toy_catalog(40, (8, 8))
        options = GeneratorOptions(kind=kind, size="tiny", max_history=8, dropout=0.1)
        backbone = build_backbone(options, catalog, seed=0)
        torch.manual_seed(0)
        trained = train_generator(
            backbone,
            backbone.prompts(catalog),
            SEQUENCES,
            USERS,
            generator=options,
            training=TrainingOptions(epochs=2, batch_size=2, warmup_steps=1),
            validate=lambda model: {"ndcg@10": 0.0},
            output_dir=tmp_path / name,
            seed=0,
            weights=weights,
        )
        models.append(trained.model.state_dict())

    for name, values in models[0].items():
        assert torch.equal(values, models[1][name]), name


@pytest.mark.trains
def test_a_heavy_label_is_learned_better_than_a_light_one(tmp_path):
    # the same history is followed by two items, one of which weighs more
    sequences = [np.array([1, 2]), np.array([1, 3])] * 8
    weights = [np.array([1, 0.1], dtype=np.float32), np.array([1, 1.9], dtype=np.float32)] * 8
    catalog = toy_catalog(40, (8, 8))
    options = GeneratorOptions(size="tiny", max_history=8, dropout=0.0)
    backbone = build_backbone(options, catalog, seed=0)
    (prompts,) = backbone.prompts(catalog)
    train_generator(
        backbone,
        [prompts],
        sequences,
        ["u"] * len(sequences),
        generator=options,
        training=TrainingOptions(epochs=12, batch_size=8, warmup_steps=1, learning_rate=5e-3),
        validate=lambda model: {"ndcg@10": 0.0},
        output_dir=tmp_path,
        seed=0,
        weights=weights,
    )

    input_ids, attention_mask = prompts.inputs(torch.tensor([[1]]))
    logits = backbone.model.eval()(input_ids=input_ids, attention_mask=attention_mask).logits[0, -1]
    light, heavy = (logits[prompts.item_tokens[row, 0]] for row in (2, 3))
    assert prompts.item_tokens[2, 0] != prompts.item_tokens[3, 0]
    assert heavy > light
