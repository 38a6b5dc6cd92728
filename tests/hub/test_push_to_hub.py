"""`Recommender.push_to_hub`: any kind, from memory or a directory, by one commit that loses nobody's work."""

import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard

from cost_hf.files import read_json, write_json
from cost_hf.hub.publish import PublishError
from cost_hf.recommenders.base import Recommender
from tests.hub.loopback_hub import TOKEN
from tests.hub.made_up import made_up_results
from tests.near_ties import assert_same_list
from tests.recommenders.saved import KINDS
from tests.recommenders.toys import TOY_TEXTS, toy_text_recommender

NAME = "org/toy"


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """The loopback Hub as the Hub of this process, with a cache of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    address = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return hub


def files_of(hub, revision: str = "main") -> dict[str, bytes]:
    return hub.repositories[f"models/{NAME}"].files(revision)[1]


def card_of(hub) -> ModelCard:
    return ModelCard(files_of(hub)["README.md"].decode(), ignore_metadata_errors=False)


def with_results(directory: Path, *, licence: str | None = "Apache-2.0") -> Recommender:
    """A recommender in a directory with results, loaded from there."""
    toy_text_recommender().save_pretrained(directory)
    write_json(directory / "results.json", made_up_results(licence=licence))
    return Recommender.from_pretrained(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_from_the_hub(online, kind):
    system = KINDS[kind]()

    address = system.push_to_hub(NAME, token=TOKEN, licence="MIT")

    assert "/commit/" in address
    loaded = Recommender.from_pretrained(NAME, token=TOKEN)
    assert type(loaded) is type(system) and loaded.catalog.titles == system.catalog.titles
    history, length = ["item001", "item002"], len(system.catalog)
    assert_same_list(loaded.recommend(history, top_k=length), system.recommend(history, top_k=length))
    assert card_of(online).data.license == "mit"


def test_the_same_recommender_is_published_once_and_a_change_by_one_commit(online):
    system = toy_text_recommender()
    system.push_to_hub(NAME, token=TOKEN)
    commits = online.repositories[f"models/{NAME}"].commits

    assert system.push_to_hub(NAME, token=TOKEN) is None
    assert len(commits) == 2

    system.add_items(["new"], ["football in oslo and lima"])
    assert system.push_to_hub(NAME, token=TOKEN, commit_message="One more item") is not None
    assert len(commits) == 3 and online.repositories[f"models/{NAME}"].titles == [
        "cost_hf: recommender",
        "One more item",
    ]
    assert "new" in Recommender.from_pretrained(NAME, token=TOKEN).catalog


def test_without_a_licence_no_word_of_an_item_is_published(online):
    system = toy_text_recommender()

    system.push_to_hub(NAME, token=TOKEN)

    contents = [content for path, content in files_of(online).items() if not path.startswith("cost_hf/")]
    assert not [text for text in TOY_TEXTS if any(text.encode() in content for content in contents)]
    tables = [pd.read_parquet(io.BytesIO(files_of(online)[path])) for path in files_of(online) if "parquet" in path]
    assert [list(table.columns) for table in tables] == [["item_id"]]
    assert not [path for path in files_of(online) if path.startswith("encoder/")]
    assert system.catalog.titles is not None and system.encoder is not None  # the one in memory keeps them
    with pytest.raises(ValueError, match="holds vectors of item texts"):
        KINDS["texts"]().push_to_hub("org/other", token=TOKEN)
    assert list(online.repositories) == [f"models/{NAME}"]


def test_a_recommender_without_results_has_a_card_without_figures(online):
    toy_text_recommender().push_to_hub(NAME, token=TOKEN)

    card = card_of(online)
    assert "No evaluation results are published" in card.text and card.data.eval_results is None
    assert "results.json" not in files_of(online)


def test_results_and_licence_come_from_where_it_was_loaded(online, tmp_path):
    system = with_results(tmp_path / "it")
    system.add_items(["new"], ["football in oslo and lima"])  # results are those of the catalog of the training

    system.push_to_hub(NAME, token=TOKEN)

    card = card_of(online)
    assert "## Evaluation" in card.text and card.data.eval_results[0].metric_name == "Recall@10"
    assert card.data.license == "apache-2.0"
    again = Recommender.from_pretrained(NAME, token=TOKEN)
    assert again.catalog.titles is not None and "new" in again.catalog
    again.remove_items(["new"])
    again.push_to_hub(NAME, token=TOKEN)
    assert "## Evaluation" in card_of(online).text


@pytest.mark.parametrize("change", ["weights", "search"])
def test_results_of_other_weights_or_another_search_are_not_published(online, tmp_path, caplog, change):
    system = with_results(tmp_path / "it")
    if change == "weights":
        with torch.no_grad():
            next(system.generator.parameters()).add_(0.01)
    else:
        system.num_beams += 1

    system.push_to_hub(NAME, token=TOKEN)

    assert "results.json" not in files_of(online) and "No evaluation results" in card_of(online).text
    assert "have changed since this recommender was loaded" in caplog.text
    assert card_of(online).data.license == "apache-2.0"


def test_no_work_of_somebody_else_is_overwritten(online):
    toy_text_recommender().push_to_hub(NAME, token=TOKEN)
    mine, theirs = (Recommender.from_pretrained(NAME, token=TOKEN) for _ in range(2))
    theirs.remove_items(["item003"])
    theirs.push_to_hub(NAME, token=TOKEN)
    mine.remove_items(["item004"])

    with pytest.raises(PublishError, match=r"somebody else has committed meanwhile.*Load it again and repeat"):
        mine.push_to_hub(NAME, token=TOKEN)

    found = Recommender.from_pretrained(NAME, token=TOKEN)
    assert found.catalog.removed.nonzero()[0].tolist() == [3]
    found.remove_items(["item004"])
    found.push_to_hub(NAME, token=TOKEN)
    found.remove_items(["item005"])
    found.push_to_hub(NAME, token=TOKEN)  # it follows its own last commit
    assert Recommender.from_pretrained(NAME, token=TOKEN).catalog.removed.sum() == 3


def test_files_that_belong_to_no_recommender_stay(online):
    system = toy_text_recommender()
    system.push_to_hub(NAME, token=TOKEN)
    found = online.repositories[f"models/{NAME}"]
    found.commit(found.commits[-1][1] | {"logo.png": b"an image", "model-00001-of-00002.safetensors": b"old weights"})

    toy_text_recommender().push_to_hub(NAME, token=TOKEN)

    assert "logo.png" in files_of(online) and "model-00001-of-00002.safetensors" not in files_of(online)


def test_a_branch_is_made_and_gets_the_commit(online):
    system = toy_text_recommender()
    system.push_to_hub(NAME, token=TOKEN)

    system.remove_items(["item003"])
    system.push_to_hub(NAME, token=TOKEN, revision="next")
    system.push_to_hub(NAME, token=TOKEN, revision="next")

    found = online.repositories[f"models/{NAME}"]
    assert len(found.commits) == 2 and len(found.branches["next"]) == 2
    assert Recommender.from_pretrained(NAME, token=TOKEN, revision="next").catalog.removed.sum() == 1
    assert Recommender.from_pretrained(NAME, token=TOKEN).catalog.removed.sum() == 0


def test_a_pull_request_leaves_main_as_it_is(online):
    system = toy_text_recommender()
    system.push_to_hub(NAME, token=TOKEN)
    system.remove_items(["item003"])

    address = system.push_to_hub(NAME, token=TOKEN, create_pr=True)

    found = online.repositories[f"models/{NAME}"]
    assert "discussions/1" in address and len(found.commits) == 2 and len(found.pulls) == 1


def test_private_repositories_are_made_and_public_ones_refused(online):
    toy_text_recommender().push_to_hub(NAME, token=TOKEN, private=True)
    toy_text_recommender().push_to_hub("org/public", token=TOKEN)

    assert online.repositories[f"models/{NAME}"].private
    with pytest.raises(ValueError, match="exists already and is public"):
        toy_text_recommender().push_to_hub("org/public", token=TOKEN, private=True)


def test_a_wrong_name_or_token_is_one_sentence(online):
    with pytest.raises(ValueError, match=r"repo_id must be a repository id \(org/name\), got 'a b/c'"):
        toy_text_recommender().push_to_hub("a b/c", token=TOKEN)
    with pytest.raises(PublishError, match="log in by `hf auth login`") as caught:
        toy_text_recommender().push_to_hub(NAME, token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)


def test_publishing_changes_nothing_in_memory(online, tmp_path):
    system = with_results(tmp_path / "it", licence=None)
    before = system.quantizer.config.to_dict(), system.catalog, system.journal, system.encoder

    system.push_to_hub(NAME, token=TOKEN)

    assert before == (system.quantizer.config.to_dict(), system.catalog, system.journal, system.encoder)
    assert read_json(tmp_path / "it" / "results.json")["recipe"]["data"]["licence"] is None
