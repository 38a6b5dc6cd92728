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
from cost_hf.building import vector_stage
from cost_hf.comparison.runner import outside_parts
from cost_hf.data.prepare import prepare_data
from cost_hf.files import DamagedFileError, file_digest, read_json, write_json
from cost_hf.hub.export import export_run
from cost_hf.hub.upload import upload
from cost_hf.recipe import Recipe
from cost_hf.stages import Stages, UnfinishedRunError
from tests.runs import TINY, stages_of

THEMES, PLACES = ["elections", "football", "theatre"], ["oslo", "quito", "dakar", "lima", "kyoto"]
SMALL = {name: value for name, value in TINY.items() if not name.startswith("data.")} | {
    "training.epochs": 2,
    "codes.epochs": 4,
    "evaluation.baselines": ["popularity", "markov"],
    "vectors.template": "{text}",
    "data.licence": "CC0-1.0",
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
        lambda: upload(finished, namespace="org", dry_run=True, say=str),
        lambda: cost_hf.Recommender.from_pretrained(finished),
        lambda: export_run(finished, to="parquet", output=tmp_path / "exported"),
    ):
        with pytest.raises(UnfinishedRunError, match=r"unfinished run: stage \w+ was begun again"):
            attempt()

    run = cost_hf.train(**tables(), overrides=changed, output_dir=finished)
    assert run.results["recipe"]["training"]["epochs"] == 1
    assert Recipe.load(str(finished / "recipe.yaml")).data.licence == "MIT"
    assert len(cost_hf.Recommender.from_pretrained(finished).catalog) == 30


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
        upload(finished, namespace="org", dry_run=True, say=str)


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


@pytest.mark.parametrize("method", ["generative", "sasrec"])
def test_corrected_titles_are_served_without_training_again(finished, tmp_path, caplog, method):
    directory, overrides = finished, SMALL
    if method == "sasrec":
        directory = tmp_path / "sasrec"
        overrides = SMALL | {"method": "sasrec", "sasrec.epochs": 1, "sasrec.inputs": "text"}
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


def tiny_encoder(directory: Path, seed: int) -> Path:
    """A plain transformers text encoder with random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *THEMES, *PLACES, "in"]
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(directory)
    return directory


def test_other_weights_in_the_directory_of_the_text_encoder_make_the_vectors_again(tmp_path, monkeypatch):
    monkeypatch.setenv("COST_HF_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.load("cost_quickstart", SMALL | {"vectors.model": str(tmp_path / "encoder")})
    recipe.data.reader = "tables"
    data = prepare_data(recipe.data, **tables())
    found, parts = [], []
    for seed in (0, 0, 1):
        tiny_encoder(tmp_path / "encoder", seed)
        found.append(vector_stage(Stages(tmp_path / "run"), recipe, data).vectors)
        parts.append(outside_parts(recipe))

    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert parts[0] == parts[1] != parts[2]


def test_files_follow_the_umask(reference):
    (reference.parent / "probe").touch()
    mode = (reference.parent / "probe").stat().st_mode & 0o777

    modes = {str(path): path.stat().st_mode & 0o777 for path in reference.rglob("*") if path.is_file()}
    assert {name: found for name, found in modes.items() if found != mode and not name.endswith(".lock")} == {}
    json.loads((reference / ".stages" / "finished.json").read_text())
