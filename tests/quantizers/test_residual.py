from dataclasses import fields

import pytest

from cost_hf.quantizers import base, residual
from cost_hf.quantizers.base import CodebookCollapse, CodesOptions
from cost_hf.quantizers.cost import configuration_base_cost, configuration_cost
from cost_hf.quantizers.letter import LetterOptions
from cost_hf.quantizers.letter import options as letter_options
from cost_hf.quantizers.residual import CostOptions, CostRqvaeOptions, RqvaeOptions
from cost_hf.quantizers.rkmeans import RkmeansOptions

WEIGHTS = ("contrastive_weight", "reconstruction_weight", "codebook_weight", "commitment_weight")


def record(*perplexities, **more):
    return {f"perplexity_{level}": value for level, value in enumerate(perplexities, start=1)} | more


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        (CostOptions(), (0.1, 0.0, 1.0, 0.25)),
        (RqvaeOptions(), (0.0, 1.0, 1.0, 0.25)),
        (CostRqvaeOptions(), (0.1, 1.0, 1.0, 0.25)),
        (LetterOptions(), (0.0, 1.0, 1.0, 0.25)),
        (RkmeansOptions(), (0.0, 0.0, 1.0, 0.0)),
        (CostOptions(contrastive_weight=0.5, commitment_weight=1.0), (0.5, 0.0, 1.0, 1.0)),
    ],
    ids=["cost", "rqvae", "cost_rqvae", "letter", "rkmeans", "own"],
)
def test_the_weights_of_a_kind_are_those_of_its_model(options, weights):
    config = options.config(16)

    assert tuple(getattr(config, name) for name in WEIGHTS) == weights
    assert config.sinkhorn_epsilon == (0.003 if options.kind == "letter" else 0.0)


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [
        ("cost", ["reconstruction_weight", "diversity_weight", "pca_dim", "category_column"]),
        ("rqvae", ["contrastive_weight", "temperature", "sinkhorn_epsilon"]),
        ("rkmeans", ["epochs", "latent_dim", "hidden_sizes", "codebook_weight"]),
        ("random", ["input_norm", "epochs", "pca_dim"]),
    ],
)
def test_a_kind_has_no_field_of_another_one(kind, foreign):
    CodesOptions.load_kinds()

    assert not {entry.name for entry in fields(CodesOptions.kinds[kind])} & set(foreign)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CostOptions(input_norm="l1"), r"codes.input_norm must be one of none, l2, standardize, got 'l1'"),
        (CostOptions(reduction="max"), r"codes.reduction must be one of sum, mean"),
        (CostOptions(residual_update="x"), r"codes.residual_update must be one of detached"),
        (CostOptions(initialization="kmeans"), r"codes.initialization must be one of full, first_batch, none, got"),
        (
            CostOptions(initialization="first_batch", batch_size=32),
            r"batch of at least 64 items, .* got .*=32",
        ),
        (CostOptions(epochs=0), r"codes.epochs must be at least 1, got 0"),
        (CostOptions(batch_size=1), r"codes.batch_size must be at least 2, got 1"),
        (CostOptions(temperature=0.0), r"codes.temperature must be above 0, got 0.0"),
        (CostOptions(contrastive_weight=0.0), r"kind 'cost' need codes.contrastive_weight above 0, got 0.0; nothing"),
        (
            CostRqvaeOptions(contrastive_weight=0.0, reconstruction_weight=0.0),
            r"need codes.contrastive_weight or codes.reconstruction_weight above 0, got 0.0 and 0.0",
        ),
        (CostRqvaeOptions(contrastive_weight=-1.0), r"codes.contrastive_weight must be at least 0, got -1.0"),
        (RqvaeOptions(commitment_weight=-1.0), r"codes.commitment_weight must be at least 0, got -1.0"),
        (RkmeansOptions(pca_dim=0), r"codes.pca_dim must be at least 1, got 0"),
        (RkmeansOptions(level_sizes=[]), r"codes.level_sizes needs one or more levels"),
        (RkmeansOptions(level_sizes=[64, 1]), r"codes.level_sizes .* got \[64, 1\]"),
        (LetterOptions(reconstruction_weight=0.0), r"kind 'letter' need codes.reconstruction_weight above 0"),
        (LetterOptions(diversity_weight=-1.0), r"codes.diversity_weight must be at least 0, got -1.0"),
        (LetterOptions(diversity_clusters=0), r"codes.diversity_clusters must be at least 1, got 0"),
        (LetterOptions(sinkhorn_epsilon=-0.1), r"codes.sinkhorn_epsilon must be at least 0, got -0.1"),
        (LetterOptions(sinkhorn_epsilon=0.001), r"must be 0 \(nearest codes\) or at least 0.003, got 0.001"),
        (CostOptions(dead_code_reset_share=1.5), r"codes.dead_code_reset_share is a share between 0 and 1, got 1.5"),
        (RkmeansOptions(min_perplexity_share=-1), r"codes.min_perplexity_share is a share"),
    ],
)
def test_a_value_that_no_run_can_have_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        options.validate()


def test_letter_needs_collaborative_vectors_of_the_width_of_the_latents_where_their_term_has_a_weight():
    options = LetterOptions(latent_dim=12)

    assert options.needs_collaborative_vectors and options.collaborative_dim == 12
    assert not options.copied(collaborative_weight=0.0).needs_collaborative_vectors
    assert not CostOptions().needs_collaborative_vectors


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (residual, "INPUT_NORMS"),
        (residual, "REDUCTIONS"),
        (residual, "RESIDUAL_UPDATES"),
        (residual, "MAX_WIDTH"),
        (residual, "MAX_LAYERS"),
        (letter_options, "MIN_SINKHORN_EPSILON"),
    ],
)
def test_the_choices_are_those_of_the_model(module, name):
    assert getattr(module, name) == getattr(configuration_cost, name)


def test_the_largest_level_is_that_of_every_model():
    assert base.MAX_CODES == configuration_base_cost.MAX_CODES


@pytest.mark.parametrize(
    ("perplexities", "sizes", "items"),
    [((1.0, 60.0, 60.0), (64, 64, 64), 1000), ((7.0, 2.0, 2.0), (64, 64, 64), 1000), ((1.2, 4.0), (4, 4), 1000)],
    ids=["first level", "all levels", "few codes"],
)
def test_a_collapse_is_an_error_with_what_was_seen(perplexities, sizes, items):
    with pytest.raises(CodebookCollapse, match=rf"after epoch 7 the perplexities are {perplexities[0]} of {sizes[0]}"):
        CostOptions(level_sizes=list(sizes)).check_collapse([record(*perplexities, epoch=7.0)], num_items=items)


@pytest.mark.parametrize(
    ("perplexities", "items"),
    [((55.0, 24.0, 12.0), 1000), ((20.0, 5.0, 4.0), 1000), ((9.0, 5.0, 5.0), 10)],
    ids=["uneven", "first level carries the mean", "few items can't use many codes"],
)
def test_poor_codes_are_not_a_collapse(perplexities, items):
    CostOptions().check_collapse([record(*perplexities)], num_items=items)


def test_one_good_epoch_among_the_last_is_no_collapse():
    records = [record(1.0), record(30.0), record(1.0)]

    CostOptions(level_sizes=[64]).check_collapse(records, num_items=1000)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (CostOptions(initialization="none"), "set codes.initialization to full"),
        (CostOptions(reset_dead_codes=False), "set codes.reset_dead_codes to true"),
        (CostOptions(dead_code_reset_share=0.0), "set codes.reset_dead_codes to true"),
        (CostOptions(input_norm="none"), "set codes.input_norm to l2"),
        (CostOptions(input_norm="l2"), "set codes.input_norm to standardize if the vectors share a large mean"),
        (CostOptions(reduction="mean"), "set codes.reduction to sum"),
        (CostOptions(learning_rate=0.3), r"lower codes.learning_rate \(now 0.3\)"),
        (RkmeansOptions(), "lower codes.pca_dim"),
    ],
)
def test_the_advice_names_settings_that_are_not_at_their_safe_value(options, advice):
    with pytest.raises(CodebookCollapse, match=advice) as caught:
        options.copied(level_sizes=[64]).check_collapse([record(1.0)], num_items=1000)

    if getattr(options, "initialization", "full") == "full":
        assert "codes.initialization" not in str(caught.value)


def test_vectors_that_are_standardized_already_get_no_advice_on_their_norm():
    with pytest.raises(CodebookCollapse) as caught:
        CostOptions(level_sizes=[64], input_norm="standardize").check_collapse([record(1.0)], num_items=1000)

    assert "input_norm" not in str(caught.value)
