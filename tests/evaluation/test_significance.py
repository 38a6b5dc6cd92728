import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.evaluation.statistics import (
    SystemValues,
    apply_holm,
    compare_systems,
    detectable_difference,
    holm,
    nested_means,
    two_sided_p,
)


def claim_of(low, high, *, value_b=0.1, draws=2001):
    """Return the claim of a difference whose draws lie evenly between two bounds."""
    differences = np.linspace(low, high, draws)
    value = float(differences.mean())
    fixed = {"metric": "ndcg@10", "seen": "seen_allowed"}
    return compare_systems("a", "b", value_b + differences, np.full(draws, value_b), value_b + value, value_b, **fixed)


def test_a_difference_above_zero_is_better():
    claim = claim_of(0.01, 0.03)

    assert (claim.verdict, claim.p) == ("better", pytest.approx(2 / 2002))
    assert claim.difference.value == pytest.approx(0.02)
    assert (claim.difference.low, claim.difference.high) == pytest.approx((0.0105, 0.0295))
    assert claim.relative == pytest.approx(0.2)


def test_a_difference_below_zero_is_worse():
    assert claim_of(-0.03, -0.01).verdict == "worse"


def test_a_narrow_interval_around_zero_is_equivalent():
    # the 90 % interval is +- .0045, the margin 5 % of .1
    assert claim_of(-0.005, 0.005).verdict == "equivalent"


def test_a_wide_interval_around_zero_is_inconclusive():
    # the 90 % interval is +- .0054, just beyond the margin
    assert claim_of(-0.006, 0.006).verdict == "inconclusive"


def test_a_significant_difference_within_the_margin_is_still_better():
    assert claim_of(0.001, 0.003).verdict == "better"


def test_a_system_equals_itself():
    claim = claim_of(0.0, 0.0)

    assert (claim.verdict, claim.p, claim.standard_error) == ("equivalent", 1.0, 0.0)


def test_a_system_without_a_hit_has_no_relative_difference():
    claim = claim_of(0.01, 0.03, value_b=0.0)

    assert claim.relative is None
    assert claim.verdict == "better"


def test_p_counts_the_far_side_twice():
    # 30 of 999 draws are below 0
    assert two_sided_p(np.r_[np.full(30, -1.0), np.full(969, 1.0)]) == pytest.approx(2 * 31 / 1000)


def test_p_is_never_zero_and_never_above_one():
    assert two_sided_p(np.ones(999)) == pytest.approx(0.002)
    assert two_sided_p(np.zeros(999)) == 1.0


def test_holm_matches_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_no_claims_have_no_p_values():
    assert holm([]) == []
    assert apply_holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected, left = set(), len(p_values)
    for number in sorted(range(len(p_values)), key=lambda number: p_values[number]):
        if p_values[number] * left > alpha:
            break
        rejected.add(number)
        left -= 1

    adjusted = holm(p_values)

    assert {number for number, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(p <= other <= 1.0 for p, other in zip(p_values, adjusted, strict=True))


def test_the_correction_takes_back_weak_findings():
    strong, weak = claim_of(0.01, 0.03), claim_of(-0.0002, 0.0098)
    assert weak.verdict == "better"

    corrected = apply_holm([weak, strong, claim_of(-0.02, 0.02)])

    assert [claim.verdict for claim in corrected] == ["inconclusive", "better", "inconclusive"]
    assert corrected[0].p_holm == pytest.approx(2 * weak.p)
    assert corrected[1].p_holm == pytest.approx(3 * strong.p)
    assert corrected[0].difference == weak.difference


@pytest.mark.parametrize(("draws", "is_warned"), [(119, True), (120, False)])
def test_too_few_draws_for_any_finding_are_logged(caplog, draws, is_warned):
    claims = [claim_of(0.01, 0.03, draws=draws)] * 3

    found = [claim.verdict for claim in apply_holm(claims)]

    assert found == ["inconclusive" if is_warned else "better"] * 3
    assert ("set evaluation.bootstrap_draws to at least 120" in caplog.text) == is_warned


def test_a_claim_is_written_as_json():
    written = claim_of(0.01, 0.03).to_dict()

    assert set(written) == {"a", "b", "metric", "seen", "difference", "relative", "p", "p_holm", "verdict", "purpose"}
    assert set(written["difference"]) == {"value", "low", "high"}


def test_draws_of_other_calls_cannot_be_compared():
    with pytest.raises(ValueError, match=r"'a' - 'b' needs the same draws on both sides, got shapes \(3,\) and \(2,\)"):
        compare_systems("a", "b", np.ones(3), np.ones(2), 1.0, 1.0, metric="ndcg@10", seen="seen_allowed")


def test_the_detectable_difference_follows_the_formula():
    found = detectable_difference(0.002, 0.08, num_claims=5)

    # z(.995) + z(.8) = 2.5758 + .8416
    assert found.absolute == pytest.approx(0.002 * 3.4174, rel=1e-4)
    assert found.relative == pytest.approx(found.absolute / 0.08)
    assert found.alpha == pytest.approx(0.01)


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five():
    generator = np.random.default_rng(0)
    size = detectable_difference(1 / np.sqrt(400), 1.0, num_claims=1).absolute
    found = 0
    for number in range(300):
        system = SystemValues(generator.normal(size, 1.0, size=(1, 400)), [0])
        found += two_sided_p(nested_means({"a": system}, draws=300, seed=number)["a"]) < 0.05

    assert 0.72 < found / 300 < 0.88


def test_no_claims_have_no_detectable_difference():
    with pytest.raises(ValueError, match="at least one claim and a standard error of at least 0, got num_claims=0"):
        detectable_difference(0.1, 0.1, num_claims=0)


def test_equal_systems_are_rarely_called_different():
    """Seven systems of equal quality with three seeds each: any false finding among the six claims counts."""
    generator = np.random.default_rng(0)
    mistakes = 0
    for number in range(200):
        shared = 0.2 * generator.normal(size=400)
        systems = {}
        for name in "abcdefg":
            spread, own = 0.006 * generator.normal(size=(3, 1)), 0.05 * generator.normal(size=400)
            systems[name] = SystemValues(shared + own + spread + 0.15 * generator.normal(size=(3, 400)), [0, 1, 2])
        means = nested_means(systems, draws=400, seed=number)
        values = {name: float(system.per_case().mean()) for name, system in systems.items()}
        claims = [
            compare_systems("a", b, means["a"], means[b], values["a"], values[b], metric="m", seen="s")
            for b in "bcdefg"
        ]
        mistakes += any(claim.verdict in ("better", "worse") for claim in apply_holm(claims))

    assert mistakes / 200 <= 0.07  # 5 % and what 200 repetitions leave open
