import pytest

from cost_hf.evaluation.options import EvaluationOptions


def test_the_defaults_are_values_that_a_run_can_have():
    EvaluationOptions().validate()


def test_a_baseline_that_is_named_twice_is_an_error():
    with pytest.raises(ValueError, match=r"baselines must hold every name once, got \['markov', 'markov'\]"):
        EvaluationOptions(baselines=["markov", "markov"]).validate()


@pytest.mark.parametrize("field", ["num_beams", "batch_size", "bootstrap_draws"])
def test_nothing_can_be_evaluated_with_zero_of_something(field):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        EvaluationOptions(**{field: 0}).validate()


@pytest.mark.parametrize("size", [0, -3])
@pytest.mark.parametrize("field", ["max_users", "validation_users"])
def test_a_sample_has_a_case(field, size):
    with pytest.raises(ValueError, match=rf"evaluation.{field} must be at least 1, or null for all cases, got {size}"):
        EvaluationOptions(**{field: size}).validate()


@pytest.mark.parametrize("cutoffs", [[], [10, 0]], ids=str)
def test_cutoffs_are_list_lengths(cutoffs):
    with pytest.raises(ValueError, match="list lengths of at least 1 and at most"):
        EvaluationOptions(cutoffs=cutoffs).validate()
