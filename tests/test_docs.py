"""README and docs: every code block of every page runs, on the toy run that "getting started" trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shop_export import write_export
from cost_hf.files import read_json
from tests.generators.backbone_toys import causal_backbone
from tests.hub.loopback_hub import LoopbackHub
from tests.pages import ELSEWHERE, FILES, ROOT, blocks_of, commands_of, reason_not_to_run, run_page, write_toy_tables
from tests.runs import child_environment

README = ROOT / "README.md"
PAGES = ROOT / "docs" / "pages"
FIRST = PAGES / "getting_started.md"
PUBLISHING = PAGES / "publishing.md"
ADDING = PAGES / "adding_a_method.md"  # registers a method, which other tests of this process must not see
CHILDREN = (PUBLISHING, ADDING)
METHODS = sorted((ROOT / "cost_hf" / "methods").glob("*/README.md"))
ALL = [README, *sorted(PAGES.glob("*.md")), *METHODS]
OTHERS = [page for page in ALL if page not in (README, FIRST, *CHILDREN) and blocks_of(page)]
LANGUAGES = {"python", "bash", "yaml", *FILES}


@pytest.fixture(scope="session")
def docs_run(make_once) -> Path:
    """The directory in which "getting started" has run, with what the other pages expect of their reader."""

    def fill(directory: Path) -> None:
        write_toy_tables(directory / "data")
        write_export(directory / "export", num_customers=150, visits_a_day=15)
        causal_backbone(directory / "backbone")
        run_page(FIRST, directory)

    return make_once("docs_run", fill)


@pytest.fixture
def place(docs_run, tmp_path) -> Path:
    """A copy of that directory."""
    return shutil.copytree(docs_run, tmp_path / "place")


def run_in_a_child(page: Path, directory: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tests.pages", str(page), str(directory)]
    paths = os.pathsep.join([str(ROOT), str(directory)])
    environment = child_environment() | {"PYTHONPATH": paths} | environment
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
def test_the_readme_runs(tmp_path):
    write_toy_tables(tmp_path / "data")
    names = run_page(README, tmp_path)

    answers = names["run"].recommender.recommend(["n0", "n12"], top_k=3)
    assert len({answer.item_id for answer in answers} - {"n0", "n12"}) == 3
    assert all(answer.fields["title"] in names["titles"] for answer in answers)
    losses = [
        entry["loss"] for entry in read_json(tmp_path / "runs/mine/recommender/training_log.json") if "loss" in entry
    ]
    assert losses[-1] < losses[0]
    assert "n72" in names["Recommender"].from_pretrained(tmp_path / "runs/mine").catalog


@pytest.mark.slow
def test_the_first_page_trains_a_run(docs_run):
    assert (docs_run / "runs" / "mine" / "evaluation" / "results.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_page_runs(place, page):
    names = run_page(page, place)

    if page.stem == "serving":  # the stock is respected
        assert names["found"].items.shape == (1, 20) and not {7, 8} & set(names["found"].items[0].tolist())


@pytest.mark.slow
def test_publishing_runs_against_a_hub(place):
    with LoopbackHub().running() as hub:
        run_in_a_child(PUBLISHING, place, hub.environment(HF_HOME=str(place / "hub_cache")))

        assert {"models/my-org/toy", "models/my-org/toy-recommender"} <= set(hub.repositories)


@pytest.mark.slow
def test_adding_a_method_runs(place):
    run_in_a_child(ADDING, place, {})

    report = read_json(place / "runs" / "compare-puresvd_quickstart" / "compare.json")
    assert report["rows"]["puresvd"]["metrics"]["seen_allowed"]["ndcg@10"]["value"] > 0
    assert (place / "runs" / "hyperplanes" / "evaluation" / "results.json").is_file()


def test_every_block_is_code_a_file_or_output():
    unknown = [
        f"{page.name}:{block.line} {block.language}"
        for page in ALL
        for block in blocks_of(page)
        if block.language not in LANGUAGES or (block.language in FILES and block.title is None)
    ]

    assert not unknown


def test_only_commands_that_run_elsewhere_are_left_out():
    commands = [
        command
        for page in ALL
        for block in blocks_of(page)
        for command in commands_of(block)
        if block.language == "bash"
    ]

    assert all(any(command.startswith(known) for command in commands) for known in ELSEWHERE)
    assert sum(reason_not_to_run(command) is None for command in commands) > 10


def test_every_link_between_pages_leads_somewhere():
    made = (
        "methods/",
        "configuration/",
        "benchmarks/",
        "overview.svg",
        "changelog.md",
        "contributing.md",
    )  # by the build
    for page in ALL:
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).exists() and not link.startswith(made)]
        assert not missing, f"{page.name}: {missing}"
