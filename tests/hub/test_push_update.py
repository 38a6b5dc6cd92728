"""`update-catalog --push`: a catalog on the Hub changes by one commit, which follows the one that was read."""

import pandas as pd
import pytest
from huggingface_hub import HfApi

from cost_hf.files import write_json
from cost_hf.hub.catalog_update import UpdateRequest, push_update
from cost_hf.hub.publish import PublishError
from cost_hf.hub.upload import push_recommender, upload
from cost_hf.recommenders.base import Recommender
from tests.hub.loopback_hub import TOKEN
from tests.hub.made_up import made_up_results
from tests.methods.counting.counting_toys import toy_counting

NAME = "org/toy-recommender"
ITEMS = UpdateRequest(items=pd.DataFrame({"item_id": ["brand-new"], "title": ["a story about the senate"]}))


@pytest.fixture
def published(hub, finished_run, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    upload(finished_run, namespace="org", name="toy", what=["recommender"], api=api, report=lambda line: None)
    return hub.repositories[f"models/{NAME}"], api


def test_the_change_is_one_commit_of_catalog_columns_and_manifest(published):
    found, api = published

    updates = push_update(NAME, ITEMS, api=api, report=lambda line: None)

    assert [change.action for change in updates.changes] == ["add"] and len(found.commits) == 3
    before, after = (files for _, files in found.commits[1:])
    changed = {path.partition("-")[0] for path in after if before.get(path) != after[path]}
    assert changed == {"recommender.json", "journal.jsonl", "catalog", "columns"}


def test_nothing_to_do_is_no_commit(published):
    found, api = published
    push_update(NAME, ITEMS, api=api, report=lambda line: None)

    assert push_update(NAME, ITEMS, api=api, report=lambda line: None).changes == []
    assert len(found.commits) == 3


def test_a_catalog_that_somebody_changed_meanwhile_is_not_overwritten(published, monkeypatch):
    found, api = published
    create = HfApi.create_repo

    def late(self, *arguments, **options):
        found.commit(found.commits[-1][1] | {"notes.txt": b"from somebody else"})
        return create(self, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_repo", late)

    with pytest.raises(PublishError, match=r"committed meanwhile.*Load it again and repeat the change"):
        push_update(NAME, ITEMS, api=api, report=lambda line: None)
    assert len(found.commits) == 3 and "notes.txt" in found.commits[-1][1]


def test_new_clicks_are_one_commit_without_the_results_of_the_counts_before(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    toy_counting("markov").save_pretrained(tmp_path / "counted")
    write_json(tmp_path / "counted" / "results.json", made_up_results(licence="MIT"))
    push_recommender(Recommender.from_pretrained(tmp_path / "counted"), "org/counted", api=api)
    found = hub.repositories["models/org/counted"]
    assert "results.json" in found.commits[-1][1]
    clicks = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["item003", "item000"], "position": [0, 1]})

    updates = push_update("org/counted", UpdateRequest(clicks=clicks), api=api, report=lambda line: None)

    files = found.commits[-1][1]
    assert updates.num_clicks == 2 and len(found.commits) == 3
    assert not {path for path in files if path == "results.json" or path.startswith(".eval_results")}
    assert b"license: mit" in files["README.md"] and b"Recall@10" not in files["README.md"]
    assert b"update_from(clicks)" in files["README.md"]
