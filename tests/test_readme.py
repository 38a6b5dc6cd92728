"""README: short, its first block is the two commands, its figures and those of the docs come from results files.

`tests/test_docs.py` runs its code.
"""

import re

import pytest
import yaml

import cost_hf
from benchmarks.readme import SECTIONS, with_results
from tests.pages import ROOT, blocks_of, commands_of

README = ROOT / "README.md"
MAX_WORDS = 900


def test_it_has_at_most_900_words():
    assert len(README.read_text(encoding="utf-8").split()) <= MAX_WORDS


def test_the_two_commands_come_first():
    assert commands_of(blocks_of(README)[0]) == ["make quickstart", "make test"]


def test_every_installation_uses_the_tested_versions():
    pages = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "pages").glob("*.md")]
    commands = [command for page in pages for block in blocks_of(page) for command in commands_of(block)]
    installations = [command for command in commands if command.startswith("pip install")]

    assert installations and all("-c constraints.txt" in command for command in installations)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_figure_is_that_of_the_results_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")

    assert with_results(text, SECTIONS[name]) == text


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_results_is_there_once(name):
    marks = re.findall(r"<!-- (.+?) -->", (ROOT / name).read_text(encoding="utf-8"))

    assert marks[1::2] == ["end"] * len(marks[::2])
    assert len(set(marks[::2])) == len(marks[::2]) and set(SECTIONS[name]) <= set(marks[::2])


def test_every_link_to_a_file_leads_somewhere():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README.read_text(encoding="utf-8"))

    assert links and all((ROOT / link).exists() for link in links)


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert citation["version"] == cost_hf.__version__ and citation["license"] == "Apache-2.0"
