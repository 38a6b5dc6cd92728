"""`cost-hf check` of a recipe whose item vectors come from columns: it judges these, and its command is that recipe."""

import pandas as pd
import pytest

from cost_hf.experiments.check.check import check
from cost_hf.methods import benchmarking
from tests.item_vectors.famae.famae_toys import NUM_ITEMS, shop_clicks, shop_items

SMALL = {"generator.size": "tiny"}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "BUDGET_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Return the directory of a shop with good columns and bad ones."""
    folder = tmp_path_factory.mktemp("shop")
    numbers = [f"A-{row}" for row in range(NUM_ITEMS)]
    items = shop_items().assign(number=numbers, currency="EUR", colour=pd.Series(["red"], dtype=object))
    items.to_parquet(folder / "items.parquet")
    shop_clicks().to_parquet(folder / "interactions.parquet")
    return folder


def messages(found, severity: str) -> list[str]:
    return [problem.message for problem in found.problems if problem.severity == severity]


def test_the_command_runs_the_recipe_that_was_asked_for(shop):
    found = check(shop, recipe="resid_industrial", overrides=SMALL)

    assert found.commands[1].startswith("cost-hf train --recipe resid_industrial ")
    assert not {name for name in found.flags if name.startswith("vectors.")}
    assert not messages(found, "error")
    assert any("made of item ids and columns (brand)" in message for message in messages(found, "note"))


def test_columns_of_the_vectors_are_used_and_others_can_be(shop):
    found = check(shop, recipe="resid_industrial", overrides=SMALL)

    unused = {column.name: column.use for column in found.unused if column.table == "items"}
    assert "brand" not in unused
    assert "--vectors.fields '[brand, categories]' makes item vectors of it" in unused["categories"]
    assert "--vectors" not in unused["number"] + unused["currency"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["number"], "column 'number' of the item vectors has 24 different values in 24 items"),
        (["currency"], "column 'currency' of the item vectors has one value, 'EUR', in all items"),
        (["colour"], "column 'colour' of the item vectors is empty for 96\N{NO-BREAK SPACE}% of the items"),
    ],
    ids=str,
)
def test_a_column_that_tells_little_is_a_warning(shop, fields, message):
    found = check(shop, recipe="resid_industrial", overrides={**SMALL, "vectors.fields": fields})

    assert any(warning.startswith(message) for warning in messages(found, "warning"))


def test_what_a_run_would_stop_at_is_an_error(shop):
    found = check(shop, recipe="resid_industrial", overrides={**SMALL, "vectors.fields": ["shelf"]})

    assert any("the items have no column 'shelf'" in message for message in messages(found, "error"))
