import pytest

from cost_hf.quantizers import options
from cost_hf.quantizers.cost import configuration_cost
from cost_hf.quantizers.fit import CodesOptions
from cost_hf.quantizers.options import EXTRA_PRESETS

WEIGHTS = ("contrastive_weight", "reconstruction_weight", "codebook_weight", "commitment_weight")


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("cost", (0.1, 0.0, 1.0, 0.25)),
        ("rqvae", (0.0, 1.0, 1.0, 0.25)),
        ("both", (0.1, 1.0, 1.0, 0.25)),
        ("letter", (0.0, 1.0, 1.0, 0.25)),
        ("rkmeans", (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_a_kind_is_a_preset_of_the_weights(kind, weights):
    assert CodesOptions(kind=kind).weights == dict(zip(WEIGHTS, weights, strict=True))


def test_own_weights_go_with_kind_null_and_the_rest_keeps_its_default():
    options = CodesOptions(kind=None, contrastive_weight=0.5, commitment_weight=1.0)

    options.validate()

    assert options.weights == dict(zip(WEIGHTS, (0.5, 0.0, 1.0, 1.0), strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "rq"},
            r"codes.kind must be one of cost, rqvae, both, letter, rkmeans, category, random or null, got 'rq'",
        ),
        ({"contrastive_weight": 0.2}, r"codes.kind='cost' is a preset .* got codes.contrastive_weight=0.2"),
        ({"kind": "random", "codebook_weight": 1.0}, r"codes.kind='random' is a preset"),
        ({"kind": None}, r"needs codes.contrastive_weight or codes.reconstruction_weight above 0, got None and None"),
        ({"input_norm": "l1"}, r"codes.input_norm must be one of none, l2, standardize, got 'l1'"),
        ({"reduction": "max"}, r"codes.reduction must be one of sum, mean"),
        ({"residual_update": "x"}, r"codes.residual_update must be one of detached"),
        ({"initialization": "kmeans"}, r"codes.initialization must be one of full, first_batch, none, got 'kmeans'"),
        ({"initialization": "first_batch", "batch_size": 32}, r"batch of at least 64 items, one per code, got .*=32"),
        ({"epochs": 0}, r"codes.epochs must be at least 1, got 0"),
        ({"batch_size": 1}, r"codes.batch_size must be at least 2, got 1"),
        ({"pca_dim": 0}, r"codes.pca_dim must be at least 1, got 0"),
        ({"level_sizes": []}, r"codes.level_sizes needs one or more levels"),
        ({"level_sizes": [64, 1]}, r"codes.level_sizes .* got \[64, 1\]"),
        ({"collaborative_weight": 0.2}, r"codes.kind='cost' is a preset .* got codes.collaborative_weight=0.2"),
        ({"kind": None, "collaborative_weight": 1.0}, r"needs codes.contrastive_weight or codes.reconstruction_weight"),
        ({"kind": None, "contrastive_weight": 1.0, "diversity_weight": -1.0}, "codes.diversity_weight must be at lea"),
        ({"diversity_clusters": 0}, r"codes.diversity_clusters must be at least 1, got 0"),
        ({"sinkhorn_epsilon": -0.1}, r"codes.sinkhorn_epsilon must be at least 0, got -0.1"),
        ({"sinkhorn_epsilon": 0.001}, r"must be 0 \(nearest codes\) or at least 0.003, got 0.001"),
        ({"revival_share": 1.5}, r"codes.revival_share is a share between 0 and 1, got 1.5"),
        ({"min_perplexity_share": -1}, r"codes.min_perplexity_share is a share"),
    ],
)
def test_a_value_that_no_run_can_have_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        CodesOptions(**fields).validate()


def test_the_defaults_are_valid():
    CodesOptions().validate()


@pytest.mark.parametrize(
    ("options", "extra", "epsilon"),
    [
        (CodesOptions(), (0.0, 0.0), 0.0),
        (CodesOptions(kind="letter"), EXTRA_PRESETS["letter"], 0.003),
        (CodesOptions(kind="letter", sinkhorn_epsilon=0.0), EXTRA_PRESETS["letter"], 0.0),
        (CodesOptions(kind="rqvae", sinkhorn_epsilon=0.01), (0.0, 0.0), 0.01),
        (CodesOptions(kind=None, reconstruction_weight=1.0, collaborative_weight=0.3), (0.3, 0.0), 0.0),
    ],
)
def test_the_terms_of_letter_follow_the_kind_and_the_balance_can_be_set_for_any(options, extra, epsilon):
    options.validate()

    assert tuple(options.extra_weights.values()) == extra
    assert options.balance == epsilon
    assert options.needs_collaborative == (extra[0] > 0)


@pytest.mark.parametrize(
    "name",
    [
        "INPUT_NORMS",
        "REDUCTIONS",
        "RESIDUAL_UPDATES",
        "MIN_SINKHORN_EPSILON",
        "WEIGHT_FIELDS",
        "MAX_WIDTH",
        "MAX_LAYERS",
        "MAX_CODES",
    ],
)
def test_the_choices_are_those_of_the_model(name):
    assert getattr(options, name) == getattr(configuration_cost, name)
