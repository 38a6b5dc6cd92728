"""Hot reload: what is saved into the directory answers soon, nothing is dropped or mixed; damage changes nothing."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import MANIFEST
from cost_hf.serving import live
from tests.near_ties import assert_same_list
from tests.serving.running import SECONDS, Clients, Reply, Running, gated, running, saved_example, wait_until

HISTORIES = (["kettle"], ["teapot", "teacup"], ["press", "grinder", "filter"])
Lists = dict[int, list[tuple[str, float]]]  # by the number of the history


@pytest.fixture
def directory(tmp_path) -> Path:
    return saved_example(tmp_path / "served")


def lists_of(recommender: Recommender) -> Lists:
    found = recommender.recommend(list(HISTORIES), top_k=3)
    return {number: [(answer.item_id, answer.score) for answer in answers] for number, answers in enumerate(found)}


class Readers(Clients):
    """Clients that keep all that they get."""

    def __init__(self, server: Running):
        super().__init__(len(HISTORIES))
        self.server = server
        self.replies: list[tuple[int, Reply]] = []

    def ask(self, number: int) -> None:
        self.replies.append((number, self.server.recommend(HISTORIES[number], top_k=3)))


def changed_weights(recommender: Recommender) -> None:
    with torch.no_grad():
        for weight in recommender.generator.parameters():
            weight.add_(0.3 * torch.randn_like(weight))


def test_nothing_is_dropped_or_mixed_while_model_and_catalog_change(directory):
    writer = Recommender.from_pretrained(directory)  # as another process would be
    expected: dict[tuple[str, str], Lists] = {}
    titles: dict[tuple[str, str], set[str]] = {}

    def note() -> tuple[str, str]:
        state = writer.model_digest, writer.catalog.version
        expected[state] = lists_of(writer)
        titles[state] = set(writer.catalog.titles)
        return state

    note()
    with running(directory, poll=0.05) as server, Readers(server) as readers:
        for step in range(6):
            writer.update_items(
                list(writer.catalog.item_ids), titles=[f"{item}, state {step}" for item in writer.catalog.item_ids]
            )
            if step % 3 == 1:
                changed_weights(writer)
                state = note()
                writer.save_pretrained(directory)
            else:
                if step % 3 == 2:
                    writer.add_items([f"new {step}"], [f"pot number {step}"])
                state = note()
                writer.save_catalog(directory)
            wait_until(lambda state=state: (server.state.live.served.model, server.state.live.served.catalog) == state)
            count = len(readers.replies)
            wait_until(lambda count=count: len(readers.replies) > count + 8)
        assert server.metric('cost_hf_reloads_total{outcome="model"}') == 2
        assert server.metric('cost_hf_reloads_total{outcome="catalog"}') == 4

    seen = set()
    for number, reply in readers.replies:
        assert reply.status == 200
        state = reply.headers["x-model-digest"], reply.headers["x-catalog-digest"]
        (answers,) = reply.json["recommendations"]
        assert_same_list([(answer["item_id"], answer["score"]) for answer in answers], expected[state][number])
        assert {answer["title"] for answer in answers} <= titles[state]
        seen.add(state)
    assert len(seen) == len(expected) == 7


def test_a_request_that_has_begun_is_answered_by_what_it_began_with(directory):
    writer = Recommender.from_pretrained(directory)
    with running(directory) as server, ThreadPoolExecutor(1) as clients:
        before = server.state.live.served
        with gated(server) as gate:
            first = clients.submit(server.recommend, ["kettle"])
            assert gate.entered.acquire(timeout=SECONDS)
            writer.remove_items(["press"])
            writer.save_catalog(directory)
            server.state.live.poll()
            fresh = server.state.live.served
            second = server.state.live.served.catalog
            gate.go_on.set()
            reply = first.result()
        server.state.live.served = fresh

        assert reply.headers["x-catalog-digest"] == before.catalog != second
        assert server.recommend(["kettle"]).headers["x-catalog-digest"] == second == writer.catalog.version


def damage_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text("{", encoding="utf-8")


def lose_manifest(directory: Path) -> None:
    (directory / MANIFEST).unlink()


def lose_directory(directory: Path) -> None:
    shutil.rmtree(directory)


@pytest.mark.parametrize("damage", [damage_manifest, lose_manifest, lose_directory])
def test_a_damaged_directory_changes_nothing_until_it_is_whole_again(directory, tmp_path, damage, caplog):
    whole = shutil.copytree(directory, tmp_path / "whole")
    writer = Recommender.from_pretrained(whole)
    writer.remove_items(["press"])
    writer.save_catalog(whole)
    with running(directory, poll=0.05) as server:
        before = server.recommend(["kettle"])
        damage(directory)
        wait_until(lambda: server.metric('cost_hf_reloads_total{outcome="failed"}') >= 2)

        after = server.recommend(["kettle"])
        assert (after.status, after.body, after.headers["x-catalog-digest"]) == (
            200,
            before.body,
            before.headers["x-catalog-digest"],
        )
        assert server.get("/ready").status == 200
        failures = [record for record in caplog.records if "can't be loaded" in record.getMessage()]
        # once for every reason, however often it was tried
        assert 1 <= len({failure.getMessage() for failure in failures}) == len(failures) <= 2

        shutil.copytree(whole, directory, dirs_exist_ok=True)
        wait_until(lambda: server.state.live.served.catalog == writer.catalog.version)
        assert "press" not in server.recommend(["kettle"], top_k=6).body.decode()


def test_a_copy_that_is_half_done_is_taken_when_it_is_done(directory, tmp_path):
    """The manifest first and the weights last, as a copy of files by their names may be."""
    writer = Recommender.from_pretrained(directory)
    changed_weights(writer)
    other = tmp_path / "other"
    writer.save_pretrained(other)
    with running(directory, poll=0.05) as server:
        before = server.state.live.served
        shutil.copyfile(other / MANIFEST, directory / MANIFEST)
        wait_until(lambda: server.metric('cost_hf_reloads_total{outcome="failed"}') >= 1)
        assert server.state.live.served is before
        shutil.copytree(other, directory, dirs_exist_ok=True)

        wait_until(lambda: server.state.live.served.model == writer.model_digest)
        assert server.recommend(["kettle"]).headers["x-model-digest"] == writer.model_digest


def test_a_touched_manifest_is_not_loaded_again(directory):
    with running(directory) as server:
        before = server.state.live.served
        os.utime(directory / MANIFEST)
        server.state.live.poll()

        assert server.state.live.served is before
        assert server.metric('cost_hf_reloads_total{outcome="catalog"}') == 0


def test_what_was_saved_during_a_load_is_not_taken_for_what_was_loaded(directory, monkeypatch):
    writer = Recommender.from_pretrained(directory)
    load = Recommender.from_pretrained
    loads = []

    def overtaken(source: object) -> Recommender:
        """Load; the first time, another process saves right afterwards."""
        loads.append(source)
        loaded = load(source)
        if len(loads) == 1:
            writer.remove_items(["press"])
            writer.save_catalog(directory)
        return loaded

    monkeypatch.setattr(Recommender, "from_pretrained", overtaken)
    with running(directory) as server:
        served = server.state.live.served

    assert len(loads) == 2
    assert served.catalog == served.manifest["catalog_version"] == writer.catalog.version


def test_a_new_commit_on_the_hub_answers_soon_and_a_hub_that_is_away_changes_nothing(directory, tmp_path, monkeypatch):
    newer = shutil.copytree(directory, tmp_path / "newer")
    writer = Recommender.from_pretrained(newer)
    writer.remove_items(["press"])
    writer.save_catalog(newer)
    newest = directory

    def located(source: str) -> Path:
        assert source == "org/name"
        if newest is None:
            raise FileNotFoundError("org/name: no such directory")
        return newest

    monkeypatch.setattr(live, "locate", located)
    monkeypatch.setattr("cost_hf.experiments.reading_options.locate", located)
    monkeypatch.setattr(live, "HUB_SECONDS", 0.0)
    with running("org/name") as server:
        before = server.state.live.served
        newest = None
        server.state.live.poll()
        assert server.state.live.served is before
        newest = newer
        server.state.live.poll()

        assert server.recommend(["kettle"]).headers["x-catalog-digest"] == writer.catalog.version != before.catalog
        assert server.metric('cost_hf_reloads_total{outcome="catalog"}') == 1
