from functools import partial

import numpy as np
import pytest
import torch

from cost_hf.methods import contrastive
from cost_hf.methods.coserec import augmentation, correlation
from cost_hf.methods.coserec import options as coserec_options
from cost_hf.methods.coserec.correlation import by_clicks
from cost_hf.methods.coserec.method import CoSeRec
from cost_hf.methods.coserec.options import AugmentationOptions
from cost_hf.methods.coserec.training import CoSeRecTrainer
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.options import SasRecModelOptions, SasRecOptions, SequenceTrainingOptions
from cost_hf.methods.sasrec.training import build_model, train_sequences
from cost_hf.recommenders.dense import DenseScorer
from cost_hf.semantic_ids.prefix_groups import PrefixGroups
from tests.methods.sasrec.sasrec_toys import ITEMS, Killed, are_equal, rising_validation, tiny_model, walks

SIZES = {"hidden_size": 16, "intermediate_size": 32, "max_history": 6, "dropout": 0.1}
STEPS = {"epochs": 3, "batch_size": 16, "warmup_steps": 2, "validate_every": 1}


def fit(directory, *, model=None, training=None, stop_after=None, **section):
    """Train on walks: as CoSeRec with fields of section `augmentation`, or plainly without any."""
    options = SasRecOptions(
        SasRecModelOptions(**SIZES | (model or {})), SequenceTrainingOptions(**STEPS | (training or {}))
    )
    own = partial(CoSeRecTrainer, augmentation=AugmentationOptions(**section), clicked=by_clicks(walks(), ITEMS))
    if section.get("correlation") == "prefix":
        own = partial(own, groups=PrefixGroups(np.arange(ITEMS)[:, None] // [10, 1], prefix=1))
    torch.manual_seed(3)  # of negatives and dropout; stages set it
    return train_sequences(
        build_model(SasRecModel, options.model, num_items=ITEMS, text_dim=None, seed=0),
        walks(),
        item_vectors=None,
        options=options,
        validate=rising_validation(stop_after),
        output_dir=directory,
        seed=0,
        make_trainer=own if section else None,
    ).model


@pytest.mark.trains
@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax", "binary"])
def test_without_the_contrastive_loss_it_is_sasrec_bit_for_bit(tmp_path, loss):
    plain = fit(tmp_path / "plain", model={"loss": loss})

    assert are_equal(fit(tmp_path / "zero", model={"loss": loss}, weight=0.0), plain)
    assert not are_equal(fit(tmp_path / "some", model={"loss": loss}, weight=0.1), plain)


@pytest.mark.trains
@pytest.mark.parametrize("pooling", ["flatten", "last", "mean"])
def test_every_pooling_learns_the_next_item_of_a_walk(tmp_path, pooling):
    training = {"epochs": 20, "learning_rate": 1e-2, "weight_decay": 0.0, "validate_every": 10}

    model = fit(tmp_path, training=training, weight=0.1, pooling=pooling, similarity="cosine", temperature=0.5)

    starts = np.arange(ITEMS)
    scores = DenseScorer(model).scores((starts[:, None] + np.arange(3)) % ITEMS)
    following = scores[starts, (starts + 3) % ITEMS]
    assert (scores > following[:, None]).sum(1).mean() + 1 < ITEMS / 4


@pytest.mark.trains
@pytest.mark.parametrize("correlation", ["clicks", "vectors", "hybrid", "prefix"])
def test_a_run_killed_in_its_second_epoch_continues_bit_for_bit(tmp_path, correlation):
    section = {"weight": 0.5, "correlation": correlation, "warm_up_epochs": 1}
    if correlation == "prefix":
        section["identifiers"] = "sids.parquet"
    straight = fit(tmp_path / "straight", **section)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", stop_after=1, **section)

    assert are_equal(fit(tmp_path / "killed", **section), straight)


@pytest.mark.trains
def test_the_model_has_a_say_after_the_warm_up_alone(tmp_path):
    clicks = fit(tmp_path / "clicks", weight=0.5, correlation="clicks")
    late = fit(tmp_path / "late", weight=0.5, correlation="hybrid", warm_up_epochs=3)
    early = fit(tmp_path / "early", weight=0.5, correlation="hybrid", warm_up_epochs=1)

    assert are_equal(clicks, late)
    assert not are_equal(clicks, early)


def test_similar_items_are_found_without_gradients(tmp_path, monkeypatch):
    seen = []

    def by_vectors(table):
        seen.append(torch.is_grad_enabled())
        return correlation.by_vectors(table)

    monkeypatch.setattr("cost_hf.methods.coserec.training.by_vectors", by_vectors)
    fit(tmp_path, training={"epochs": 1}, weight=0.5, correlation="vectors")

    assert seen == [False]


def test_quirks_of_the_released_code():
    plain, official = AugmentationOptions(), AugmentationOptions(official_quirks=True)

    assert plain.rates()["reorder"] == 0.2
    assert official.rates() == plain.rates() | {"reorder": plain.mask_rate}


def test_a_seen_score_takes_the_place_of_the_score_of_every_item_of_the_history():
    usual, official = tiny_model(), tiny_model(seen_score=0.0)
    histories = np.array([[3, 1, 4, -1], [9, 9, 2, 5]])

    scores, changed = DenseScorer(usual).scores(histories), DenseScorer(official).scores(histories)

    is_seen = np.zeros_like(scores, dtype=bool)
    is_seen[0, [3, 1, 4]] = True
    is_seen[1, [9, 2, 5]] = True
    assert not changed[is_seen].any()
    assert np.array_equal(changed[~is_seen], scores[~is_seen])
    assert scores[is_seen].all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "augmentation.pooling must be one of flatten, last, mean, got 'max'"),
        ({"correlation": "memory"}, "augmentation.correlation must be one of clicks, vectors, hybrid"),
        ({"short_operators": ["swap"]}, r"augmentation.short_operators must be among .*got \['swap'\]"),
        ({"short_operators": []}, "one or more, got"),
        ({"crop_rate": 1.5}, r"augmentation.crop_rate is a share in \[0, 1\], got 1.5"),
        ({"weight": -0.1}, "augmentation.weight must be 0 or above"),
        ({"temperature": 0.0}, "augmentation.temperature must be above 0"),
        ({"correlation": "prefix"}, "augmentation.identifiers must be a file with correlation prefix"),
        ({"identifiers": "sids.parquet"}, "and null otherwise, got 'sids.parquet' with 'hybrid'"),
        ({"warm_up_epochs": -1}, "augmentation.warm_up_epochs must be"),
    ],
)
def test_options_that_no_run_can_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AugmentationOptions(**fields).validate()


def test_choices_of_the_options_are_those_of_the_modules():
    assert coserec_options.OPERATORS == augmentation.OPERATORS
    assert coserec_options.POOLINGS == contrastive.POOLINGS
    assert coserec_options.SIMILARITIES == contrastive.SIMILARITIES


def test_variants_are_options_that_a_run_can_have():
    from cost_hf.methods.parts import PartsOptions

    names = [variant.name for variant in CoSeRec.variants()]
    for method in PartsOptions([*names, "popularity"]).methods().values():
        method.options.validate()
    assert names == ["coserec", "coserec_published"]
