"""`update-catalog --push`: a catalog on the Hub changes by one commit, which follows the one that was read."""

import pandas as pd
import pytest
from huggingface_hub import HfApi

from cost_hf.hub.catalog_update import push_update
from cost_hf.hub.publish import PublishError
from cost_hf.hub.upload import upload
from tests.hub.loopback_hub import TOKEN

NAME = "org/toy-recommender"
ITEMS = pd.DataFrame({"item_id": ["brand-new"], "title": ["a story about the senate"]})


@pytest.fixture
def published(hub, finished_run, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    upload(finished_run, namespace="org", name="toy", what=["recommender"], api=api, report=lambda line: None)
    return hub.repositories[f"models/{NAME}"], api


def test_the_change_is_one_commit_of_catalog_and_manifest(published):
    found, api = published

    changes = push_update(NAME, api=api, report=lambda line: None, items=ITEMS)

    assert [change.action for change in changes] == ["add"] and len(found.commits) == 3
    before, after = (files for _, files in found.commits[1:])
    changed = {path.partition("-")[0] for path in after if before.get(path) != after[path]}
    assert changed == {"recommender.json", "journal.jsonl", "catalog"}


def test_nothing_to_do_is_no_commit(published):
    found, api = published
    push_update(NAME, api=api, report=lambda line: None, items=ITEMS)

    assert push_update(NAME, api=api, report=lambda line: None, items=ITEMS) == []
    assert len(found.commits) == 3


def test_a_catalog_that_somebody_changed_meanwhile_is_not_overwritten(published, monkeypatch):
    found, api = published
    create = HfApi.create_repo

    def late(self, *arguments, **options):
        found.commit(found.commits[-1][1] | {"notes.txt": b"from somebody else"})
        return create(self, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_repo", late)

    with pytest.raises(PublishError, match=r"committed meanwhile.*Load it again and repeat the change"):
        push_update(NAME, api=api, report=lambda line: None, items=ITEMS)
    assert len(found.commits) == 3 and "notes.txt" in found.commits[-1][1]
