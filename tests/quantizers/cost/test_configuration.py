import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import LlamaConfig

from cost_hf.methods.sasrec.configuration_sasrec import SasRecConfig
from cost_hf.quantizers.cost import CostConfig, CostModel

ENCODER = {
    "model": "org/encoder",
    "revision": None,
    "pooling": "mean",
    "normalize": True,
    "max_length": 32,
    "prompt": None,
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level_sizes": []}, r"at least 2 codes each, got \[\]"),
        ({"level_sizes": [64, 1]}, r"at least 2 codes each, got \[64, 1\]"),
        ({"level_sizes": [64, 32], "share_codebooks": True}, r"levels of one size, got level_sizes=\[64, 32\]"),
        ({"hidden_sizes": None}, r"latent_dim must equal item_dim=768, got 96"),
        ({"hidden_sizes": [512, 0]}, r"hidden_sizes\[1\] must be at least 1, got 0"),
        ({"input_norm": "l1"}, r"input_norm must be one of none, l2, standardize, got 'l1'"),
        ({"reduction": "max"}, r"reduction must be one of sum, mean, got 'max'"),
        ({"residual_update": "no"}, r"residual_update must be one of detached, straight_through, got 'no'"),
        ({"temperature": 0}, r"temperature must be above 0, got 0"),
        ({"contrastive_weight": -0.1}, r"contrastive_weight must not be negative, got -0.1"),
        ({"sinkhorn_epsilon": 0.001}, r"must be 0 \(nearest codes\) or at least 0.003, .* got 0.001"),
        ({"sinkhorn_epsilon": -1}, r"sinkhorn_epsilon must be 0 .* got -1"),
        ({"duplicate_similarity": 2}, r"cosine in \[-1, 1\], got 2"),
        ({"text_encoder": {"model": "x"}}, "text_encoder must be None, .* look at max_length, normalize, pooling"),
        ({"text_encoder": ENCODER | {"pooling": "max"}}, "with pooling mean or cls, got .*'max'.* look at pooling"),
        ({"text_encoder": ENCODER | {"normalize": "yes", "max_length": "8"}}, "look at max_length, normalize"),
        ({"text_encoder": ENCODER | {"dim": 8}}, "look at dim"),
    ],
)
def test_a_value_that_no_model_can_have_is_named(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        CostConfig(**fields)


@pytest.mark.parametrize("fields", [{"item_dim": "768"}, {"temperature": "low"}, {"level_sizes": 64}])
def test_a_value_of_the_wrong_type_is_refused(fields):
    with pytest.raises((StrictDataclassFieldValidationError, TypeError)):
        CostConfig(**fields)


def test_whole_numbers_pass_where_floats_are_meant():
    assert CostConfig(temperature=1, contrastive_weight=0).temperature == 1


def test_assignment_is_checked_like_construction():
    config = CostConfig()

    with pytest.raises(StrictDataclassFieldValidationError, match="latent_dim"):
        config.latent_dim = "wide"


@pytest.mark.parametrize("hidden_sizes", [(32, 16), (), None], ids=["layers", "linear", "no layers"])
def test_a_saved_configuration_equals_the_loaded_one(tmp_path, hidden_sizes):
    config = CostConfig(
        item_dim=24,
        latent_dim=24,
        hidden_sizes=hidden_sizes,
        level_sizes=[4, 9],
        temperature=0.3,
        input_norm="standardize",
        residual_update="straight_through",
        reduction="mean",
        text_encoder=ENCODER,
    )
    config.save_pretrained(tmp_path)

    loaded = CostConfig.from_pretrained(tmp_path)

    loaded.transformers_version = config.transformers_version
    assert loaded.to_dict() == config.to_dict()
    assert loaded.level_sizes == (4, 9)
    assert loaded.temperature == 0.3  # a name that generation settings have too


def test_a_broken_configuration_is_not_saved(tmp_path):
    config = CostConfig()
    config.temperature = -1.0

    with pytest.raises(StrictDataclassClassValidationError, match="temperature must be above 0"):
        config.save_pretrained(tmp_path)


def test_the_latent_width_is_what_other_tools_call_hidden_size():
    assert CostConfig(latent_dim=32).hidden_size == 32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_sizes": [8] * 100_000}, "hidden_sizes must hold at most 256 widths, got 100000"),
        ({"hidden_sizes": [10**6] * 200}, "make .* weights, at most 10000000000 are taken"),
        ({"level_sizes": [4] * 100_000}, "level_sizes needs 1 to 64 levels"),
        ({"level_sizes": [10**12]}, r"level_sizes\[0\] must be at most 4194304"),
        ({"level_sizes": [4_000_000] * 60, "latent_dim": 96}, "make more than 10000000000 weights"),
        ({"item_dim": 10**9}, "item_dim must be at most 1048576"),
        ({"temperature": float("nan")}, "temperature must be a finite number, got nan"),
        ({"codebook_weight": float("inf")}, "codebook_weight must be a finite number, got inf"),
    ],
)
def test_a_size_that_no_machine_holds_is_refused_before_anything_is_made(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        CostConfig(**fields)


def test_the_configuration_of_another_model_is_refused(tmp_path):
    LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(
        tmp_path
    )

    for kind in (CostConfig, SasRecConfig):
        with pytest.raises(ValueError, match="that of a model of type 'llama', expected"):
            kind.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected 'cost'"):
        CostModel.from_pretrained(tmp_path)
