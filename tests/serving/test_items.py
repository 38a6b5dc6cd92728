"""Changes of the catalog by requests: what is answered, what is written, and what two writers make of it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import MANIFEST
from cost_hf.serving.access import Tokens
from tests.serving.running import Reply, Running, running, saved_example, wait_until

TOKEN = "change-sesame-2"


@pytest.fixture
def directory(tmp_path) -> Path:
    return saved_example(tmp_path / "served")


def serving(directory: Path, **options):
    return running(directory, tokens=Tokens(items=TOKEN), **options)


def change(server: Running, **changes) -> Reply:
    return server.post("/items", changes, Authorization=f"Bearer {TOKEN}")


def listed(server: Running, history: list[str], **parameters) -> list[str]:
    reply = server.recommend(history, **parameters)
    return [answer["item_id"] for answer in reply.json["recommendations"][0]]


def test_changes_are_answered_from_the_next_request_on_and_after_a_restart(directory):
    with serving(directory) as server:
        reply = change(
            server,
            add=[{"item_id": "mug", "title": "mug for tea", "price": 12.5, "brand": "Alba", "in_stock": True}],
            update=[{"item_id": "teapot", "price": 99.0, "in_stock": False}],
            remove=["press"],
        )

        assert reply.status == 200
        assert (reply.json["added"], reply.json["updated"], reply.json["removed"]) == (["mug"], ["teapot"], ["press"])
        after = server.recommend(["kettle"])
        assert after.headers["x-catalog-digest"] == reply.json["catalog"] == reply.headers["x-catalog-digest"]
        assert set(listed(server, ["kettle"], top_k=10)) == {"mug", "teapot", "teacup", "grinder", "filter"}
        assert listed(server, ["kettle"], where={"price": 12.5}) == ["mug"]
        assert listed(server, ["kettle"], where={"price": {"min": 90}, "in_stock": False}) == ["teapot"]
        assert server.metric("cost_hf_catalog_items") == 6
    saved = Recommender.from_pretrained(directory)
    assert saved.catalog.version == reply.json["catalog"] and len(saved.journal) == 3
    with serving(directory) as server:
        assert server.recommend(["kettle"]).headers["x-catalog-digest"] == reply.json["catalog"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, ""),
        ({"add": [{"title": "mug for tea"}]}, "add"),
        ({"add": [{"item_id": "mug", "title": "mug for tea"}], "remove": ["nothing"]}, "remove"),
        ({"add": [{"item_id": "mug", "title": "mug for tea"}, {"item_id": "jar", "title": ""}]}, "add"),
        ({"remove": ["kettle"], "update": [{"item_id": "mug", "price": 1.0}]}, "update[0]"),
        ({"update": [{"item_id": "teapot", "price": "cheap"}]}, "update[0]"),
        ({"update": [{"item_id": "teapot", "colour": "red"}]}, "update[0]"),
        ({"delete": ["kettle"]}, "delete"),
    ],
)
def test_a_change_that_can_not_be_made_changes_nothing(directory, changes, field):
    manifest = (directory / MANIFEST).read_bytes()
    with serving(directory) as server:
        before = server.state.live.served
        reply = change(server, **changes)

        assert reply.status == 400 and reply.error[0] == field, reply.body
        assert server.state.live.served is before
    assert (directory / MANIFEST).read_bytes() == manifest


def test_a_change_that_can_not_be_saved_changes_nothing(directory, monkeypatch):
    def full_disk(*arguments: object) -> None:
        raise OSError("no space left on device")

    with serving(directory) as server:
        before = server.recommend(["kettle"])
        with monkeypatch.context() as patched:
            patched.setattr(Recommender, "save_catalog", full_disk)
            reply = change(server, remove=["press"])

        assert reply.status == 409 and "nothing has changed" in reply.error[1]
        assert server.recommend(["kettle"]).body == before.body
        assert change(server, remove=["press"]).status == 200


def test_two_servers_of_one_directory_see_the_changes_of_each_other(directory):
    with serving(directory) as first, serving(directory, poll=0.05) as second:
        one = change(first, remove=["press"])
        wait_until(lambda: "press" not in listed(second, ["kettle"]))
        # the first has not looked at the directory since, and keeps the change of the second
        two = change(second, remove=["filter"])
        three = change(first, add=[{"item_id": "mug", "title": "mug for tea"}])

        assert [reply.status for reply in (one, two, three)] == [200] * 3
        assert set(listed(first, ["kettle"])) == {"teapot", "teacup", "grinder", "mug"}
        wait_until(lambda: set(listed(second, ["kettle"])) == {"teapot", "teacup", "grinder", "mug"})


def test_changes_at_once_are_all_kept(directory):
    with serving(directory) as server, ThreadPoolExecutor(6) as clients:
        ids = [f"mug {number}" for number in range(6)]
        replies = list(clients.map(lambda item: change(server, add=[{"item_id": item, "title": f"{item} tea"}]), ids))

        assert [reply.status for reply in replies] == [200] * 6
        assert set(ids) <= set(Recommender.from_pretrained(directory).catalog.item_ids)
        assert len(set(reply.json["catalog"] for reply in replies)) == 6


def test_a_change_while_the_directory_is_damaged_is_refused(directory, tmp_path):
    whole = shutil.copytree(directory, tmp_path / "whole")
    with serving(directory) as server:
        (directory / MANIFEST).write_text("{", encoding="utf-8")
        refused = change(server, remove=["press"])
        assert refused.status == 409 and "holds no JSON" in refused.error[1]
        assert "press" in listed(server, ["kettle"])
        shutil.copyfile(whole / MANIFEST, directory / MANIFEST)

        assert change(server, remove=["press"]).status == 200
