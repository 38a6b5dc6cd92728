"""A run is trained on with the clicks of another day, judged, served, and taken back."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.cli import main
from cost_hf.data.click_log import CLICKS, load_clicks
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.experiments.updates import guard
from cost_hf.experiments.updates.commands import REFUSED, update_text
from cost_hf.experiments.updates.history import History
from cost_hf.experiments.updates.update import Update, rollback_run, update_run
from cost_hf.files import DamagedFileError, read_json, write_json
from cost_hf.hub.staging import RunPublication, read_results
from cost_hf.methods.base import methods
from cost_hf.methods.counting.counting import build_scorer, fit_tables
from cost_hf.recommenders.base import Recommender
from tests.experiments.updates.shop import DAY, catalog, clicks, fields, new_items, served_files


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("shop") / "run"
    cost_hf.train(items=catalog(), interactions=clicks(0), overrides=fields("markov"), output_dir=directory)
    return directory


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def lenient(monkeypatch) -> None:
    """Accept every model: what a tiny one loses is chance."""
    monkeypatch.setattr(guard, "_reason", lambda figures, tolerance: "")


def second_day() -> pd.DataFrame:
    return clicks(1, users=30, items=26)


def update(run: Path, log: pd.DataFrame | None = None, **options) -> Update:
    return update_run(run, clicks=second_day() if log is None else log, items=new_items(), options=options)


def test_counts_and_popularity_are_those_of_all_clicks_at_once(run):
    found = update(run, holdout=0.0)

    log = pd.concat([clicks(0), second_day()], ignore_index=True).sort_values(["user_id", "timestamp"], kind="stable")
    # what the model is judged by is read as history and counts nothing
    log["weight"] = ~log.set_index(["user_id", "item_id", "timestamp"]).index.isin(validation_clicks(run))
    recommender = found.recommender
    groups = [group for _, group in log.groupby("user_id", sort=True)]
    rows = [recommender.catalog.rows_of(group["item_id"].tolist()) for group in groups]
    weights = [group["weight"].to_numpy(dtype=np.int64) for group in groups]
    counted = np.bincount(np.concatenate(rows), np.concatenate(weights), minlength=26)
    assert recommender.popularity.tolist() == counted.tolist()
    histories = [["n3"], ["n24", "n1"], ["n9", "n25"]]
    scorer = build_scorer("markov", fit_tables("markov", rows, 26, weights=weights), 26, vectors=None)
    for history in histories:
        own = recommender.catalog.rows_of(history)[None]
        assert np.array_equal(recommender.snapshot.scorer.scores(own), scorer.scores(own))


def validation_clicks(run: Path) -> pd.MultiIndex:
    known = pd.read_parquet(run / CLICKS)
    return known.loc[known["part"] == 1].set_index(["user_id", "item_id", "timestamp"]).index


def test_the_record_says_what_was_learned_and_how_the_models_compare(run):
    found = update(run)

    assert found.is_accepted
    [entry] = read_json(run / "updates.json")["updates"]
    assert entry == dict(found.record)
    assert (entry["number"], entry["parent"], entry["method"]) == (1, 0, "markov")
    assert entry["clicks"] | {"learned": 0, "labels": 0} == {
        "read": 150, "known": 0, "unknown_items": 0, "new": 150, "held_out": 15, "learned": 0, "labels": 0,
    }  # fmt: skip
    assert entry["clicks"]["learned"] == 150 - 15 + 60  # and the test clicks of the run
    assert entry["items"]["new"] == 2
    parts = entry["guard"]
    assert parts["validation part of the run"]["cases"] == 60
    assert 0 < parts["latest new clicks"]["cases"] <= 15
    assert parts["all"]["cases"] == 60 + parts["latest new clicks"]["cases"]
    assert {"before", "after", "difference", "low", "high"} == set(parts["all"]["ndcg@10"])


def test_new_items_are_served_with_titles_and_columns(run):
    recommender = update(run).recommender

    answers = recommender.recommend(["n2"], allowed=["n24", "n25"], where={"price": (150, None)})
    assert [(answer.item_id, answer.fields["title"]) for answer in answers] == [("n25", new_items()["title"][1])]


def test_clicks_that_the_run_knows_are_not_learned_twice(run):
    update(run)
    before = served_files(run)

    again = update(run, pd.concat([clicks(0), second_day()], ignore_index=True))

    assert again.record is None and not again.is_accepted
    assert served_files(run) == before
    assert len(read_json(run / "updates.json")["updates"]) == 1
    third = update(run, pd.concat([second_day(), clicks(2, users=5)], ignore_index=True))
    assert third.record["clicks"]["known"] == 150 and third.record["clicks"]["new"] == 25


def test_new_items_without_new_clicks_are_named_and_not_lost_unsaid(run, caplog):
    found = update(run, clicks(0))

    assert found.record is None and found.left_items == ("n24", "n25")
    assert "2 new items were not added" in caplog.text and "update-catalog" in caplog.text


def test_a_rollback_says_that_the_catalog_goes_back_too(run, caplog):
    update(run)
    rollback_run(run)
    assert "the catalog is that of the day before" in caplog.text

    caplog.clear()
    update_run(run, clicks=clicks(1, users=30))
    rollback_run(run)
    assert "catalog" not in caplog.text


def test_rollbacks_return_day_by_day_and_the_next_update_starts_from_there(run):
    days = [served_files(run)]
    for day in (1, 2):
        update(run, clicks(day, users=20))
        days.append(served_files(run))

    assert rollback_run(run) == 1
    assert served_files(run) == days[1]
    assert rollback_run(run) == 0
    assert served_files(run) == days[0]
    with pytest.raises(ValueError, match="no update to take back"):
        rollback_run(run)

    # the clicks of the first day were taken back with it, so they are new again
    found = update(run, clicks(1, users=20))
    assert (found.record["number"], found.record["parent"]) == (3, 0)
    assert found.record["clicks"]["new"] == 100
    first, second, third = read_json(run / "updates.json")["updates"]
    assert "rolled_back" in first and "rolled_back" in second and "rolled_back" not in third
    assert rollback_run(run) == 0
    assert served_files(run) == days[0]


def test_the_disk_holds_as_many_days_as_are_kept(run):
    for day in range(1, 6):
        update(run, clicks(day, users=10), keep=2)

    folders = sorted(path.name for path in (run / "updates").iterdir() if path.is_dir())
    assert folders == ["0003", "0004"]
    assert rollback_run(run) == 4
    assert rollback_run(run) == 3
    with pytest.raises(FileNotFoundError, match="update 2 is not kept any more"):
        rollback_run(run)
    # the clicks of all days stay known
    assert update(run, clicks(1, users=10)).record is None


def test_a_worse_model_is_refused_and_kept_beside(run, tmp_path, capsys, monkeypatch):
    before = served_files(run)
    second_day().to_parquet(tmp_path / "new.parquet")
    new_items().to_csv(tmp_path / "items.csv", index=False)

    with monkeypatch.context() as patched:
        patched.setattr(guard, "_reason", lambda figures, tolerance: "it is worse")
        arguments = ["--clicks", str(tmp_path / "new.parquet"), "--items", str(tmp_path / "items.csv")]
        status = main(["update", str(run), *arguments])

    assert status == REFUSED == 3
    text = capsys.readouterr().out
    assert "refused: it is worse; the model is kept in updates/0001-refused" in text
    assert "give them to the next update again" in text
    assert served_files(run) == before
    assert Recommender.from_pretrained(run / "updates" / "0001-refused").update == 1
    [entry] = read_json(run / "updates.json")["updates"]
    assert not entry["is_accepted"] and entry["reason"] == "it is worse"
    # its clicks are not known: they can come again
    assert update(run).record["clicks"]["new"] == 150


def kills(run: Path, target: Path, monkeypatch, action) -> list[Path]:
    """Act and keep copies of the run as a kill before each rename would leave it."""
    rename, taken = os.replace, []

    def keeping(*arguments, **options):
        taken.append(target / str(len(taken)))
        shutil.copytree(run, taken[-1])
        return rename(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", keeping)
        action()
    return taken


@pytest.mark.parametrize("name", ["clicks.parquet", "updates/0001-clicks.parquet"])
def test_known_clicks_that_were_damaged_are_not_learned_from(run, name):
    update(run, clicks(2, users=10))
    before = served_files(run)
    content = bytearray((run / name).read_bytes())
    content[len(content) // 3] ^= 4
    (run / name).write_bytes(content)

    with pytest.raises(DamagedFileError, match=rf"{name} has sha256 \w+, expected \w+"):
        update(run)

    assert served_files(run) == before and len(read_json(run / "updates.json")["updates"]) == 1
    content[len(content) // 3] ^= 4
    (run / name).write_bytes(content)
    assert update(run).is_accepted


def test_a_record_of_updates_by_a_newer_version_is_refused(run):
    update(run)
    before = served_files(run)
    write_json(run / "updates.json", read_json(run / "updates.json") | {"format": 2})

    with pytest.raises(ValueError, match=r"updates.json has format 2, this version reads 1; use the release"):
        update(run)
    assert served_files(run) == before


@pytest.mark.parametrize("action", ["update", "rollback"])
def test_a_run_that_is_killed_at_any_moment_is_as_before_or_as_after(run, tmp_path, monkeypatch, action):
    update(run, clicks(2, users=10))
    before = served_files(run)
    act = (lambda: update(run)) if action == "update" else (lambda: rollback_run(run))

    taken = kills(run, tmp_path / "kills", monkeypatch, act)

    after = served_files(run)
    assert before != after and len(taken) > 10
    states = []
    for place in taken:
        states.append(Recommender.from_pretrained(place).update)  # puts right what the kill left
        assert served_files(place) == (after if states[-1] == Recommender.from_pretrained(run).update else before)
        history = History(place)
        for number in [0, *history.line()]:
            assert len(load_clicks(history.clicks(number))) > 0
    assert states == sorted(states, reverse=action == "rollback") and len(set(states)) == 2
    for number in (0, np.flatnonzero(np.diff(states))[0], np.flatnonzero(np.diff(states))[0] + 1):
        # the clicks of the day that is served are known, and those of the other one are not
        later = update(taken[number])
        accepted = [entry for entry in read_json(taken[number] / "updates.json")["updates"] if entry["is_accepted"]]
        assert {entry["number"] for entry in accepted} == set(range(1, len(accepted) + 1))
        is_known = states[number] == 2
        assert (later.record is None) == is_known
        assert not list((taken[number] / "updates").glob(".*"))


@pytest.mark.parametrize(
    "point",
    [
        "cost_hf.recommenders.base.Recommender.save_pretrained",
        "cost_hf.experiments.updates.guard.Guard.compare",
        "cost_hf.experiments.updates.update.save_clicks",
        "cost_hf.experiments.updates.history.write_updates",
        "cost_hf.experiments.updates.history.copy_recommender",
        "cost_hf.experiments.updates.history.replace_whole",
    ],
)
def test_an_error_at_any_step_leaves_the_run_as_it_was(run, monkeypatch, point):
    before = served_files(run)

    def failing(*_arguments, **_options):
        raise OSError("no space is left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space is left"):
        patched.setattr(point, failing)
        update(run)

    assert served_files(run) == before
    assert Recommender.from_pretrained(run).update == 0
    assert not list((run / "updates").glob(".*"))
    assert update(run).record["clicks"]["new"] == 150


def test_readers_see_one_day_or_the_other(run):
    update(run)
    versions = {Recommender.from_pretrained(run).popularity.sum()}
    rollback_run(run)
    versions.add(Recommender.from_pretrained(run).popularity.sum())
    seen, errors, stop = set(), [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.add(Recommender.from_pretrained(run).popularity.sum())
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        update(run)
        rollback_run(run)
    stop.set()
    reader.join()

    assert not errors and seen <= versions


def while_it_is_judged(monkeypatch, change) -> None:
    """Let another process change the catalog of the run once, while an update judges its model."""
    compare = guard.Guard.compare
    done = []

    def changing(*arguments, **options):
        if not done:
            done.append(change())
        return compare(*arguments, **options)

    monkeypatch.setattr(guard.Guard, "compare", changing)


def test_prices_and_removals_of_meanwhile_are_those_of_the_new_model(run, monkeypatch):
    def change():
        served = Recommender.from_pretrained(run)
        served.update_items(["n3"], columns={"price": [9.0]}, titles=["sale"])
        served.remove_items(["n5"])
        served.save_catalog(run / "recommender")

    while_it_is_judged(monkeypatch, change)
    recommender = update(run).recommender

    catalog = recommender.catalog
    assert recommender.update == 1 and len(catalog) == 26
    assert catalog.columns.value("price", 3) == 9.0 and catalog.titles[3] == "sale"
    assert catalog.columns.value("price", 25) == 200.0 and catalog.titles[25] == new_items()["title"][1]
    assert np.flatnonzero(catalog.removed).tolist() == [5]


@pytest.mark.parametrize("change", ["add", "restore"])
def test_an_update_does_not_lose_items_that_came_meanwhile(run, monkeypatch, change):
    served = Recommender.from_pretrained(run)
    served.remove_items(["n5"])
    served.save_catalog(run / "recommender")

    def act():
        served.add_items(["n5" if change == "restore" else "n99"], ["tea of meanwhile"])
        served.save_catalog(run / "recommender")

    with monkeypatch.context() as patched, pytest.raises(ValueError, match="were added, restored"):
        while_it_is_judged(patched, act)
        update(run)

    assert Recommender.from_pretrained(run).update == 0
    assert Recommender.from_pretrained(run).catalog.version == served.catalog.version
    assert read_json(run / "updates.json")["updates"] == []
    assert update(run).is_accepted


def test_the_catalog_of_an_updated_run_can_change(run):
    update(run)
    served = Recommender.from_pretrained(run)
    served.remove_items(["n3"])
    served.save_catalog(run / "recommender")

    assert Recommender.from_pretrained(run).catalog.removed.sum() == 1
    later = update(run, clicks(3, users=10))
    assert later.recommender.catalog.removed.sum() == 1
    assert later.record["items"]["catalog"] == 25  # that can be recommended
    assert "0 new, 25 in the catalog" in update_text(later.record, run)


def test_items_that_nobody_knows_are_an_error_or_left_out_as_in_training(run):
    log = pd.concat([second_day(), pd.DataFrame([("u1", "n99", DAY * 2)], columns=second_day().columns)])
    before = served_files(run)
    recipe = Recipe.load(str(run / "recipe.yaml"))
    with pytest.raises(DataError, match=r"1 click is on an item .* \('n99'\); .*on_unknown_item: drop"):
        update_run(with_data(run, recipe, on_unknown_item="error"), clicks=log, items=new_items())
    assert served_files(run) == before

    found = update_run(with_data(run, recipe, on_unknown_item="drop"), clicks=log, items=new_items())
    assert found.record["clicks"]["unknown_items"] == 1 and found.record["clicks"]["new"] == 150


def spoiled_day(folder: Path) -> list[str]:
    """Write files whose columns have other names, with a click on an unknown item and two items without text."""
    others = [("u1", "n99", DAY * 2), ("u2", "n26", DAY * 2), ("u3", "n26", DAY * 2)]
    log = pd.concat([second_day(), pd.DataFrame(others, columns=second_day().columns)])
    log.rename(columns={"item_id": "sku"}).to_csv(folder / "new.csv", index=False)
    textless = pd.DataFrame({"item_id": ["n26", "n27"]})
    items = pd.concat([new_items(), textless]).rename(columns={"item_id": "sku"})
    items.to_csv(folder / "items.csv", index=False)
    return ["--clicks", str(folder / "new.csv"), "--items", str(folder / "items.csv"), "--columns", "{item_id: sku}"]


def test_one_update_can_read_its_files_by_other_options_than_the_training(run, tmp_path, capsys, caplog):
    before = served_files(run)
    arguments = ["update", str(run), *spoiled_day(tmp_path)]

    assert main(arguments) == 2
    remedy = "leave them out with --data '{on_empty_text: drop}'"
    assert f"2 new items have no text ('n26', 'n27'); fill a field of the run's vectors.template, or {remedy}" in (
        capsys.readouterr().err
    )
    assert main([*arguments, "--data", "{on_empty_text: drop}"]) == 2
    error = capsys.readouterr().err
    assert (
        "1 click is on an item that is neither in the catalog nor among the new items ('n99'); give this item" in error
    )
    assert "leave out this click with --data '{on_unknown_item: drop}'" in error
    assert main([*arguments, "--data", "{on_empty_texts: drop}"]) == 2
    assert "on_empty_text" in capsys.readouterr().err
    assert served_files(run) == before

    assert main([*arguments, "--data", "{on_empty_text: drop, on_unknown_item: drop}"]) == 0
    assert "items: 2 new, 26 in the catalog" in capsys.readouterr().out
    assert "2 new items without text left out, with the clicks on them ('n26', 'n27')" in caplog.text
    [entry] = read_json(run / "updates.json")["updates"]
    assert (entry["clicks"]["unknown_items"], entry["clicks"]["new"], entry["items"]["without_text"]) == (3, 150, 2)
    assert Recipe.load(str(run / "recipe.yaml")).data.on_empty_text == "error"


def test_events_of_an_update_are_those_of_its_run(run):
    log = second_day().assign(kind="view")
    data = DataOptions(event_column="kind", event_weights={"view": 1})
    with pytest.raises(ValueError, match="the run knows no types of events"):
        update_run(run, clicks=log, items=new_items(), data=data)

    recipe = Recipe.load(str(run / "recipe.yaml"))
    with_data(run, recipe, event_column="kind", event_weights={"view": 1})
    with pytest.raises(ValueError, match=r"data.event_column 'kind'.*got no data.event_column"):
        update_run(run, clicks=log, items=new_items(), data=DataOptions())


def test_what_does_not_decide_how_files_are_read_stays_as_in_the_run(run):
    with_data(run, Recipe.load(str(run / "recipe.yaml")), min_history=4)

    found = update_run(run, clicks=second_day(), items=new_items(), data=DataOptions())

    # its validation cases have 3 clicks before the target, those of the second day more
    assert set(found.record["guard"]) == {"all", "latest new clicks"}


def with_data(run: Path, recipe: Recipe, **values) -> Path:
    for name, value in values.items():
        recipe.set(f"data.{name}", value)
    recipe.save(run / "recipe.yaml")
    return run


def test_what_has_no_warm_start_is_refused_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr(methods()["markov"], "can_warm_start", False)
    with pytest.raises(ValueError, match=r"method markov of .* has no warm start"):
        update_run(run, clicks="missing.parquet")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda run: (run / CLICKS).unlink(), FileNotFoundError, "clicks that the run was trained on"),
        (lambda run: (run / "recipe.yaml").unlink(), FileNotFoundError, "no directory of a finished run"),
        (lambda run: with_data(run, Recipe.load(str(run / "recipe.yaml")), cold_share=0.1), ValueError, "cold start"),
        (lambda run: (run / ".stages" / "finished.json").unlink(), ValueError, "unfinished run"),
    ],
    ids=["no clicks", "no recipe", "cold items", "unfinished"],
)
def test_a_run_that_cant_be_updated_says_why(run, spoil, error, message):
    spoil(run)
    with pytest.raises(error, match=message):
        update(run)


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"replay": 1.0}, {"holdout": -0.1}, {"tolerance": 2.0}, {"keep": 0}, {"learning_rate_factor": 0.0}],
)
def test_settings_that_no_update_has_are_an_error(run, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        update(run, **options)


def test_training_again_says_that_updates_would_be_lost(run):
    update(run)
    given = {"items": catalog(), "interactions": clicks(0), "overrides": fields("markov"), "output_dir": run}
    with pytest.raises(ValueError, match="was updated after its training"):
        cost_hf.train(**given)

    cost_hf.train(**given, overwrite=True)

    assert Recommender.from_pretrained(run).update == 0
    assert not (run / "updates.json").exists() and not (run / "updates").exists()


def test_an_update_that_failed_is_in_the_way_of_no_training(run, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(guard.Guard, "compare", lambda *arguments, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        update(run)

    cost_hf.train(items=catalog(), interactions=clicks(0), overrides=fields("markov"), output_dir=run)

    assert not (run / "updates").exists()


def test_a_recommender_of_another_update_is_not_taken_for_the_one_of_the_run(run):
    update(run)
    record = read_json(run / "updates.json")
    record["updates"][0]["files"]["model.safetensors"] = "0" * 64
    write_json(run / "updates.json", record)
    with pytest.raises(DamagedFileError, match="is not what update 1 wrote there"):
        Recommender.from_pretrained(run)
    (run / "updates.json").unlink()
    with pytest.raises(DamagedFileError, match="was written by update 1"):
        Recommender.from_pretrained(run)


def test_commands_tell_what_they_did(run, tmp_path, capsys):
    second_day().rename(columns={"item_id": "sku"}).to_csv(tmp_path / "new.csv", index=False)
    recipe = Recipe.load(str(run / "recipe.yaml"))
    with_data(run, recipe, columns={"item_id": "sku"}, on_unknown_item="drop")

    assert main(["update", str(run), "--clicks", str(tmp_path / "new.csv"), "--tolerance", "1"]) == 0
    text = capsys.readouterr().out
    assert "update 1 of" in text and "served: update 1" in text
    assert main(["update", str(run), "--clicks", str(tmp_path / "new.csv")]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["rollback", str(run)]) == 0
    assert f"{run} serves the model of its training" in capsys.readouterr().out
    assert main(["rollback", str(run)]) == 2
    assert "no update to take back" in capsys.readouterr().err


def test_figures_of_the_training_are_not_published_with_an_updated_model(run, tmp_path, caplog):
    publication = RunPublication(run, tmp_path / "before", {"recommender": "org/shop"})
    assert "## Evaluation" in (publication.stage("recommender").folder / "README.md").read_text()
    update(run)

    publication = RunPublication(run, tmp_path / "after", {"recommender": "org/shop", "space": "org/demo"})
    staged = publication.stage("recommender")

    assert "published without figures" in caplog.text
    assert publication.parts == ("recommender",)
    assert not (staged.folder / "results.json").exists()
    own = [name for name in staged.files if not name.startswith("cost_hf/")]
    assert not [name for name in own if "clicks" in name or "updates" in name]
    with pytest.raises(ValueError, match="updated after its evaluation"):
        publication.stage("space")
    with pytest.raises(FileNotFoundError, match="it was updated since"):
        read_results(run / "recommender")
    rollback_run(run)
    assert read_results(run / "recommender")["rows"]
