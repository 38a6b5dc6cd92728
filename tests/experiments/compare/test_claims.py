"""Which statements a comparison makes."""

import numpy as np
import pytest

from cost_hf.experiments.compare.claims import claims_of, detectable, winners_of
from tests.experiments.compare.made_up import row, targets

SEEN = "seen_allowed"


@pytest.fixture
def rows():
    cases = targets()
    return [
        row("popularity", "counting", cases, [0.1]),
        row("text_last", "counting", cases, [0.3]),
        row("sasrec_ce", "dense", cases, [0.4, 0.5]),
        row("cost", "generative", cases, [0.5, 0.5]),
        row("rqvae", "generative", cases, [0.9, 0.9]),
        row("fusion", "hybrid", cases, [0.7, 0.7]),
        row("fusion_generative", "hybrid", cases, [0.8, 0.8], without_generative="fusion"),
    ]


def claims(rows):
    generator = np.random.default_rng(0)
    values = {row.name: row.validation_score("ndcg@10", SEEN) for row in rows}
    means = {name: value + 0.01 * generator.standard_normal(200) for name, value in values.items()}
    return claims_of(rows, means, values, seen=SEEN)


def test_the_first_generative_row_is_compared_with_every_other(rows):
    pairs = {(claim.a, claim.b) for claim in claims(rows) if claim.purpose == "claim"}

    assert pairs == {("cost", row.name) for row in rows if row.name != "cost"} | {("fusion_generative", "fusion")}


def test_a_hybrid_is_compared_with_itself_without_generative_parts_only_where_it_has_both(rows):
    found = claims([row for row in rows if row.name != "fusion"])

    assert not [claim for claim in found if "fusion" in (claim.a, claim.b)]


def test_decisions_are_between_the_winners_of_validation_and_the_best_hybrid_without_generative_parts(rows):
    winners = winners_of(rows, SEEN)
    decisions = {(claim.a, claim.b) for claim in claims(rows) if claim.purpose == "decision"}

    assert winners == {
        "counting": "text_last",
        "dense": "sasrec_ce",
        "generative": "rqvae",
        "hybrid": "fusion_generative",
    }
    assert decisions == {
        ("sasrec_ce", "text_last"),
        ("rqvae", "text_last"),
        ("rqvae", "sasrec_ce"),
        ("fusion", "text_last"),
        ("fusion", "sasrec_ce"),
        ("fusion", "rqvae"),
        ("fusion_generative", "text_last"),
        ("fusion_generative", "sasrec_ce"),
        ("fusion_generative", "rqvae"),
    }


def test_no_pair_is_tested_twice(rows):
    pairs = [frozenset((claim.a, claim.b)) for claim in claims(rows[:-2])]

    assert len(pairs) == len(set(pairs))


def test_all_claims_share_one_correction(rows):
    found = claims(rows)

    assert min(claim.p_holm for claim in found) == pytest.approx(min(claim.p for claim in found) * len(found))


def test_without_a_generative_row_the_first_dense_one_is_compared_with_every_other(rows):
    coserec = row("coserec", "dense", targets(), [0.6, 0.6])

    found = claims([*rows[:3], coserec])

    assert {(claim.a, claim.b): claim.purpose for claim in found} == {
        ("sasrec_ce", "popularity"): "claim",
        ("sasrec_ce", "text_last"): "claim",
        ("sasrec_ce", "coserec"): "claim",
        ("coserec", "text_last"): "decision",
    }


def test_the_detectable_difference_is_that_of_the_median_claim(rows):
    found = claims(rows)
    reported = detectable(found, 0.5)

    assert reported["relative"] == pytest.approx(reported["absolute"] / 0.5)
    assert reported["alpha"] == pytest.approx(0.05 / len(found))
    assert reported["text"].startswith(f"With {len(found)} claims tested, a true difference of ")
    assert detectable([], 0.5) is None
