"""`cost-hf drift`: verdicts on the data of saved recommenders of every kind, reasons, files and exit statuses."""

import json

import numpy as np
import pandas as pd
import pytest

import cost_hf
from cost_hf.cli import main
from cost_hf.experiments.drift.drift import drift
from cost_hf.experiments.drift.reference import TrainingItems
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import DamagedFileError, write_json
from cost_hf.recommenders.base import Recommender
from tests.methods.counting.counting_toys import toy_counting
from tests.recommenders.saved import KINDS
from tests.recommenders.toys import TOY_IDS, TOY_TEXTS, toy_text_recommender, with_columns

OWN = pd.DataFrame({"item_id": TOY_IDS, "title": TOY_TEXTS})
OTHER = pd.DataFrame({"item_id": [f"x{n}" for n in range(20)], "title": ["Чайник из стали и стекла"] * 20})
CLICKS = pd.DataFrame({"user_id": "u", "item_id": TOY_IDS * 5, "position": range(100)})
UNKNOWN = CLICKS.assign(item_id=[f"y{n}" for n in range(100)])


@pytest.fixture
def directory(tmp_path):
    toy_text_recommender().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def groups(found) -> set[str]:
    return {own.group for own in found.statistics}


def test_its_own_items_are_fine_and_others_are_not(directory):
    fine = drift(directory, items=OWN)
    other = drift(directory, items=OTHER)

    assert (fine.verdict, fine.reasons, other.verdict) == ("fine", [], "retrain")
    assert groups(fine) == {"texts", "item vectors", "semantic IDs"}
    assert fine.not_applicable == {"clicks": "no clicks were given"}
    assert any(reason.startswith("Words that no training text has: 100.0") for reason in other.reasons)
    assert "Train again" in other.advice and "retrain: " in repr(other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_does_not_apply(kind, tmp_path):
    KINDS[kind]().save_pretrained(tmp_path)

    found = (
        drift(tmp_path, items=OWN, clicks=CLICKS) if kind not in ("ids", "seq2seq") else drift(tmp_path, clicks=CLICKS)
    )

    assert groups(found) | set(found.not_applicable) == {"texts", "item vectors", "semantic IDs", "clicks"}
    assert not groups(found) & set(found.not_applicable)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_kind_that_reads_no_items_says_so_where_only_items_are_given(tmp_path):
    toy_counting("popularity").save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=r"it reads no texts.*has no quantizer; give clicks alone"):
        drift(tmp_path, items=OWN)
    found = drift(tmp_path, clicks=CLICKS)
    assert groups(found) == {"clicks"}


def test_a_copy_without_its_text_encoder_takes_clicks_alone(tmp_path):
    system = toy_text_recommender()
    system.encoder = None
    system.save_pretrained(tmp_path)

    found = drift(tmp_path, clicks=CLICKS)
    with pytest.raises(ValueError, match="this recommender has no text encoder; give clicks alone"):
        drift(tmp_path, items=OWN)

    assert groups(found) == {"clicks"}


def test_items_that_training_has_seen_are_left_out_where_there_are_others(directory):
    found = drift(directory, items=pd.concat([OWN, OTHER]))

    assert found.protocol["items"] == 20 and found.verdict == "retrain"
    assert "20 items were part of the training and are left out." in found.notes


def test_items_added_since_are_new_and_their_clicks_count_as_such(directory):
    system = Recommender.from_pretrained(directory)
    system.add_items(OTHER["item_id"].tolist(), OTHER["title"].tolist())
    system.save_catalog(directory)

    assert len(TrainingItems.of(directory, Recommender.from_pretrained(directory)).item_ids) == len(TOY_IDS)
    found = drift(directory, clicks=CLICKS.assign(item_id=["x3"] * 100))
    values = {own.name: own.value for own in found.statistics}
    assert values["unknown_item_clicks"] == 0.0 and values["new_item_clicks"] == 1.0
    assert found.verdict == "retrain"


def test_unknown_items_are_no_reason_to_train_but_to_update_the_catalog(directory):
    found = drift(directory, items=OTHER, clicks=UNKNOWN.assign(item_id=[f"x{n % 20}" for n in range(100)]))

    (own,) = [own for own in found.statistics if own.name == "unknown_item_clicks"]
    assert own.status == "watch" and "cost-hf update-catalog" in own.reason
    assert any("are on items of the new table" in note for note in found.notes)


def test_ids_that_are_written_otherwise_are_named(directory):
    found = drift(directory, clicks=CLICKS.assign(item_id=CLICKS["item_id"].str.upper()))

    assert any("differ from ids of the catalog only by case" in note for note in found.notes)


def test_without_texts_in_the_catalog_items_are_compared_by_their_codes(tmp_path):
    toy_text_recommender(titles=False).save_pretrained(tmp_path)

    found = drift(tmp_path, items=OTHER)

    assert groups(found) == {"semantic IDs"} and "does not keep the texts" in found.not_applicable["texts"]
    assert "quantization_error" not in {own.name for own in found.statistics}


def test_texts_of_a_catalog_with_columns_are_made_of_them(tmp_path):
    with_columns(toy_text_recommender()).save_pretrained(tmp_path)
    training = TrainingItems.of(tmp_path, Recommender.from_pretrained(tmp_path))

    assert training.texts[1] == f"{TOY_TEXTS[1]}. Alba. oslo, football"


@pytest.mark.trains
def test_a_run_is_compared_by_what_it_has_stored(tmp_path):
    fields = {
        "method": "markov_text",
        "data.synthetic_users": 80,
        "data.synthetic_items": 96,
        "evaluation.baselines": [],
    }
    run = cost_hf.train(overrides=fields, output_dir=tmp_path / "run")
    catalog = run.recommender.catalog
    rows = np.random.default_rng(0).permutation(len(catalog))[:30]
    items = {"item_id": [catalog.item_ids[row] for row in rows], "title": [catalog.titles[row] for row in rows]}

    found = cost_hf.drift(run, items=items)

    assert found.protocol["training_items"] == len(catalog) and found.protocol["item_sample"] == 30
    clicks = drift(tmp_path / "run" / "recommender", clicks=UNKNOWN)
    assert clicks.protocol["held_out_clicks"] == "clicks of the test part"
    assert clicks.verdict == "retrain"

    path = tmp_path / "run" / "vectors" / "vectors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(DamagedFileError, match=r"vectors.safetensors has sha256 \w+, expected \w+"):
        drift(tmp_path / "run" / "recommender", items=items)


def command(*arguments) -> int:
    return main(["drift", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    for name, frame in (("own", OWN), ("other", OTHER), ("clicks", CLICKS)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_the_status_says_the_verdict_and_the_report_comes_in_three_forms(directory, files, capsys):
    assert command(directory, "--items", files / "own.parquet") == 0
    assert "fine: " in capsys.readouterr().out

    outputs = ("--html", files / "drift.html", "--json", files / "drift.json")
    assert command(directory, "--items", files / "other.parquet", *outputs) == 4

    findings = json.loads((files / "drift.json").read_text())
    assert findings["verdict"] == "retrain" and findings["format"] == 1
    page = (files / "drift.html").read_text()
    assert findings["reasons"][0].partition(":")[0] in page and "<script" not in page
    assert findings["reasons"][0][:40] in capsys.readouterr().out.replace("\n  ", " ")


def test_a_watch_has_a_status_of_its_own(directory, files):
    frame = OWN.assign(title=OWN["title"] + " in lima in oslo", item_id="z" + OWN["item_id"])
    frame.to_parquet(files / "longer.parquet")
    found = drift(directory, items=frame)
    expected = {"fine": 0, "watch": 3, "retrain": 4}[found.verdict]

    assert command(directory, "--items", files / "longer.parquet") == expected
    assert {own.status for own in found.statistics if own.name == "words_per_text"} == {"watch"}


def test_files_are_read_as_those_of_the_run_were(files):
    run = files / "run"
    toy_text_recommender().save_pretrained(run / "recommender")
    fields = {"data.csv": {"sep": ";"}, "data.columns": {"item_id": "Artikel", "title": "Name"}}
    Recipe.load("cost_quickstart", fields).save(run / "recipe.yaml")
    shop = OWN.rename(columns={"item_id": "Artikel", "title": "Name"})
    shop.to_csv(files / "shop.csv", sep=";", index=False)

    assert command(run / "recommender", "--items", files / "shop.csv") == 0


def test_published_results_say_what_is_usual(directory, files):
    slices = {
        "target_in_training": {"6+": {"cases": 100}},
        "popularity": {"head": {"cases": 20}, "tail": {"cases": 80}},
    }
    results = {"recipe": {"data": {}}, "slices": {"recommender": {"seen_allowed": slices}}, "rows": {}}
    write_json(directory / "results.json", results)

    assert drift(directory, clicks=CLICKS).protocol["held_out_clicks"] == "clicks of the test part"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --items FILE or --clicks FILE"),
        (["--items", "gone.csv"], "'gone.csv' does not exist"),
        (["--items", "own.parquet", "--columns", "[a"], "expected a map of names as YAML"),
        (["--items", "own.parquet", "--data", "{colums: 1}"], "--data has 'colums'"),
        (["--items", "empty.csv"], "no item of the table has a text"),
        (["--items", "own.parquet", "--seed", "-1"], "seed must be"),
        (["--items", "own.parquet", "--html", "nowhere.csv/page.html"], "is a file, expected a directory"),
    ],
)
def test_a_mistake_is_one_line(directory, files, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files)
    (files / "empty.csv").write_text("item_id,title\na,\nb,  \n")
    (files / "nowhere.csv").write_text("x\n")

    assert command(directory, *arguments) == 2

    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
