"""New items beside held-out training items: the same kind of items is fine, another kind is not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cost_hf.experiments.drift.items import item_values, sample_size
from cost_hf.experiments.drift.reference import Coding, TrainingItems
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import FitInputs
from tests.experiments.drift.shops import GARDEN, products, shop, statuses, verdict


@pytest.fixture(scope="module")
def trained():
    return shop()


def new_ids(count: int) -> list[str]:
    return [f"new{number}" for number in range(count)]


def draws_of(trained, count: int, size: int) -> list[str]:
    """The verdicts on samples of the training items themselves."""
    training, encoder = trained
    found = []
    for seed in range(count):
        rows = np.random.default_rng(seed).permutation(len(training.item_ids))[:size]
        ids = [training.item_ids[row] for row in rows]
        found.append(verdict(ids, [training.texts[row] for row in rows], training, encoder, seed=seed))
    return found


def test_samples_of_the_items_themselves_are_fine(trained):
    found = draws_of(trained, 5, 60)

    assert found.count("fine") >= 4 and "retrain" not in found


@pytest.mark.slow
@pytest.mark.parametrize("size", [15, 120])
def test_nearly_all_of_50_samples_of_the_items_themselves_are_fine(trained, size):
    found = draws_of(trained, 50, size)

    assert found.count("fine") >= 47 and "retrain" not in found


@pytest.mark.slow
def test_new_products_of_the_same_shop_are_nearly_always_fine(trained):
    training, encoder = trained

    found = [verdict(new_ids(60), products(60, seed=100 + seed), training, encoder) for seed in range(20)]

    assert found.count("fine") >= 17 and "retrain" not in found


def test_products_of_another_domain_ask_for_training(trained):
    training, encoder = trained

    found = statuses(
        item_values(
            new_ids(60),
            products(60, seed=1, kinds=GARDEN, colours=("oak", "teak", "pine"), brands=("acme", "verde")),
            training,
            encoder,
            seed=0,
        )
    )

    assert found["unknown_words"] == found["nearest_distance"] == "retrain"


def test_texts_in_another_script_ask_for_training(trained):
    training, encoder = trained

    found = statuses(item_values(new_ids(40), ["красный чайник", "синяя лопата"] * 20, training, encoder, seed=0))

    assert found["letter_shift"] == found["unknown_words"] == "retrain"


class Shuffled:
    """A text encoder whose dimensions are in another order than those that the quantizer was fitted to."""

    def __init__(self, encoder, order):
        self.encoder = encoder
        self.order = order

    def encode(self, texts):
        return self.encoder.encode(texts)[:, self.order]


def test_shuffled_vectors_ask_for_training(trained):
    training, encoder = trained
    order = np.random.default_rng(0).permutation(training.vectors.shape[1])

    found = statuses(item_values(new_ids(60), products(60, seed=5), training, Shuffled(encoder, order), seed=0))

    assert found["nearest_distance"] == found["quantization_error"] == "retrain"
    assert found["unknown_words"] == "fine"


def test_one_product_many_times_crowds_in_one_code(trained):
    training, encoder = trained

    found = statuses(item_values(new_ids(60), ["red kettle by brand3, model 7"] * 60, training, encoder, seed=0))

    assert found["perplexity_1"] == found["largest_prefix"] == found["codes_used"] == "retrain"
    assert found["unknown_words"] == "fine"


def test_copies_of_products_collide_and_the_products_themselves_do_not(trained):
    training, encoder = trained
    rows = np.random.default_rng(3).permutation(len(training.item_ids))[:100]
    texts = [training.texts[row] for row in rows]

    copied = item_values(new_ids(100), texts, training, encoder, seed=0)
    same = item_values([training.item_ids[row] for row in rows], texts, training, encoder, seed=0)

    assert copied.new["collisions"] == 1.0 > same.new["collisions"]
    assert copied.new["nearest_distance"] < same.new["nearest_distance"]


def test_what_is_not_known_of_the_training_is_left_out(trained):
    training, encoder = trained
    texts = products(30, seed=2)
    codes_alone = TrainingItems(training.item_ids, codings=training.codings)
    texts_alone = TrainingItems(training.item_ids, training.texts)

    by_codes = item_values(new_ids(30), texts, codes_alone, encoder, seed=0).new
    by_texts = item_values(new_ids(30), texts, texts_alone, None, seed=0).new

    assert set(by_texts) == {"words_per_text", "unknown_words", "letter_shift"}
    assert {"collisions", "perplexity_1"} <= set(by_codes) and "quantization_error" not in by_codes
    assert not set(by_codes) & set(by_texts)


def test_a_part_of_a_recommender_has_statistics_of_its_own(trained):
    training, encoder = trained
    named = TrainingItems(
        training.item_ids, training.texts, training.vectors, {"one": training.codings[""], "two": training.codings[""]}
    )

    found = item_values(new_ids(30), products(30, seed=2), named, encoder, seed=0)

    assert found.new["one.collisions"] == found.new["two.collisions"]
    assert (found.samples["one.quantization_error"] == found.samples["two.quantization_error"]).all()


def test_the_same_call_finds_the_same(trained):
    training, encoder = trained
    one, other = (item_values(new_ids(700), products(700, seed=2), training, encoder, seed=4) for _ in range(2))

    assert one.new == other.new and all((one.samples[name] == other.samples[name]).all() for name in one.samples)
    assert one.size == sample_size(700, 400) == 200


def test_errors_of_held_out_items_are_larger_than_those_of_fitted_ones(trained):
    """Without the correction every new item would seem worse than those that the quantizer has seen."""
    training, encoder = trained
    vectors = torch.from_numpy(training.vectors)
    quantizer = training.codings[""].quantizer
    own = quantizer.level_distances(vectors, quantizer.encode(vectors)[:, :-1]).min(1).values.mean()

    usual = np.median(
        item_values(new_ids(50), products(50, seed=9), training, encoder, seed=0).samples["quantization_error"]
    )

    assert usual > float(own)


def test_a_level_that_numbers_the_items_of_a_bucket_is_left_out(trained):
    training, encoder = trained
    vectors = torch.from_numpy(training.vectors)
    options = CodesOptions.of("gaoq", level_sizes=[5, 6, 16])
    inputs = FitInputs.checked(vectors, options, item_ids=training.item_ids)
    result = options.fit(inputs, folder=Path("unused"), digest="", seed=0)
    numbered = TrainingItems(
        training.item_ids, training.texts, training.vectors, {"": Coding(result.model, result.codes, False)}
    )

    found = item_values(new_ids(len(training.item_ids)), training.texts, numbered, encoder, seed=0)

    assert {"perplexity_1", "perplexity_2", "quantization_error"} <= set(found.new)
    assert not {"perplexity_3", "collisions"} & set(found.new)
    assert set(statuses(found).values()) == {"fine"}
