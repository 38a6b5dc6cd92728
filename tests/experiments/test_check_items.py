"""Options that do not fit the items are refused as soon as the data are read: no vector is made before."""

import logging

import pandas as pd
import pytest

import cost_hf
from cost_hf.data.prepare import PreparedData, prepare_data
from cost_hf.experiments.recipe import Recipe

NUM_ITEMS = 30
SIZES = {"codes.level_sizes": [8, 8]}
FAMAE = {"vectors.kind": "famae", "evaluation.baselines": ["popularity"]}


def shop() -> dict[str, pd.DataFrame]:
    rows = range(NUM_ITEMS)
    items = pd.DataFrame(
        {
            "item_id": [f"n{row}" for row in rows],
            "title": [f"news {row}" for row in rows],
            "topic": [f"topic {row % 3}" for row in rows],
            "paper": ["daily"] * NUM_ITEMS,
        }
    )
    clicks = [(f"u{user}", f"n{(user + step) % NUM_ITEMS}", step) for user in range(20) for step in range(5)]
    return {"items": items, "interactions": pd.DataFrame(clicks, columns=["user_id", "item_id", "position"])}


def shop_data(recipe: Recipe) -> PreparedData:
    return prepare_data(recipe.data, **shop())


@pytest.fixture
def no_vectors(monkeypatch):
    """Make a run fail that begins with its vectors."""
    monkeypatch.setattr("cost_hf.experiments.pipeline.vector_stage", lambda *args: pytest.fail("vectors were made"))


@pytest.mark.usefixtures("no_vectors")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"codes.kind": "category", "codes.category_column": "shelf"},
            r"codes\.category_column must be a column of th",
        ),
        ({"codes.kind": "category", "codes.category_column": "title", **SIZES}, "need 30 codes on level 1"),
        ({"codes.kind": "prism", "codes.tag_column": "shelf"}, r"codes\.tag_column must be a column .*, got 'shelf'"),
        ({"codes.kind": "prism", "codes.tag_column": "paper", **SIZES}, r"codes\.tag_column='paper' must list categor"),
        ({"method": "prism", "isr.tag_column": "shelf", **SIZES}, r"isr\.tag_column must be a column .*, got 'shelf'"),
        ({"method": "ranker", "ranker.columns": ["shelf"]}, r"ranker\.columns names 'shelf', expected columns that st"),
        ({"vectors.kind": "famae", "vectors.fields": ["shelf"]}, "the items have no column 'shelf'"),
        ({"codes.kind": "rkmeans", "codes.level_sizes": [8, 64]}, "64 codes needs as many items .*, got 30; lower"),
        ({"codes.kind": "rqvae", "codes.level_sizes": [64, 8]}, "64 codes needs as many items .*, got 30; lower"),
        ({"codes.kind": "opq", "codes.level_sizes": [64, 8]}, "64 codes needs as many items .*, got 30; lower"),
        ({"codes.kind": "opq", **SIZES, "vectors.dim": 1}, "2 levels for vectors of width 1"),
        ({"codes.kind": "gaoq", "codes.level_sizes": [8, 8, 8]}, "got 8 x 8 buckets for 30 items"),
        ({"codes.kind": "gaoq", "codes.level_sizes": [2, 2, 16], "vectors.dim": 8}, "at most 8 codes for vectors of w"),
    ],
    ids=str,
)
def test_a_run_stops_before_it_makes_vectors(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cost_hf.train(
            **shop(),
            recipe="cost_default",
            overrides={"evaluation.baselines": ["popularity"], **overrides},
            output_dir=tmp_path / "run",
        )


def test_the_message_names_the_baseline_whose_options_do_not_fit(tmp_path):
    row = tmp_path / "shelf.yaml"
    row.write_text("codes: {kind: gaoq, level_sizes: [8, 8, 8]}\ncatalog: {collisions: reassign}\n")
    recipe = Recipe.load("cost_default", {"evaluation.baselines": [str(row)], **SIZES})

    with pytest.raises(ValueError, match=r"baseline .*shelf\.yaml: .*got 8 x 8 buckets"):
        recipe.check_items(shop_data(recipe))


@pytest.mark.usefixtures("no_vectors")
def test_a_comparison_stops_before_it_makes_vectors(tmp_path):
    for name, table in shop().items():
        table.to_parquet(tmp_path / f"{name}.parquet")

    with pytest.raises(ValueError, match=r"row opq: a level of 64 codes needs as many items"):
        cost_hf.compare(
            str(tmp_path),
            systems=["opq"],
            overrides={"codes.level_sizes": [64, 8]},
            output_dir=tmp_path / "compared",
        )


@pytest.mark.parametrize(
    "overrides",
    [
        {"codes.kind": "gaoq", "catalog.collisions": "reassign"},
        {"codes.kind": "rkmeans", "codes.level_sizes": [30, 8]},
        {"codes.kind": "rqvae", "codes.level_sizes": [64, 8], "codes.initialization": "none"},
        {"codes.kind": "simhash", "codes.level_sizes": [64, 64]},
        {"codes.kind": "category", "codes.category_column": "topic", "codes.level_sizes": [3]},
        {"codes.kind": "prism", "codes.tag_column": "topic", **SIZES},
        {"vectors.kind": "famae", "vectors.fields": ["topic"], **SIZES},
        {"method": "popularity", "vectors.kind": "famae", "vectors.fields": ["shelf"]},  # reads no vectors
    ],
    ids=str,
)
def test_what_fits_the_items_passes_without_a_word(overrides, caplog):
    recipe = Recipe.load("cost_default", {"evaluation.baselines": ["popularity"], **overrides})
    recipe.validate()

    recipe.check_items(shop_data(recipe))

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"codes.kind": "gaoq", "catalog.collisions": "append"}, "set catalog.collisions to reassign"),
        ({**FAMAE, **SIZES}, "all new items get the same vector; name categorical columns"),
    ],
    ids=str,
)
def test_what_fits_but_helps_nobody_is_logged(overrides, message, caplog):
    recipe = Recipe.load("cost_default", {"evaluation.baselines": ["popularity"], **overrides})

    with caplog.at_level(logging.WARNING):
        recipe.check_items(shop_data(recipe))

    assert len(caplog.messages) == 1 and message in caplog.messages[0]


def test_items_that_fitting_may_not_see_do_not_count():
    recipe = Recipe.load(
        "cost_default", {"codes.kind": "rkmeans", "codes.level_sizes": [30, 4], "data.cold_share": 0.1}
    )

    with pytest.raises(ValueError, match=r"30 codes needs as many items to be fitted to, got 2\d;"):
        recipe.check_items(shop_data(recipe))
