from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.data.row_lists import RowLists
from cost_hf.generators.collation import SequenceDataset
from cost_hf.methods import dense_training
from cost_hf.methods.sasrec import configuration_sasrec, training
from cost_hf.methods.sasrec import options as sasrec_options
from cost_hf.methods.sasrec.method import OBJECTIVES, SasRec
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.options import SasRecModelOptions, SasRecOptions
from cost_hf.methods.sasrec.training import (
    HistoryCollator,
    build_model,
    train_sequences,
)
from cost_hf.recommenders.dense import DenseScorer
from tests.methods.sasrec.sasrec_toys import ITEMS, WIDTH, Killed, item_vectors, walks

pytestmark = pytest.mark.trains
TINY: dict[str, Any] = {
    "model.hidden_size": 16,
    "model.intermediate_size": 32,
    "model.text_hidden_size": 16,
    "model.max_history": 6,
    "model.dropout": 0.1,
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.warmup_steps": 2,
    "training.validate_every": 1,
}
SHAPES = {  # of the variants, without their optimisation
    name: {dotted: value for dotted, value in fields.items() if dotted.startswith("model.")}
    for name, fields in OBJECTIVES.items()
}
UNSET = object()


def options_of(fields: dict[str, Any]) -> SasRecOptions:
    """The default options with some fields, by their dotted names."""
    options = SasRecOptions()
    for dotted, value in fields.items():
        section, _, name = dotted.partition(".")
        setattr(getattr(options, section), name, value)
    return options


def fresh_model(options: SasRecOptions, *, seed: int) -> SasRecModel:
    """Return an untrained model, with text inputs of `WIDTH` where it has any."""
    text_dim = None if options.model.inputs == "ids" else WIDTH
    return build_model(SasRecModel, options.model, num_items=ITEMS, text_dim=text_dim, seed=seed)


def fit(directory, fields=None, *, stop_after=None, validate=UNSET, sequences=None):
    calls = []

    def rising(model):
        calls.append(model.training)
        if stop_after is not None and len(calls) > stop_after:
            raise Killed
        return {"ndcg@10": float(len(calls))}

    options = options_of(TINY | (fields or {}))
    vectors = None if options.model.inputs == "ids" else item_vectors().numpy()
    trained = train_sequences(
        fresh_model(options, seed=0),
        walks() if sequences is None else sequences,
        item_vectors=vectors,
        options=options,
        validate=rising if validate is UNSET else validate,
        output_dir=directory,
        seed=0,
    )
    return trained, calls


def assert_equal_weights(left: SasRecModel, right: SasRecModel) -> None:
    other = right.state_dict()
    for name, value in left.state_dict().items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("variant", SHAPES)
def test_every_variant_learns_the_next_item_of_a_walk(tmp_path, variant):
    training = {"epochs": 20, "learning_rate": 1e-2, "weight_decay": 0.0, "validate_every": 10}
    fields = SHAPES[variant] | {f"training.{name}": value for name, value in training.items()}

    trained, calls = fit(tmp_path, fields)

    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < losses[0]
    vectors = item_vectors().numpy() if trained.model.config.has_text else None
    starts = np.arange(ITEMS)
    scores = DenseScorer(trained.model, vectors).scores((starts[:, None] + np.arange(3)) % ITEMS)
    following = scores[starts, (starts + 3) % ITEMS]
    mean_rank = (scores > following[:, None]).sum(1).mean() + 1
    assert mean_rank < ITEMS / 4  # chance gives half of the items, what is learned 1 to 2
    assert calls == [False, False]
    assert not trained.model.training and trained.model.config.inputs == SHAPES[variant]["model.inputs"]


def test_two_runs_of_one_seed_are_bit_equal(tmp_path):
    assert_equal_weights(fit(tmp_path / "a")[0].model, fit(tmp_path / "b")[0].model)


@pytest.mark.parametrize(
    "variant", ["sasrec_bce", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sasrec_ce", "sasrec_text"))]
)
def test_two_threads_add_gradients_in_one_order(tmp_path, two_threads, variant):
    # wide enough that torch shares the rows of a batch out among threads
    fields = SHAPES[variant] | {"training.batch_size": 64, "model.num_negatives": 64, "model.hidden_size": 32}

    first, second = (fit(tmp_path / name, fields, validate=None)[0].model for name in ("a", "b"))

    assert_equal_weights(first, second)


@pytest.mark.parametrize("variant", SHAPES)
def test_a_run_killed_in_its_second_epoch_continues_bit_for_bit(tmp_path, variant):
    straight, _ = fit(tmp_path / "straight", SHAPES[variant])
    with pytest.raises(Killed):
        fit(tmp_path / "killed", SHAPES[variant], stop_after=1)

    resumed, calls = fit(tmp_path / "killed", SHAPES[variant])

    assert len(calls) == 2  # epoch 1 was not repeated
    assert_equal_weights(straight.model, resumed.model)


def test_the_checkpoint_with_the_best_ranking_comes_back(tmp_path):
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"ndcg@10": [0.1, 0.9, 0.2][len(seen) - 1]}

    trained, _ = fit(tmp_path, validate=validate)

    assert all(torch.equal(value, seen[1][name]) for name, value in trained.model.state_dict().items())


def test_without_validation_the_last_weights_are_kept(tmp_path):
    validated, _ = fit(tmp_path / "validated")  # its last validation is its best
    blind, _ = fit(tmp_path / "blind", validate=None)

    assert_equal_weights(validated.model, blind.model)
    assert not any("eval_ndcg@10" in entry for entry in blind.history)


def test_training_stops_when_the_ranking_stops_improving(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])

    fields = {"training.epochs": 5, "training.patience": 2}
    trained, _ = fit(tmp_path, fields, validate=lambda model: {"ndcg@10": next(scores)})

    assert sum("eval_ndcg@10" in entry for entry in trained.history) == 3


def test_the_saved_configuration_holds_nothing_of_the_trainer(tmp_path):
    trained, _ = fit(tmp_path / "run", {"training.epochs": 1})

    trained.model.save_pretrained(tmp_path / "model")

    assert "use_cache" not in (tmp_path / "model" / "config.json").read_text()


def test_weights_depend_on_the_seed_alone_and_leave_the_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_model(SasRecModel, SasRecModelOptions(), num_items=9, text_dim=None, seed=1)

    assert torch.equal(torch.rand(3), expected)
    assert_equal_weights(first, build_model(SasRecModel, SasRecModelOptions(), num_items=9, text_dim=None, seed=1))


@given(st.lists(st.integers(2, 15), min_size=1, max_size=6), st.integers(1, 5))
def test_every_item_but_a_users_first_is_a_label_once(lengths, max_history):
    sequences = [np.arange(length) + 100 * user for user, length in enumerate(lengths)]
    dataset = SequenceDataset(sequences, [str(user) for user in range(len(lengths))], max_items=max_history + 1)

    batch = HistoryCollator()([dataset[index] for index in range(len(dataset))])

    labels = batch["labels"][batch["labels"] >= 0]
    assert sorted(labels.tolist()) == sorted(int(item) for rows in sequences for item in rows[1:])
    assert batch["histories"].shape[1] <= max_history
    at_label = batch["labels"] >= 0
    assert torch.equal(batch["histories"][at_label] + 1, batch["labels"][at_label])  # the item right before it


class Unopened(RowLists):
    """Lists of which none may be looked at on its own."""

    def __iter__(self):
        raise AssertionError("a loop over users")

    def __getitem__(self, index):
        assert isinstance(index, slice), "a list of its own"
        return super().__getitem__(index)


def prepared(train, *given, **options):
    """Return what a training makes its trainer with."""
    found = {}

    def make_trainer(model, training, **parts):
        found.update(parts)
        raise Killed

    with pytest.raises(Killed):
        train(make_trainer, *given, validate=None, output_dir="unused", seed=0, **options)
    return found


def test_users_are_neither_listed_nor_copied_before_a_training():
    options = options_of(TINY | {"model.loss": "sampled_softmax"})
    model = fresh_model(options, seed=0)

    def train(make_trainer, **given):
        train_sequences(
            model, Unopened.of(walks()), item_vectors=None, options=options, make_trainer=make_trainer, **given
        )

    found = prepared(train)

    clicks, _ = found["shared_negatives"]
    assert clicks.tolist() == np.bincount(np.concatenate(walks()), minlength=ITEMS).tolist()
    assert len(found["dataset"]) > 0
    assert found["collator"].known is None


def examples_of(dataset):
    return [[np.asarray(part).tolist() for part in dataset[index][1:]] for index in range(len(dataset))]


@given(st.lists(st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0.0, 0.5, 2.0])), max_size=15)))
def test_examples_are_those_of_the_users_with_two_items_and_a_label(users):
    users = [*users, [(3, 1.0), (4, 1.0)]]
    rows = [np.array([item for item, _ in user], dtype=np.int64) for user in users]
    weights = [np.array([weight for _, weight in user], dtype=np.float32) for user in users]
    section = sasrec_options.SequenceTrainingOptions()
    given = {"training": section, "max_history": 6}

    plain = prepared(training.fit_sequences, None, rows, draws_negatives=True, **given)
    weighted = prepared(training.fit_sequences, None, rows, weights=weights, **given)["dataset"]

    members = [number for number, own in enumerate(rows) if len(own) > 1]
    expected = SequenceDataset([rows[number] for number in members], members, max_items=7, num_unlabelled=1)
    assert examples_of(plain["dataset"]) == examples_of(expected)
    for index in range(len(expected)):
        known = plain["collator"].known[plain["dataset"][index][0]]
        assert known.tolist() == rows[expected[index][0]].tolist()
    learned = [number for number in members if weights[number][1:].any()]
    own = [weights[number] for number in learned]
    expected = SequenceDataset(
        [rows[number] for number in learned], learned, max_items=7, weights=own, num_unlabelled=1
    )
    assert [example[:2] for example in examples_of(weighted)] == examples_of(expected)
    for index in range(len(expected)):
        _, _, first, found = weighted[index]
        assert found[first:].tolist() == expected.label_weights(index).tolist()


def test_users_whose_later_items_have_no_weight_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"or none whose later ones are learned \(60 users\)"):
        training.fit_sequences(
            None,
            None,
            walks(),
            training=sasrec_options.SequenceTrainingOptions(),
            max_history=6,
            validate=None,
            output_dir=tmp_path,
            seed=0,
            weights=[np.zeros(len(rows), dtype=np.float32) for rows in walks()],
        )


def test_all_items_of_a_user_are_known_to_every_window_of_theirs():
    users = {"a": np.arange(9), "b": np.array([20, 21])}
    dataset = SequenceDataset(list(users.values()), list(users), max_items=4)

    batch = HistoryCollator(users)([dataset[index] for index in range(len(dataset))])

    assert len(dataset) > 2
    assert batch["known"][:-1].tolist() == [list(range(9))] * (len(dataset) - 1)
    assert batch["known"][-1, :2].tolist() == [20, 21]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.inputs": "images"}, "model.inputs must be one of ids, text, both, got 'images'"),
        ({"model.loss": "hinge"}, "model.loss must be one of"),
        ({"model.similarity": "l2"}, "model.similarity must be one of"),
        ({"training.epochs": 0}, "training.epochs must be at least 1, got 0"),
        ({"model.num_negatives": 0}, "model.num_negatives must be at least 1, got 0"),
        ({"model.hidden_size": 10, "model.num_heads": 4}, "multiple of model.num_heads=4, got 10"),
        ({"model.dropout": 1.0}, "model.dropout is a share"),
        ({"model.temperature": -1.0}, "model.temperature must be above 0, got -1.0"),
        ({"training.scheduler": "steps"}, "training.scheduler must be one of"),
    ],
)
def test_options_that_no_run_can_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        options_of(fields).validate()


@pytest.mark.parametrize("variant", OBJECTIVES)
def test_variants_are_options_that_a_run_can_have(variant):
    options_of(OBJECTIVES[variant]).validate()


def test_text_inputs_without_item_vectors_are_an_error(tmp_path):
    options = options_of({"model.inputs": "both"})

    with pytest.raises(ValueError, match=r"model.inputs='both' needs one item vector for each of 30 items, got None"):
        train_sequences(
            fresh_model(options, seed=0),
            walks(),
            item_vectors=None,
            options=options,
            validate=None,
            output_dir=tmp_path,
            seed=0,
        )


def test_training_users_without_two_items_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="the training part holds no user with two items"):
        fit(tmp_path, sequences=[np.array([1]), np.array([2])])


@pytest.mark.parametrize("name", ["INPUTS", "LINEAR_INITS", "LOSSES", "POSITIONS", "SIMILARITIES"])
def test_the_choices_of_the_options_are_those_of_the_model(name):
    assert getattr(sasrec_options, name) == getattr(configuration_sasrec, name)


@pytest.mark.parametrize(("num_items", "loss"), [(10_000, "cross_entropy"), (2_000_000, "sampled_softmax")])
def test_auto_is_the_full_softmax_where_its_memory_allows(caplog, num_items, loss):
    options = sasrec_options.SasRecModelOptions(loss="auto")
    options.validate()

    with caplog.at_level("INFO"):
        assert training.chosen_loss(options, num_items=num_items) == loss
    assert f"model.loss auto is {loss}" in caplog.text and f"{num_items} items" in caplog.text


@pytest.mark.parametrize(("width", "loss"), [(16, "cross_entropy"), (2048, "sampled_softmax")])
@pytest.mark.parametrize("inputs", ["text", "both"])
def test_auto_counts_the_network_over_the_texts_of_all_items(inputs, width, loss):
    options = sasrec_options.SasRecModelOptions(loss="auto", inputs=inputs, text_hidden_size=width)

    assert training.chosen_loss(options, num_items=100_000) == loss


@pytest.mark.parametrize(("num_items", "loss"), [(10_000, "cross_entropy"), (2_000_000, "sampled_softmax")])
def test_collaborative_vectors_are_trained_by_a_loss_that_fits_the_catalog(monkeypatch, num_items, loss):
    monkeypatch.setattr(dense_training, "collaborative_vectors", lambda trained, workspace: trained.content)
    workspace: Any = SimpleNamespace(data=SimpleNamespace(tables=SimpleNamespace(num_items=num_items), split=None))

    content: Any = SasRec(options_of({"model.loss": "binary"})).item_vectors(workspace, 32, seed=0)

    assert content[0]["model"]["loss"] == loss and content[0]["model"]["hidden_size"] == 32


def test_a_named_loss_is_that_of_the_model_for_any_catalog():
    options = sasrec_options.SasRecModelOptions(loss="cross_entropy")

    assert training.chosen_loss(options, num_items=10**9) == "cross_entropy"
