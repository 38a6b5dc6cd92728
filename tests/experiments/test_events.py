"""Events through whole runs: what is evaluated, what weights change, and that weights of 1 change no number."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.data import DataOptions, make_news
from cost_hf.experiments.protocol import leakage
from cost_hf.experiments.recipe import Recipe
from tests.runs import tiny_fields

pytestmark = pytest.mark.trains
KINDS = ("view", "cart", "purchase")
SMALL = {"codes.epochs": 2, "training.epochs": 2, "evaluation.baselines": [], "evaluation.bootstrap_draws": 20}


@pytest.fixture(scope="module")
def shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    news = make_news(seed=0, num_users=60, num_items=80)
    kinds = np.random.default_rng(0).choice(KINDS, len(news.interactions), p=[0.6, 0.2, 0.2])
    return news.items, news.interactions.assign(kind=kinds)


def train(shop: tuple[pd.DataFrame, pd.DataFrame], directory: Path, method: str, **data: Any) -> cost_hf.Run:
    fields = tiny_fields(method=method)
    fields |= {name: value for name, value in SMALL.items() if name in fields or name.startswith("evaluation")}
    fields |= {f"data.{name}": value for name, value in data.items()}
    items, clicks = shop
    return cost_hf.train(
        items=items, interactions=clicks, recipe="cost_quickstart", overrides=fields, output_dir=directory
    )


@pytest.mark.parametrize("method", ["popularity", "item_knn", "markov", "sasrec", "sid_generator"])
def test_weights_of_one_change_no_number(shop, tmp_path, method):
    plain = train(shop, tmp_path / "plain", method)
    weighted = train(shop, tmp_path / "ones", method, event_column="kind", event_weights=dict.fromkeys(KINDS, 1))

    for part in ("rows", "slices", "curves"):
        assert plain.results[part] == weighted.results[part], part
    np.testing.assert_array_equal(plain.recommender.popularity, weighted.recommender.popularity)


@pytest.mark.parametrize("method", ["markov", "sasrec", "sid_generator"])
def test_only_target_events_are_evaluated_and_the_protocol_states_it(shop, tmp_path, method):
    run = train(
        shop,
        tmp_path,
        method,
        event_column="kind",
        event_weights={"view": 1, "cart": 3, "purchase": 5},
        target_events=["purchase"],
    )

    protocol = run.results["protocol"]
    items, clicks = shop
    purchases = clicks.loc[clicks["kind"] == "purchase"]
    assert protocol["targets"] == "purchase (kind); other events are in histories alone"
    assert protocol["event_weights"] == "view 1, cart 3, purchase 5"
    assert 0 < protocol["cases"] <= purchases["user_id"].nunique()
    assert protocol["counts"]["events.purchase"] == len(purchases)
    assert "targets: purchase (kind)" in (tmp_path / "report.html").read_text()
    assert run.recommender.recommend(items["item_id"].tolist()[:3], top_k=3)


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ({"method": "liger"}, "liger"),
        ({"method": "cobra"}, "cobra"),
        ({"method": "prism"}, "prism"),
        ({"evaluation.baselines": ["liger"]}, "baseline liger: method liger"),
        ({"method": "fusion", "fusion.parts": ["markov", "liger"]}, "liger"),
    ],
)
def test_a_loss_that_weighs_no_events_is_refused_before_any_work(fields, method):
    events = {"data.event_column": "kind", "data.event_weights": {"view": 1, "cart": 0, "purchase": 5}}

    with pytest.raises(ValueError, match=f"{method} has a loss of its own, which learns all events alike"):
        Recipe.load("cost_default", fields | events).validate()
    Recipe.load("cost_default", fields | events | {"data.event_weights": {"view": 0, "purchase": 5}}).validate()


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({}, "each user's last click is"),
        ({"target_events": ["cart", "purchase"]}, "each user's last cart or purchase is"),
    ],
)
def test_the_note_on_leave_one_out_names_the_target(fields, target):
    assert target in leakage(DataOptions(event_column="kind", **fields))


def test_popularity_counts_weights(shop, tmp_path):
    run = train(shop, tmp_path, "popularity", event_column="kind", target_events=["purchase"])
    _, clicks = shop
    bought = clicks.loc[clicks["kind"] == "purchase", "item_id"].value_counts()

    found = dict(zip(run.recommender.catalog.item_ids, run.recommender.popularity.tolist(), strict=True))

    assert sum(found.values()) > 0
    assert all(count <= bought.get(item, 0) for item, count in found.items())
