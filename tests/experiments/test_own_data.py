"""The recipe where none is named: chosen for the data, never the toy one."""

import logging

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.cli import main
from cost_hf.data.options import DataOptions
from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.experiments.own_data import choose_recipe, data_name, names_own_data
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json

FAST = {"method": "markov", "evaluation.baselines": [], "evaluation.num_beams": 5, "evaluation.bootstrap_draws": 20}


def shop(users: int, clicks: int, items: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    catalog = pd.DataFrame({"item_id": np.arange(items).astype(str), "title": [f"tea {n}" for n in range(items)]})
    rows = [(f"u{user}", str((user + 7 * step) % items), step) for user in range(users) for step in range(clicks)]
    return catalog, pd.DataFrame(rows, columns=["user_id", "item_id", "position"])


def prepared(users: int, clicks: int, items: int) -> PreparedData:
    catalog, log = shop(users, clicks, items)
    return prepare_data(DataOptions(), items=catalog, interactions=log)


def test_short_histories_take_counts_and_texts():
    catalog, log = shop(50, 2, 40)
    long = log.loc[log["user_id"] == "u0"].assign(user_id="long")
    log = pd.concat(
        [log, pd.concat([long.assign(position=n, item_id=str(n)) for n in range(4)]).drop_duplicates("position")]
    )
    data = prepare_data(DataOptions(), items=catalog, interactions=log)

    given = {"vectors.dim": 16}

    recipe, reason = choose_recipe(Recipe.load("cost_default", given), data, given)

    assert (recipe.name, recipe.vectors.dim) == ("markov_text", 16)
    assert "40 items, 51 users with 2 clicks" in reason


@pytest.mark.parametrize(("items", "size"), [(40, 64), (5_000, 256)])
def test_code_sizes_follow_the_catalog_and_history_the_users(items, size):
    recipe, reason = choose_recipe(Recipe.load("cost_default"), prepared(12, 31, items), {})

    assert recipe.level_sizes == [size] * 3
    assert recipe.options.generator.max_history == 31
    assert f"{items:,} items, 12 users" in reason


def test_what_is_given_is_kept():
    given = {"codes.level_sizes": [8, 8], "generator.max_history": 5}

    recipe, _ = choose_recipe(Recipe.load("cost_default", given), prepared(12, 31, 40), given)

    assert (recipe.level_sizes, recipe.options.generator.max_history) == ([8, 8], 5)


def test_code_sizes_that_a_method_brings_are_kept():
    given = {"method": "acerec"}
    recipe, reason = choose_recipe(Recipe.load("cost_default", given), prepared(12, 31, 5_000), given)

    assert recipe.level_sizes == Recipe.load("cost_default", given).level_sizes != [256, 256, 256]
    assert "codes.level_sizes" not in reason


@pytest.mark.parametrize(
    ("fields", "is_own"),
    [
        ({}, False),
        ({"data.synthetic_users": 60}, False),
        ({"data.path": "shop"}, True),
        ({"data.interactions": "log.csv"}, True),
        ({"data.reader": "mind"}, True),
        ({"data.reader": "synthetic"}, False),
    ],
)
def test_fields_that_name_data(fields, is_own):
    assert names_own_data(fields) is is_own


def test_names_of_data(tmp_path):
    (tmp_path / "my.shop").mkdir()

    assert data_name(DataOptions(path=str(tmp_path / "my.shop"))) == "my.shop"
    assert data_name(DataOptions(path="owner/news")) == "news"
    assert data_name(DataOptions(interactions="x/orders-*.csv.gz")) == "orders"
    assert data_name(DataOptions()) is None


def test_a_path_without_a_recipe_never_meets_the_toy_recipe(tmp_path, monkeypatch, caplog):
    catalog, log = shop(20, 6, 30)
    folder = tmp_path / "teashop"
    folder.mkdir()
    catalog.to_parquet(folder / "items.parquet")
    log.to_parquet(folder / "interactions.parquet")
    monkeypatch.chdir(tmp_path)
    flags = [part for name, value in FAST.items() for part in (f"--{name}", str(value))]

    with caplog.at_level(logging.WARNING, logger="cost_hf"):
        assert main(["train", "--data.path", "teashop", *flags]) == 0

    results = read_json(tmp_path / "runs" / "teashop-0" / "evaluation" / "results.json")
    assert results["recipe"]["data"]["reader"] == "tables"
    assert results["data_name"] == "teashop"
    assert "teashop: cost_default, seed 0" in (tmp_path / "runs" / "teashop-0" / "report.html").read_text()
    assert any("30 items, 20 users with 6 clicks" in message for message in caplog.messages)


def test_tables_in_memory_are_named_by_their_sizes(tmp_path):
    catalog, log = shop(20, 6, 30)

    run = cost_hf.train(items=catalog, interactions=log, overrides=FAST, output_dir=tmp_path)

    assert run.results["data_name"] is None
    assert "30 items, 20 users: cost_default, seed 0" in (tmp_path / "report.html").read_text()
