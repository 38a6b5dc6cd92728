"""Whole checks: of a messy directory under foreign names, of toy data by a recipe, and of the real sets."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from cost_hf.data import DataError, DataOptions, make_news, read_tables, render_texts
from cost_hf.experiments.check.check import check
from cost_hf.experiments.check.guess import ColumnGuess
from cost_hf.experiments.check.problems import Problem
from cost_hf.experiments.commands import read_overrides
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods import benchmarking
from cost_hf.methods.base import Advice, Estimate, methods

TINY = {"generator.size": "tiny"}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "BUDGET_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def news():
    return make_news(seed=0, num_users=150, num_items=400)


@pytest.fixture(scope="module")
def messy(news, tmp_path_factory):
    """A directory whose files and columns have other names, with unknown items, empty texts and repeats."""
    directory = tmp_path_factory.mktemp("messy shop")
    items = news.items.rename(columns={"item_id": "sku"}).assign(url="https://shop.example/x", price=9.5)
    texts = [column for column in items if column not in ("sku", "url", "price")]
    items.loc[:2, texts] = None
    clicks = news.interactions[["user_id", "item_id"]].copy()
    clicks["event_time"] = 1_700_000_000 + np.arange(len(clicks)) * 60
    clicks.columns = ["customer_id", "product", "event_time"]
    clicks.loc[:4, "product"] = "gone"
    items.to_csv(directory / "products.csv", index=False)
    clicks.to_csv(directory / "clicks.csv", index=False)
    return directory


@pytest.fixture(scope="module")
def result(messy):
    return check(messy, overrides=TINY)


def test_foreign_files_and_columns_are_found(result):
    assert (result.options.items, result.options.interactions) == ("products.csv", "clicks.csv")
    assert result.guess.columns == {
        "items.item_id": "sku",
        "interactions.item_id": "product",
        "user_id": "customer_id",
        "timestamp": "event_time",
    }


def test_what_would_stop_a_run_is_an_error_with_its_flag(result):
    errors = {problem.remedy.split(",")[0]: problem for problem in result.problems if problem.severity == "error"}

    assert set(errors) == {"--data.on_unknown_item drop", "--data.on_empty_text drop"}
    assert errors["--data.on_unknown_item drop"].message.startswith("5 (")
    assert errors["--data.on_empty_text drop"].message.startswith("3 (")
    assert result.problems[0].severity == "error"


def test_counts_are_those_of_the_tables_that_a_run_would_see(result, messy):
    options = DataOptions(**{name.removeprefix("data."): yaml.safe_load(text) for name, text in _data_flags(result)})

    tables = read_tables(options, template=result.texts.template)

    assert (result.clicks.users, result.clicks.items) == (tables.counts["users"], tables.num_items)
    assert result.clicks.interactions == len(tables.interactions)
    assert all(render_texts(tables.items, result.texts.template))


def _data_flags(result):
    return [(name, text) for name, text in result.flags.items() if name.startswith("data.")]


def test_the_command_that_is_printed_is_read_back_as_the_same_recipe(result):
    tokens = [token for name, text in result.flags.items() for token in (f"--{name}", text)]

    recipe = Recipe.load(result.recipe, read_overrides(tokens, Recipe.load(result.recipe), program="train.py"))

    assert recipe.data.columns == result.guess.columns
    assert recipe.vectors.template == result.texts.template
    assert tuple(recipe.level_sizes) == result.advised.level_sizes
    assert (recipe.data.on_unknown_item, recipe.data.on_empty_text) == ("drop", "drop")
    assert result.commands[0].startswith(f"cost-hf compare '{result.source}'")  # a path with a space is quoted
    assert result.commands[1].startswith("cost-hf train")


def test_the_report_fits_a_terminal_and_has_all_sections(result):
    lines = result.text().splitlines()

    assert max(len(line) for line in lines if "--data.columns" not in line) <= 110  # a value can't be broken
    labels = ["columns", "item text", "histories", "items", "time", "splits", "power", "code sizes", "costs"]
    assert [line.split("  ")[0] for line in lines if line and line.split("  ")[0] in labels] == labels
    assert "Problems and notes" in lines and "Next" in lines


def test_given_names_are_shown_as_such(result):
    given = {"item_id": "sku", "user_id": "uid", "timestamp": "t", "title": "name"}
    options = dataclasses.replace(result.options, columns=given)

    text = dataclasses.replace(result, options=options, guess=ColumnGuess()).text()

    assert "given: item_id = 'sku', user_id = 'uid', timestamp = 't', title = 'name'" in text
    assert "expected names" not in text
    plain = dataclasses.replace(result, options=dataclasses.replace(options, columns={}), guess=ColumnGuess())
    assert "expected names" in plain.text()


def test_names_out_of_the_data_do_not_steer_the_terminal(result):
    texts = dataclasses.replace(result.texts, template="{ti\x1b[31mtle}")

    text = dataclasses.replace(result, texts=texts, source="a\x9bb").text()

    assert not set(text) & {"\x1b", "\x9b"}
    assert r"{ti\x1b[31mtle}" in text


def test_what_a_run_would_log_is_a_problem_with_its_flag(news, tmp_path):
    items = news.items.astype(object)
    items.loc[3, "title"] = 1984
    items.loc[4, "title"] = "<b>Bold</b> &amp; red"
    items.to_json(tmp_path / "items.jsonl", orient="records", lines=True)
    clicks = pd.concat([news.interactions] * 2)
    clicks["position"] = (
        clicks.groupby(["user_id", "timestamp"]).cumcount() * 100 - clicks.groupby("user_id").cumcount()
    )
    clicks.to_parquet(tmp_path / "interactions.parquet")

    found = check(tmp_path, overrides=TINY | {"data.on_duplicate_click": "keep"})

    said = {problem.remedy.split(",")[0].split(" orders")[0]: problem.message for problem in found.problems}
    assert "like 1984 in row 3" in said["store them as text if they should be written differently"]
    assert "1 of 400 item texts" in said["--data.clean_html true"]
    assert "position and timestamp disagree" in said["--data.order timestamp"]
    assert "every click is in the log at least 2 times" in said["--data.on_duplicate_click drop"]
    assert "{title}" in found.texts.template
    assert not any("order is arbitrary" in message for message in said.values())


def test_what_mends_ids_and_texts_is_in_the_commands_and_nothing_is_dropped(news, tmp_path):
    clicks = news.interactions.assign(item_id=news.interactions["item_id"])
    clicks.loc[clicks.index % 10 == 0, "item_id"] += " "
    items = news.items.assign(title="<b>" + news.items["title"] + "</b>")
    items.to_parquet(tmp_path / "items.parquet")
    clicks.to_parquet(tmp_path / "interactions.parquet")

    found = check(tmp_path, overrides=TINY)

    assert found.flags["data.normalize_ids"] == "[strip]"
    assert found.flags["data.clean_html"] == "true"
    assert "data.on_unknown_item" not in found.flags
    assert found.clicks.interactions == len(clicks)
    assert all("--data.normalize_ids" in command and "--data.clean_html true" in command for command in found.commands)


def test_the_report_is_json(result):
    plain = json.loads(json.dumps(result.to_dict()))

    assert plain["clicks"]["users"] == result.clicks.users
    assert plain["power"]["detectable"] == pytest.approx(result.power.detectable)
    assert plain["problems"][0].keys() == {"severity", "message", "remedy", "count", "first"}


def test_times_open_the_split_by_time(result):
    assert [split.name for split in result.clicks.splits] == ["leave_one_out", "time"]


def save(news, directory, **changes):
    news.items.to_parquet(directory / "items.parquet")
    news.interactions.assign(**changes).to_parquet(directory / "interactions.parquet")
    return directory


def test_a_recipe_keeps_its_sizes_and_is_told_better_ones(news, tmp_path):
    save(news, tmp_path)

    found = check(
        tmp_path, recipe="cost_quickstart", overrides={"codes.level_sizes": [2, 2, 2], "catalog.append_size": 100}
    )

    assert found.flags["codes.level_sizes"] == "[2, 2, 2]"
    remedies = [problem.remedy for problem in found.problems]
    assert f'--codes.level_sizes "{list(found.advised.level_sizes)}"' in remedies


def test_sizes_of_codes_that_never_collide_are_not_judged_by_residual_kmeans(news, tmp_path):
    save(news, tmp_path)
    own = {"codes.kind": "gaoq", "codes.level_sizes": [8, 8, 10]}

    found = check(tmp_path, overrides=own)

    assert found.flags["codes.level_sizes"] == "[8, 8, 10]"
    assert not [problem for problem in found.problems if "codes.level_sizes" in problem.remedy]


def test_sizes_of_parallel_codes_are_not_judged_by_residual_kmeans(news, tmp_path):
    save(news, tmp_path)

    found = check(tmp_path, overrides={"codes.kind": "opq"})

    assert list(found.advised.level_sizes) != Recipe.load("cost_default").level_sizes  # a hierarchy would get them
    assert "codes.level_sizes" not in found.flags
    assert not [problem for problem in found.problems if "codes.level_sizes" in problem.remedy]


def test_a_template_that_does_not_fit_is_an_error_with_a_guess(news, tmp_path):
    save(news, tmp_path)

    found = check(tmp_path, overrides=TINY | {"vectors.template": "{nonsense}"})

    first = found.problems[0]
    assert (first.severity, first.remedy) == ("error", f"--vectors.template '{found.texts.template}'")
    assert "'nonsense'" in first.message
    assert found.flags["vectors.template"] == found.texts.template


def test_an_impossible_split_is_an_error_and_nothing_is_timed(news, tmp_path):
    save(news, tmp_path, timestamp=None, position=news.interactions.groupby("user_id").cumcount())

    found = check(tmp_path, overrides={"data.split": "time"})

    assert found.problems[0].severity == "error"
    assert found.power is None
    assert found.estimate == "there is no split to train on"
    assert "not possible" in found.text()


def test_a_catalog_without_words_is_refused_at_the_door(news, tmp_path):
    news.items[["item_id"]].assign(price=1.0).to_parquet(tmp_path / "items.parquet")
    news.interactions.to_parquet(tmp_path / "interactions.parquet")

    with pytest.raises(DataError, match=r"items has no text column"):
        check(tmp_path)


def test_a_catalog_of_codes_alone_is_refused_at_the_door(news, tmp_path):
    news.items[["item_id"]].assign(url="https://shop.example/x").to_parquet(tmp_path / "items.parquet")
    news.interactions.to_parquet(tmp_path / "interactions.parquet")

    with pytest.raises(DataError, match="no column of words beside item_id"):
        check(tmp_path)


def test_a_path_that_is_nothing_is_refused_at_the_door():
    with pytest.raises(DataError, match="neither a directory nor a Hub id"):
        check("no such place")


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_both_generators_can_be_timed(news, tmp_path, kind):
    found = check(save(news, tmp_path), overrides={"generator.kind": kind, "generator.size": "tiny"})

    assert set(found.estimate.seconds) == {"vectors", "codes", "generator", "evaluation", "baselines"}
    assert found.estimate.seconds["generator"] > 0
    assert found.estimate.run == pytest.approx(sum(found.estimate.seconds.values()))


@pytest.mark.parametrize("name", methods())
def test_the_costs_of_every_method_are_estimated_or_the_reason_is_given(news, tmp_path, name):
    found = check(save(news, tmp_path), recipe="cost_quickstart", overrides={"method": name})

    if isinstance(found.estimate, str):
        assert found.estimate
    else:
        assert {"vectors", "evaluation"} < set(found.estimate.seconds)
        assert min(found.estimate.seconds.values()) >= 0 and found.estimate.memory_mb > 0


def test_a_recipe_of_a_dense_method_costs_neither_codes_nor_a_generator(news, tmp_path, monkeypatch):
    estimate = Estimate({"training": 5.0, "evaluation": 1.0}, 10.0)  # the same on a slow machine
    monkeypatch.setattr("cost_hf.methods.sasrec.method.SasRec.estimate", lambda self, facts: estimate)
    save(news, tmp_path)
    overrides = {"vectors.model": "lsa", "vectors.template": "{title}"}
    result = check(tmp_path, recipe="sasrec_beauty", overrides=overrides)

    costs = result.estimate
    assert set(costs.seconds) == {"vectors", "training", "evaluation", "baselines"}
    assert "item texts under a minute, training under a minute, evaluation under a minute" in result.text()
    assert "codes.level_sizes" not in result.flags
    assert not [problem for problem in result.problems if "codes of" in problem.message]


def test_what_is_better_changed_in_the_options_is_a_note(news, tmp_path, monkeypatch):
    advice = [Advice("half of it is enough", "--model.hidden_size 8")]
    monkeypatch.setattr("cost_hf.methods.counting.method.Markov.advice", lambda self, items: advice)

    found = check(save(news, tmp_path), overrides={"method": "markov"})

    assert Problem("note", "half of it is enough", "--model.hidden_size 8") in found.problems


def test_a_pretrained_backbone_is_not_loaded(news, tmp_path):
    overrides = {"generator.kind": "seq2seq", "generator.backbone": "nobody/nothing"}

    found = check(save(news, tmp_path), overrides=overrides)

    assert "nobody/nothing" in found.estimate
    assert "not measured" in found.text()


@pytest.mark.parametrize(
    ("name", "users", "items", "clicks", "template"),
    [
        ("mind_subset", 721, 2_000, 3_228, "{title}. {categories}. {subcategory}. {description}"),
        pytest.param(
            *("amazon_industrial", 3_285, 3_686, 22_743, "{title}. {brand}. {description}"), marks=pytest.mark.slow
        ),
    ],
)
def test_real_sets_are_described_as_their_readme_does(shared_data, name, users, items, clicks, template):
    found = check(shared_data / name, overrides=TINY)

    assert (found.clicks.users, found.clicks.items, found.clicks.interactions) == (users, items, clicks)
    assert found.texts.template == template
    assert found.guess.columns == {}
    assert not [problem for problem in found.problems if problem.severity == "error"]


def test_raw_mind_is_recognised(shared_data):
    found = check(shared_data / "mind_subset" / "raw", overrides=TINY)

    assert found.options.reader == "mind"
    assert found.flags["data.on_unknown_item"] == "drop"
