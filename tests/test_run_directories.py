"""A run directory holds the parts of one finished run, made from one set of data, or says that it does not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

import cost_hf
from cost_hf.data.encoders import SentenceEncoder, model_identity
from cost_hf.data.errors import DataError
from cost_hf.data.prepare import prepare_data
from cost_hf.experiments.compare.runner import outside_parts
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import DamagedFileError, file_digest, read_json, write_json
from cost_hf.hub.export import export_run
from cost_hf.hub.space.app import _results_of, launch_demo
from cost_hf.hub.upload import upload
from cost_hf.methods.codes_stage import vector_stage
from cost_hf.stages import Stages, UnfinishedRunError
from tests.data.encoder_toys import tiny_encoder
from tests.runs import TINY, stages_of

THEMES, PLACES = ["elections", "football", "theatre"], ["oslo", "quito", "dakar", "lima", "kyoto"]
WORDS = [*THEMES, *PLACES, "in"]  # of the texts
SMALL = {name: value for name, value in TINY.items() if not name.startswith("data.")} | {
    "training.epochs": 2,
    "codes.epochs": 4,
    "evaluation.baselines": ["popularity", "markov"],
    "vectors.template": "{text}",
    "data.licence": "CC0-1.0",
}
SASREC = {name: value for name, value in SMALL.items() if not name.startswith("codes.")} | {
    "method": "sasrec",
    "training.epochs": 1,
    "model.inputs": "text",
}


def tables() -> dict[str, pd.DataFrame]:
    """Items whose texts and titles are columns of their own, and users who read every third item."""
    texts = [f"{THEMES[row % 3]} in {PLACES[row % 5]}" for row in range(30)]
    clicks = [(f"u{user}", f"n{(user + 3 * step) % 30}", step) for user in range(40) for step in range(5)]
    ids = [f"n{row}" for row in range(30)]
    return {
        "items": pd.DataFrame({"item_id": ids, "title": [f"title {row}" for row in range(30)], "text": texts}),
        "interactions": pd.DataFrame(clicks, columns=["user_id", "item_id", "position"]),
    }


def corrected() -> dict[str, pd.DataFrame]:
    """The same tables with one title corrected."""
    given = tables()
    given["items"].loc[3, "title"] = "a better title"
    return given


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("reference") / "run"
    cost_hf.train(**tables(), overrides=SMALL, output_dir=directory)
    return directory


@pytest.fixture
def finished(reference, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(reference, tmp_path / "run"))


def interrupt(monkeypatch, stage: str) -> None:
    """Stop every run in the middle of a stage."""
    original = Stages._compute

    def stopped(self, name, *arguments):
        if name == stage:
            raise KeyboardInterrupt
        return original(self, name, *arguments)

    monkeypatch.setattr(Stages, "_compute", stopped)


@pytest.mark.parametrize("stage", ["generator", "evaluation"])
def test_a_run_begun_again_and_stopped_is_refused_everywhere(finished, monkeypatch, tmp_path, stage):
    described = {name: file_digest(finished / name) for name in ("recipe.yaml", "report.html")}
    changed = SMALL | {"training.epochs": 1, "data.licence": "MIT"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, stage)
        cost_hf.train(**tables(), overrides=changed, output_dir=finished)

    assert {name: file_digest(finished / name) for name in described} == described
    for attempt in (
        lambda: upload(finished, namespace="org", dry_run=True, report=str),
        lambda: cost_hf.Recommender.from_pretrained(finished),
        lambda: export_run(finished, to="parquet", output=tmp_path / "exported"),
    ):
        with pytest.raises(UnfinishedRunError, match=r"unfinished run: stage \w+ was begun again"):
            attempt()

    run = cost_hf.train(**tables(), overrides=changed, output_dir=finished)
    assert run.results["recipe"]["training"]["epochs"] == 1
    assert Recipe.load(str(finished / "recipe.yaml")).data.licence == "MIT"
    assert len(cost_hf.Recommender.from_pretrained(finished).catalog) == 30


@pytest.mark.parametrize(
    ("point", "changed"),
    [
        ("cost_hf.stages.Stages.write", {"data.licence": "MIT"}),
        ("cost_hf.experiments.recipe.Recipe.save", {"data.licence": "MIT"}),
        ("cost_hf.stages.Stages.finish", {"data.licence": None}),
        ("cost_hf.experiments.pipeline.evaluation_stage", {"evaluation.num_beams": 11}),
        ("cost_hf.experiments.pipeline.evaluation_stage", {"titles": "corrected"}),
    ],
)
def test_a_run_stopped_between_two_of_its_files_is_refused(finished, monkeypatch, point, changed):
    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    settings = {name: value for name, value in changed.items() if name != "titles"}
    given = corrected() if "titles" in changed else tables()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(point, stopped)
        cost_hf.train(**given, overrides=SMALL | settings, output_dir=finished, overwrite=True)

    with pytest.raises(UnfinishedRunError):
        upload(finished, namespace="org", dry_run=True, report=str)
    with pytest.raises(UnfinishedRunError):
        cost_hf.Recommender.from_pretrained(finished)


def test_a_recommender_from_elsewhere_is_not_taken_for_that_of_the_run(finished, tmp_path):
    recommender = cost_hf.Recommender.from_pretrained(finished)
    with torch.no_grad():
        recommender.generator.get_input_embeddings().weight.neg_()
    recommender.save_pretrained(finished / "recommender")

    for attempt in (
        lambda: cost_hf.Recommender.from_pretrained(finished),
        lambda: export_run(finished, to="parquet", output=tmp_path / "exported"),
        lambda: launch_demo(finished, block=False),
    ):
        with pytest.raises(DamagedFileError, match=r"model\.safetensors has sha256 .*, stage generator wrote"):
            attempt()
    assert len(cost_hf.Recommender.from_pretrained(finished / "recommender").catalog) == 30


def test_a_whole_save_after_a_change_of_the_catalog_is_that_of_the_run(finished):
    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.add_items(["new"], ["theatre in lima"])
    recommender.save_pretrained(finished / "recommender")

    assert "new" in cost_hf.Recommender.from_pretrained(finished).catalog


def test_a_run_that_was_copied_without_its_records_is_unfinished(finished, tmp_path):
    shutil.rmtree(finished / ".stages")

    for attempt in (
        lambda: cost_hf.Recommender.from_pretrained(finished),
        lambda: export_run(finished, to="parquet", output=tmp_path / "exported"),
        lambda: launch_demo(finished, block=False),
    ):
        with pytest.raises(UnfinishedRunError, match="copy the whole directory, hidden files too"):
            attempt()


def test_the_demo_shows_no_results_of_other_weights(finished):
    assert _results_of(finished / "recommender", is_run=False) is not None
    (finished / ".stages" / "finished.json").unlink()

    assert _results_of(finished / "recommender", is_run=False) is None


def test_the_first_run_stopped_is_unfinished(tmp_path, monkeypatch):
    interrupt(monkeypatch, "quantizer")
    with pytest.raises(KeyboardInterrupt):
        cost_hf.train(**tables(), overrides=SMALL, output_dir=tmp_path / "run")

    with pytest.raises(UnfinishedRunError, match=r"finished\.json is missing"):
        cost_hf.Recommender.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "report.html", "evaluation/results.json", "vectors/vectors.json", "quantizer/config.json"]
)
def test_a_part_that_was_changed_is_not_published(finished, name):
    path = finished / name
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(DamagedFileError, match=name):
        upload(finished, namespace="org", dry_run=True, report=str)


def test_other_data_in_the_same_directory_is_refused(finished):
    before = {str(path): path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    other = tables()
    other["interactions"] = other["interactions"].iloc[:-5]

    with pytest.raises(ValueError, match="was made from other data"):
        cost_hf.train(**other, overrides=SMALL, output_dir=finished)
    assert {str(path): path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_other_settings_and_another_order_of_the_same_rows_are_no_other_data(finished, caplog):
    given = tables()
    given["items"] = given["items"][["text", "item_id", "title"]]
    caplog.set_level("INFO", logger="cost_hf")

    cost_hf.train(**given, overrides=SMALL | {"evaluation.bootstrap_draws": 60}, output_dir=finished)

    assert stages_of(caplog.messages) == ["evaluation"]


@pytest.mark.parametrize("method", ["sid_generator", "sasrec"])
def test_corrected_titles_are_served_without_training_again(finished, tmp_path, caplog, method):
    directory, overrides = finished, SMALL
    if method == "sasrec":
        directory = tmp_path / "sasrec"
        overrides = SASREC
        cost_hf.train(**tables(), overrides=overrides, output_dir=directory)
    weights = file_digest(directory / "recommender" / "model.safetensors")
    caplog.set_level("INFO", logger="cost_hf")
    caplog.clear()

    cost_hf.train(**corrected(), overrides=overrides, output_dir=directory, overwrite=True)

    assert stages_of(caplog.messages) == ["evaluation"]
    catalog = cost_hf.Recommender.from_pretrained(directory).catalog
    assert catalog.titles[catalog.row_of("n3")] == "a better title"
    assert file_digest(directory / "recommender" / "model.safetensors") == weights
    journal = cost_hf.Recommender.from_pretrained(directory).journal
    cost_hf.train(**corrected(), overrides=overrides, output_dir=directory)
    assert cost_hf.Recommender.from_pretrained(directory).journal == journal  # nothing more to change
    older = [version.load().titles[3] for version in cost_hf.Recommender.from_pretrained(directory).versions]
    assert "title 3" not in older  # what is published holds no title that the data have no more


def test_columns_follow_the_data_and_changes_of_the_user_stay(finished, caplog):
    weights = file_digest(finished / "recommender" / "model.safetensors")
    priced = tables()
    priced["items"] = priced["items"].assign(price=[float(row) for row in range(30)], brand=["a", "b"] * 15)
    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.add_columns(["n5"], {"stock": [3]})
    recommender.save_catalog(finished / "recommender")

    def served(name: str) -> list:
        columns = cost_hf.Recommender.from_pretrained(finished).catalog.columns
        return columns.arrays[name].to_pylist() if name in columns.names else []

    caplog.set_level("INFO", logger="cost_hf")
    run = cost_hf.train(**priced, overrides=SMALL, output_dir=finished, overwrite=True)
    assert "generator" not in stages_of(caplog.messages)
    assert file_digest(finished / "recommender" / "model.safetensors") == weights
    assert served("price") == priced["items"]["price"].tolist() and served("stock")[5] == 3
    assert run.recommender.catalog.columns.names == ["text", "price", "brand"]

    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.update_items(["n5"], columns={"price": [0.5]})
    recommender.save_catalog(finished / "recommender")
    cost_hf.train(**priced, overrides=SMALL, output_dir=finished)
    assert served("price")[5] == 0.5

    priced["items"] = priced["items"].drop(columns="brand")
    fewer = SMALL | {"data.exclude_columns": ["text"]}
    cost_hf.train(**priced, overrides=fewer, output_dir=finished, overwrite=True)
    assert served("text") == served("brand") == [] and served("price")[5] == 5.0 and served("stock")[5] == 3
    older = [version.load().columns.names for version in cost_hf.Recommender.from_pretrained(finished).versions]
    assert older and not any({"text", "brand"} & set(names) for names in older)


def served_titles(directory: Path) -> list[str | None]:
    return list(cost_hf.Recommender.from_pretrained(directory).catalog.titles)


def test_titles_follow_the_data_back_and_away_and_changes_of_the_user_stay(finished):
    def trained(given):
        cost_hf.train(**given, overrides=SMALL, output_dir=finished, overwrite=True)

    trained(corrected())
    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.update_items(["n5"], titles=["of the user"])
    recommender.save_catalog(finished / "recommender")
    trained(corrected())
    assert served_titles(finished)[3:6:2] == ["a better title", "of the user"]

    trained(tables())
    assert served_titles(finished)[3:6:2] == ["title 3", "title 5"]

    untitled = tables()
    untitled["items"] = untitled["items"].drop(columns="title")
    trained(untitled)
    assert served_titles(finished) == [None] * 30


@pytest.mark.parametrize("reason", ["other settings", "damage"])
def test_changes_of_the_catalog_are_not_lost_without_a_word(finished, reason):
    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.add_items(["new"], ["theatre in lima"])
    recommender.save_catalog(finished / "recommender")
    changed = SMALL | ({"training.epochs": 1} if reason == "other settings" else {})
    if reason == "damage":
        (finished / "recommender" / "training_log.json").write_text("[]")

    with pytest.raises(
        ValueError, match=r"stage generator .* 1 changes of its catalog .* would be lost; .*--overwrite"
    ):
        cost_hf.train(**tables(), overrides=changed, output_dir=finished)
    assert "new" in cost_hf.Recommender.from_pretrained(finished / "recommender").catalog

    if reason == "damage":
        cost_hf.train(**tables(), overrides=changed, output_dir=finished, overwrite=True)
        assert "new" not in cost_hf.Recommender.from_pretrained(finished).catalog


def test_titles_of_the_data_are_no_work_of_users_and_their_own_updates_are(finished):
    changed = SMALL | {"training.epochs": 1}
    cost_hf.train(**corrected(), overrides=SMALL, output_dir=finished, overwrite=True)
    cost_hf.train(**corrected(), overrides=changed, output_dir=finished)  # nothing is lost but what the run did itself

    recommender = cost_hf.Recommender.from_pretrained(finished)
    recommender.update_items(["n5"], titles=["a title of ours"])
    recommender.save_catalog(finished / "recommender")
    with pytest.raises(ValueError, match=r"1 changes of its catalog .* would be lost"):
        cost_hf.train(**corrected(), overrides=SMALL, output_dir=finished)


def test_another_evaluation_is_of_the_trained_catalog(tmp_path):
    overrides = SASREC
    first = cost_hf.train(**tables(), overrides=overrides, output_dir=tmp_path / "run")
    living = cost_hf.Recommender.from_pretrained(tmp_path / "run")
    living.add_items(["x", "y"], ["theatre in lima", "football in oslo"])
    living.remove_items(["n3"])
    living.save_catalog(tmp_path / "run" / "recommender")

    again = cost_hf.train(**tables(), overrides=overrides | {"evaluation.max_users": 39}, output_dir=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "recommender")
    untouched = cost_hf.train(
        **tables(), overrides=overrides | {"evaluation.max_users": 39}, output_dir=tmp_path / "run"
    )

    assert len(first.recommender.catalog) == len(again.recommender.catalog) == 30
    assert again.results["rows"] == untouched.results["rows"]


def test_vectors_in_another_order_are_made_again(finished, reference, caplog):
    path = finished / "vectors" / "vectors.safetensors"
    vectors = load_file(path)["vectors"]
    save_file({"vectors": np.ascontiguousarray(vectors[::-1])}, path)
    caplog.set_level("INFO", logger="cost_hf")

    run = cost_hf.train(**tables(), overrides=SMALL, output_dir=finished)

    assert stages_of(caplog.messages) == ["vectors"]
    assert f"stage vectors is damaged and is made again: {path}" in caplog.text
    assert run.results["rows"] == read_json(reference / "evaluation" / "results.json")["rows"]


@pytest.mark.parametrize("harm", ["lists of another row", "bytes"])
def test_an_interrupted_evaluation_takes_only_its_own_lists(finished, reference, caplog, harm):
    record = read_json(finished / ".stages" / "evaluation.json")
    write_json(finished / ".stages" / "evaluation.json", {**record, "status": "running"})
    lists = finished / "evaluation" / "lists"
    if harm == "bytes":
        path = lists / "markov-seen_allowed.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    else:
        shutil.copyfile(lists / "popularity-seen_allowed.safetensors", lists / "markov-seen_allowed.safetensors")

    run = cost_hf.train(**tables(), overrides=SMALL, output_dir=finished)

    assert "markov-seen_allowed.safetensors holds other lists than this evaluation wrote" in caplog.text
    assert run.results["rows"] == read_json(reference / "evaluation" / "results.json")["rows"]


def test_other_weights_in_the_directory_of_the_text_encoder_make_the_vectors_again(tmp_path, monkeypatch):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.load("cost_quickstart", SMALL | {"vectors.model": str(tmp_path / "encoder")})
    recipe.data.reader = "tables"
    data = prepare_data(recipe.data, **tables())
    found, parts = [], []
    for seed in (0, 0, 1):
        tiny_encoder(tmp_path / "encoder", WORDS, seed=seed)
        found.append(vector_stage(Stages(tmp_path / "run"), recipe.vectors, data).vectors)
        parts.append(outside_parts(recipe))

    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert parts[0] == parts[1] != parts[2]


def test_every_file_of_a_pretrained_model_but_its_documents_identifies_it(tmp_path):
    folder = tiny_encoder(tmp_path / "encoder", WORDS, seed=0)
    names = ["pytorch_model.bin", "source.spm", "bpe.codes", "1_Pooling/config.json", "chat_template.jinja"]
    (folder / "1_Pooling").mkdir()
    found = [model_identity(str(folder))]
    for name in names:
        (folder / name).write_text("changed")
        found.append(model_identity(str(folder)))
    assert len(set(map(tuple, found))) == len(names) + 1

    (folder / "README.md").write_text("changed")
    assert model_identity(str(folder)) == found[-1]


def test_pickled_weights_of_a_text_encoder_are_not_loaded(tmp_path):
    folder = tiny_encoder(tmp_path / "encoder", WORDS, seed=0)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickled")

    with pytest.raises(DataError, match=r"2_Dense/pytorch_model\.bin contains pickled weights"):
        SentenceEncoder(folder)


def test_files_follow_the_umask(reference):
    (reference.parent / "probe").touch()
    mode = (reference.parent / "probe").stat().st_mode & 0o777

    modes = {str(path): path.stat().st_mode & 0o777 for path in reference.rglob("*") if path.is_file()}
    assert {name: found for name, found in modes.items() if found != mode and not name.endswith(".lock")} == {}
    json.loads((reference / ".stages" / "finished.json").read_text())
