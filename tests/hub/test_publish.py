"""`upload.py`: one atomic commit per repository, whole or not at all."""

import io
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard

from cost_hf.files import read_json, write_json
from cost_hf.hub.commands import upload_main
from cost_hf.hub.publish import PublishError
from cost_hf.hub.upload import upload
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from tests.hub.loopback_hub import TOKEN, LoopbackHub
from tests.hub.publishing import MODELS, publish, record_again, without_licence

ROOT = Path(__file__).parents[2]
NAMES = {"models/org/toy", "models/org/toy-recommender", "datasets/org/toy-items"}


def test_every_repository_gets_one_commit_and_a_card_with_its_numbers(hub, finished_run):
    report = publish(hub.endpoint, finished_run)

    assert set(hub.repositories) == NAMES
    assert all(len(found.commits) == 2 for found in hub.repositories.values())
    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    card = ModelCard(files["README.md"].decode())
    results = read_json(finished_run / "evaluation" / "results.json")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results[:2]}
    row = results["rows"]["recommender"]["item"]["seen_allowed"]
    assert found == {metric: row[metric]["value"] for metric in ("recall@10", "ndcg@10")}
    assert "Apache-2.0: titles, texts and columns of items are published" in report and "toy data" in card.text
    entries = yaml.safe_load(files[".eval_results/seen_allowed.yaml"])
    assert entries[0]["dataset"]["id"] == "org/toy-items"


def test_publishing_again_makes_no_commit_and_a_changed_catalog_only_what_changed(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    publish(hub.endpoint, run)

    assert "holds all of it already" in publish(hub.endpoint, run)
    assert all(len(found.commits) == 2 for found in hub.repositories.values())

    system = Recommender.from_pretrained(run)
    system.add_items(["brand-new"], ["a story about the senate"])
    system.save_catalog(run / "recommender")
    publish(hub.endpoint, run)
    commits = [files for _, files in hub.repositories["models/org/toy-recommender"].commits]
    changed = {path.partition("-")[0] for path in commits[2] if commits[1].get(path) != commits[2][path]}
    assert changed == {"recommender.json", "journal.jsonl", "popularity.safetensors", "catalog", "columns"}
    assert len(hub.repositories["models/org/toy"].commits) == 2  # the quantizer is the same


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub, finished_run, monkeypatch):
    publish(hub.endpoint, finished_run, what=["quantizer"])
    found = hub.repositories["models/org/toy"]
    create = HfApi.create_commit

    def late(api, *arguments, **options):
        found.commit(found.commits[-1][1] | {"notes.txt": b"from somebody else"})
        return create(api, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    del found.commits[-1][1]["README.md"]
    before = len(found.commits)

    with pytest.raises(PublishError, match=r"org/toy was not published: somebody else has committed.*same command"):
        publish(hub.endpoint, finished_run, what=["quantizer"])
    assert len(found.commits) == before + 1


@pytest.mark.parametrize(
    ("part", "failure", "reason"),
    [
        ("/commit/", "500", "may not be published.*all of its commit, or nothing of it"),
        ("/commit/", "403", "may not write there"),
        ("/commit/", "cut", "may not be published"),
        ("/preupload/", "cut", "may not be published"),
        ("/api/repos/create", "500", "may not be published"),
    ],
)
def test_a_failure_leaves_the_hub_as_it_was_and_names_the_remedy(hub, finished_run, monkeypatch, part, failure, reason):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fails[part] = failure

    with pytest.raises(PublishError, match=reason) as caught:
        publish(hub.endpoint, finished_run, what=["recommender"])

    assert TOKEN not in str(caught.value) and "Run the same command again" in str(caught.value)
    assert all(len(found.commits) == 1 for found in hub.repositories.values())
    hub.fails.clear()
    publish(hub.endpoint, finished_run, what=["recommender"])
    assert len(hub.repositories["models/org/toy-recommender"].commits) == 2


def test_a_commit_whose_answer_is_lost_is_found_by_the_same_command(hub, finished_run):
    hub.fails["/commit/"] = "lost"

    with pytest.raises(
        PublishError, match=r"may not be published: .*The Hub holds all of its commit, or nothing of it"
    ):
        publish(hub.endpoint, finished_run, what=["quantizer"])
    hub.fails.clear()

    assert "holds all of it already" in publish(hub.endpoint, finished_run, what=["quantizer"])
    assert len(hub.repositories["models/org/toy"].commits) == 2


def test_a_hub_that_does_not_answer_is_an_error_in_one_line(finished_run):
    hub = LoopbackHub()
    hub.server.server_close()

    with pytest.raises(PublishError, match=r"org/toy may not be published: ConnectError: .*same command again"):
        publish(hub.endpoint, finished_run, what=["quantizer"])


@pytest.mark.parametrize("token", ["hf_wrong", False])
def test_the_error_for_a_wrong_token_does_not_show_it(hub, finished_run, token):
    with pytest.raises(PublishError, match="log in by `hf auth login`") as caught:
        publish(hub.endpoint, finished_run, what=["quantizer"], token=token)

    assert "hf_wrong" not in str(caught.value) and not hub.repositories


def test_private_and_pull_request_are_honoured(hub, finished_run):
    publish(hub.endpoint, finished_run, what=["quantizer"], private=True)
    found = hub.repositories["models/org/toy"]
    del found.commits[-1][1]["README.md"]

    report = publish(hub.endpoint, finished_run, what=["quantizer"], create_pr=True)

    assert found.private and len(found.commits) == 2 and len(found.pulls) == 1
    assert "discussions/1" in report


def test_private_is_refused_for_a_repository_that_everybody_can_read(hub, finished_run):
    publish(hub.endpoint, finished_run, what=["quantizer"])
    found = hub.repositories["models/org/toy"]
    del found.commits[-1][1]["README.md"]

    with pytest.raises(ValueError, match=r"org/toy exists already and is public.*leave out --private"):
        publish(hub.endpoint, finished_run, what=["quantizer"], private=True)
    assert len(found.commits) == 2


def test_without_a_licence_no_word_of_an_item_is_published(hub, finished_run, tmp_path):
    run = without_licence(finished_run, tmp_path / "run")

    report = publish(hub.endpoint, run, what=["quantizer", "recommender", "dataset"])

    titles = Recommender.from_pretrained(finished_run).catalog.titles
    words = {word for title in titles for word in title.split() if len(word) > 8}
    files = [file for found in hub.repositories.values() for file in found.commits[-1][1].items()]
    contents = [content for path, content in files if not path.startswith("cost_hf/")]  # the toy's words are made there
    assert words and not [word for word in words if any(word.encode() in content for content in contents)]
    table = pd.read_parquet(io.BytesIO(hub.repositories["datasets/org/toy-items"].commits[-1][1]["items.parquet"]))
    assert list(table.columns) == ["item_id", "sid", "code_1", "code_2", "code_3", "code_4"]
    assert "only item ids and semantic IDs are published" in report
    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    assert not [path for path in files if path.startswith("encoder/")]
    tables = [pd.read_parquet(io.BytesIO(files[path])) for path in files if path.endswith(".parquet")]
    assert [list(table.columns) for table in tables] == [["item_id"]]
    assert "not in this copy" in files["README.md"].decode()


def test_with_a_licence_the_data_set_holds_titles_and_texts(hub, finished_run):
    publish(hub.endpoint, finished_run, what=["dataset"])

    table = pd.read_parquet(io.BytesIO(hub.repositories["datasets/org/toy-items"].commits[-1][1]["items.parquet"]))
    assert table["title"].notna().all() and table["text"].notna().all() and table["topic"].notna().all()
    assert table["sid"].map(len).eq(4).all()


def test_columns_are_published_under_a_licence_alone(hub, finished_run, tmp_path):
    publish(hub.endpoint, finished_run, what=["recommender"])
    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    tables = [pd.read_parquet(io.BytesIO(files[path])) for path in files if path.startswith("columns-")]
    assert [list(table.columns) for table in tables] == [["topic"]]

    publish(hub.endpoint, without_licence(finished_run, tmp_path / "run"), what=["recommender"])

    files = hub.repositories["models/org/toy-recommender"].commits[-1][1]
    assert not [path for path in files if path.startswith("columns-")]


def test_texts_of_the_data_set_stand_beside_their_own_items_after_changes(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    system = Recommender.from_pretrained(run)
    removed = list(system.catalog.item_ids[1:4])
    system.remove_items(removed)
    system.add_items(["brand-new"], ["a story about the senate"])
    system.save_catalog(run / "recommender")

    publish(hub.endpoint, run, what=["dataset"])

    table = pd.read_parquet(io.BytesIO(hub.repositories["datasets/org/toy-items"].commits[-1][1]["items.parquet"]))
    texts = pd.read_parquet(run / "vectors" / "texts.parquet")["text"]
    expected = dict(zip(system.catalog.item_ids, texts, strict=False))
    found = table.set_index("item_id")["text"]
    assert not set(removed) & set(found.index) and pd.isna(found["brand-new"])
    assert found.drop("brand-new").to_dict() == {item: expected[item] for item in found.index if item != "brand-new"}


@pytest.mark.parametrize("name", ["optimizer.pt", "checkpoint-7/model.safetensors", "users.parquet", "notes.txt"])
def test_a_file_that_does_not_belong_there_stops_everything(hub, finished_run, monkeypatch, name):
    def careless(self, directory):
        original(self, directory)
        (Path(directory) / name).parent.mkdir(exist_ok=True)
        (Path(directory) / name).write_bytes(b"x")

    original = GenerativeRecommender.save_pretrained
    monkeypatch.setattr(GenerativeRecommender, "save_pretrained", careless)

    with pytest.raises(ValueError, match=f"files do not belong into a recommender repository, first '{name}'"):
        publish(hub.endpoint, finished_run)
    assert not hub.repositories


def test_no_results_no_card(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    results = read_json(run / "evaluation" / "results.json")
    del results["rows"]["recommender"]
    write_json(run / "evaluation" / "results.json", results)
    record_again(run)

    with pytest.raises(ValueError, match="no results, no card"):
        publish(hub.endpoint, run)
    assert not hub.repositories


def test_a_dry_run_needs_no_network_and_prints_path_size_and_digest(finished_run, monkeypatch, capsys):
    def no_network(*arguments):
        raise AssertionError("a dry run asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    lines: list[str] = []

    names = upload(finished_run, namespace="org", dry_run=True, what=MODELS, report=lines.append)

    assert names == ["org/cost-quickstart", "org/cost-quickstart-items", "org/cost-quickstart-recommender"]
    assert "modeling_cost.py" in "".join(lines) and lines[-1] == "dry run: nothing was published"


def test_an_error_of_the_command_is_one_line(tmp_path, capsys):
    assert upload_main([str(tmp_path), "--namespace", "org", "--dry-run"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ") and "is an unfinished run" in error


@pytest.mark.parametrize("namespace", ["a/b", "my org", ""])
def test_a_namespace_that_makes_no_repository_id_is_refused_before_any_work(finished_run, namespace):
    with pytest.raises(ValueError, match=f"namespace '{namespace}' and name 'cost-quickstart' make no repository id"):
        upload(finished_run, namespace=namespace, dry_run=True)


def test_an_unknown_part_is_refused(finished_run):
    with pytest.raises(ValueError, match="takes parts of quantizer, dataset, recommender, space, got 'weights'"):
        upload(finished_run, namespace="org", what=["weights"], dry_run=True)
