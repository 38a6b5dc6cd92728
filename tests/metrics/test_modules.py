import os
from pathlib import Path

import evaluate
import numpy as np
import pytest

from cost_hf.evaluation.ranking import per_user_metrics, target_ranks

METRICS = Path(__file__).parents[2] / "cost_hf" / "metrics"
NAMES = {"recall_at_k": "recall", "ndcg_at_k": "ndcg"}


def load(name, tmp_path):
    return evaluate.load(os.fspath(METRICS / name), cache_dir=os.fspath(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_modules_agree_with_the_package_on_random_lists(name, tmp_path):
    generator = np.random.default_rng(0)
    lists = np.stack([generator.permutation(30)[:12] for _ in range(50)])
    wanted = generator.integers(0, 30, size=50)
    module = load(name, tmp_path)

    for k in (1, 5, 10):
        found = module.compute(predictions=lists.tolist(), references=wanted.tolist(), k=k)
        key = f"{NAMES[name]}@{k}"
        assert found == {key: pytest.approx(per_user_metrics(target_ranks(lists, wanted), [k])[key].mean(), abs=1e-12)}


@pytest.mark.parametrize("name", NAMES)
def test_modules_take_lists_of_different_length_in_batches(name, tmp_path):
    module = load(name, tmp_path)

    module.add_batch(predictions=[[3, 1], [2]], references=[3, 4])
    module.add_batch(predictions=[[], [7, 8, 9]], references=[1, 7])

    assert module.compute(k=5) == {f"{NAMES[name]}@5": 0.5}


@pytest.mark.parametrize("name", NAMES)
def test_modules_take_item_ids(name, tmp_path):
    found = load(name, tmp_path).compute(predictions=[["a", "b"], ["c", "d"]], references=["a", "x"], k=2)

    assert found == {f"{NAMES[name]}@2": 0.5}


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_list_length_is_an_error(name, tmp_path):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        load(name, tmp_path).compute(predictions=[[1]], references=[1], k=0)


@pytest.mark.parametrize("name", NAMES)
def test_modules_stand_alone(name):
    text = (METRICS / name / f"{name}.py").read_text()

    assert "cost_hf" not in text
