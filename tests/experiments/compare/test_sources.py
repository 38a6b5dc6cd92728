"""What `cost-hf compare` is given."""

import pandas as pd
import pytest

from cost_hf.experiments.compare.sources import resolve_sources
from cost_hf.recipe_fields import RecipeError


@pytest.fixture
def directory(tmp_path):
    def write(items: int):
        frame = pd.DataFrame({"item_id": [f"n{row}" for row in range(items)], "title": "about something"})
        frame.to_parquet(tmp_path / "items.parquet")
        clicks = [(f"u{user}", f"n{(user + step) % items}", step) for user in range(20) for step in range(4)]
        columns = ["user_id", "item_id", "position"]
        pd.DataFrame(clicks, columns=columns).to_parquet(tmp_path / "interactions.parquet")
        return tmp_path

    return write


@pytest.mark.parametrize(("items", "sizes"), [(4_999, [64, 64, 64]), (5_000, [256, 256, 256])])
def test_data_alone_take_the_default_recipe_with_codes_that_fit_the_catalog(directory, items, sizes):
    path = directory(items)
    base, others = resolve_sources([str(path)], {})

    assert (base.name, base.data.path, others) == (path.name, str(path), [])
    assert base.level_sizes == sizes
    assert base.vectors.model == "lsa"


def test_given_sizes_win(directory):
    base, _ = resolve_sources([str(directory(100))], {"codes.level_sizes": [8, 8]})

    assert base.level_sizes == [8, 8]


def test_recipes_read_the_data_that_stand_beside_them(directory):
    path = str(directory(100))
    base, others = resolve_sources(["cost_industrial", path, "cost_beauty"], {})

    assert (base.name, base.data.path) == ("cost_industrial", path)
    assert [other.name for other in others] == ["cost_industrial", "cost_beauty"]


def test_a_recipe_alone_is_what_systems_are_made_from():
    base, others = resolve_sources(["cost_quickstart"], {})

    assert (base.name, others) == ("cost_quickstart", [])


def test_the_working_directory_has_a_name(directory, monkeypatch):
    path = directory(100)
    monkeypatch.chdir(path)
    base, _ = resolve_sources(["."], {})

    assert base.name == path.name


def test_a_misspelt_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match=r"'cost_quickstrat' is neither .*; did you mean 'cost_quickstart'\?"):
        resolve_sources(["cost_quickstrat"], {})


def test_two_data_sources_are_an_error():
    with pytest.raises(RecipeError, match=r"one data source, got \['here/one', 'there/two'\]"):
        resolve_sources(["here/one", "there/two", "cost_beauty"], {})
