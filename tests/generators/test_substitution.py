"""Substitutes of the same prefix in the training examples of a generator."""

import numpy as np
import pytest

from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.backbones import build_backbone
from cost_hf.generators.generator_training import training_examples
from cost_hf.generators.options import GeneratorOptions, TrainingOptions
from cost_hf.generators.tasks import Substitution
from cost_hf.semantic_ids.prefix_groups import PrefixGroups
from tests.recommenders.toys import toy_catalog

CODES = np.stack([np.arange(40) // 10, np.arange(40) % 10], axis=1)
ROWS = np.arange(0, 40, 2)


def test_a_share_of_the_items_is_replaced_within_their_prefix():
    substitution = Substitution(PrefixGroups(CODES, prefix=1), 0.3, seed=0)

    changed = [substitution.applied(ROWS, number) for number in range(500)]

    for rows in changed:
        assert np.array_equal(CODES[rows, 0], CODES[ROWS, 0])
    share = np.mean([rows != ROWS for rows in changed])
    assert abs(share - 0.3) < 0.03


def test_examples_of_a_number_are_the_same_and_those_of_another_epoch_differ():
    substitution = Substitution(PrefixGroups(CODES, prefix=1), 0.5, seed=0)
    before = ROWS.copy()

    first, again, later = (substitution.applied(ROWS, number) for number in (3, 3, 503))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    assert np.array_equal(ROWS, before)


def test_nothing_and_everything():
    groups = PrefixGroups(CODES, prefix=1)

    assert np.array_equal(Substitution(groups, 0.0, seed=0).applied(ROWS, 0), ROWS)
    assert (Substitution(groups, 1.0, seed=0).applied(ROWS, 0) != ROWS).all()


def examples(kind, *, has_parallel_levels=False, **training):
    catalog = toy_catalog(40, (4, 8), has_parallel_levels=has_parallel_levels)
    backbone = build_backbone(GeneratorOptions(kind=kind, size="tiny", max_history=4), catalog, seed=0)
    sequences = [np.arange(user, user + 6) % 40 for user in range(30)]
    users = [f"u{number}" for number in range(30)]
    dataset, _ = training_examples(
        backbone, backbone.prompts(catalog), sequences, users, training=TrainingOptions(**training)
    )
    return [dataset[number] for number in range(len(dataset))]


def test_histories_of_a_seq2seq_generator_change_within_a_prefix_and_targets_never():
    plain, changed = examples("seq2seq"), examples("seq2seq", substitute_share=0.5)

    assert all(np.array_equal(one.target, other.target) for one, other in zip(plain, changed, strict=True))
    sources = [(one.source, other.source) for one, other in zip(plain, changed, strict=True)]
    assert any(not np.array_equal(one, other) for one, other in sources)
    for one, other in sources:  # items of two codes and an appended one, then the end
        assert len(one) == len(other)
        assert np.array_equal(one[:-1:3], other[:-1:3])


def test_sequences_of_a_causal_generator_change_as_a_whole():
    plain, changed = examples("causal"), examples("causal", substitute_share=0.5)

    tokens = [(one.tokens, other.tokens) for one, other in zip(plain, changed, strict=True)]
    assert any(not np.array_equal(one, other) for one, other in tokens)
    assert all(len(one) == len(other) for one, other in tokens)


def test_a_teacher_and_substitutes_exclude_each_other():
    with pytest.raises(ValueError, match=r"training.substitute_share must be 0 with training.teacher"):
        TrainingOptions(teacher="markov", substitute_share=0.1).validate()
    with pytest.raises(ValueError, match=r"training.substitute_share must be a share from 0 to 1, got 1.5"):
        TrainingOptions(substitute_share=1.5).validate()


@pytest.mark.parametrize(("kind", "is_refused"), [("opq", True), ("rkmeans", False)])
def test_codes_of_parallel_levels_have_no_substitutes_by_prefix(kind, is_refused):
    recipe = Recipe.load("cost_quickstart", {"codes.kind": kind, "training.substitute_share": 0.1})

    if not is_refused:
        recipe.validate()
        return
    with pytest.raises(ValueError, match=r"training.substitute_share .* codes of kind 'opq' .* are not alike"):
        recipe.validate()


def test_examples_of_parallel_levels_refuse_substitutes():
    with pytest.raises(ValueError, match=r"substitute_share=0.1 .* levels of this catalog do not depend on each other"):
        examples("causal", has_parallel_levels=True, substitute_share=0.1)
    assert examples("causal", has_parallel_levels=True)
