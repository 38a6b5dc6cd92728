"""A living catalog on disk: written in one step, read back whole, and never overwritten unseen."""

import json
import subprocess
import sys
import time

import pytest

from cost_hf.files import read_json
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import KEPT_VERSIONS
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import read_whole, renew_files
from tests.near_ties import assert_same_list
from tests.recommenders.toys import TOY_IDS, toy_recommender, toy_text_recommender
from tests.runs import child_environment


@pytest.fixture
def directory(tmp_path):
    toy_text_recommender().save_pretrained(tmp_path / "recommender")
    return tmp_path / "recommender"


def load(directory) -> GenerativeRecommender:
    return Recommender.from_pretrained(directory)


def stems(directory) -> set[str]:
    return {path.stem for path in directory.glob("catalog-*")}


def test_changes_are_there_in_another_process_with_journal_and_a_way_back(directory):
    system = load(directory)
    first = system.catalog.version
    system.add_items(["new"], ["football in oslo tonight"])
    system.save_catalog(directory)
    program = (
        "import json, sys; from cost_hf import Recommender; system = Recommender.from_pretrained(sys.argv[1]);"
        "answers = system.recommend(['new'], top_k=3); codes = system.encode(['football in oslo tonight']).tolist();"
        "journal = [change.action for change in system.journal]; back = system.rollback().after;"
        "print(json.dumps([answers, codes, journal, back]))"
    )
    command = [sys.executable, "-c", program, directory]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)

    answers, codes, journal, back = json.loads(done.stdout)
    assert_same_list(answers, system.recommend(["new"], top_k=3))
    assert codes == system.encode(["football in oslo tonight"]).tolist()
    assert journal == ["add"] and back == first


def test_weights_are_not_written_again(directory):
    files = [directory / "model.safetensors", directory / "quantizer" / "model.safetensors", directory / "config.json"]
    times = [path.stat().st_mtime_ns for path in files]
    system = load(directory)
    system.add_items(["new"], ["football in oslo tonight"])

    system.save_catalog(directory)

    assert [path.stat().st_mtime_ns for path in files] == times


def test_a_write_that_is_killed_before_its_last_step_leaves_the_old_catalog(directory, monkeypatch):
    system = load(directory)
    system.add_items(["new"], ["football in oslo tonight"])

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(repository, "_write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        system.save_catalog(directory)
    monkeypatch.undo()

    assert "new" not in load(directory).catalog and load(directory).journal == ()
    system.save_catalog(directory)  # and the same call goes on
    assert "new" in load(directory).catalog


def test_the_second_of_two_writers_is_refused_and_may_repeat(directory):
    first, second = load(directory), load(directory)
    first.add_items(["one"], ["football in oslo tonight"])
    first.save_catalog(directory)
    second.add_items(["two"], ["weather in lima tonight"])

    with pytest.raises(ValueError, match="something else has changed it; load it again and repeat the change"):
        second.save_catalog(directory)

    again = load(directory)
    again.add_items(["two"], ["weather in lima tonight"])
    again.save_catalog(directory)
    assert set(load(directory).catalog.item_ids) == {*TOY_IDS, "one", "two"}


def test_saving_twice_and_after_a_rollback_goes_on_from_what_is_there(directory):
    system = load(directory)
    for item in ("one", "two"):
        system.add_items([item], [f"football in oslo, {item}"])
        system.save_catalog(directory)
    system.rollback()
    system.save_catalog(directory)

    found = load(directory)
    assert "one" in found.catalog and "two" not in found.catalog
    assert [change.action for change in found.journal] == ["add", "add", "rollback"]
    found.rollback()
    assert "one" not in found.catalog


def test_only_files_of_kept_versions_stay(directory):
    system = load(directory)
    for number in range(KEPT_VERSIONS + 4):
        system.add_items([f"new{number}"], [f"football in oslo {number}"])
        system.save_catalog(directory)

    assert len(stems(directory)) == KEPT_VERSIONS + 1
    manifest = read_json(directory / "recommender.json")
    assert stems(directory) == {manifest["catalog"], *manifest["catalog_history"]}
    assert load(directory).rollback().action == "rollback"


def test_a_directory_of_other_weights_is_refused_with_both_digests(directory, tmp_path):
    other = toy_recommender()
    other.save_pretrained(tmp_path / "other")

    with pytest.raises(
        ValueError, match=rf"has digest {other.identity['vocabulary_digest']}, recommender.json asks for"
    ):
        other.save_catalog(directory)


@pytest.mark.parametrize("part", ["quantizer", "encoder"])
def test_a_quantizer_or_encoder_of_another_run_is_refused_with_both_digests(directory, tmp_path, part):
    manifest = read_json(directory / "recommender.json")
    if part == "quantizer":
        model = load(directory).quantizer
        model.level_vectors(0).data[0] += 1
        model.save_pretrained(directory / "quantizer")
    else:
        record = read_json(directory / "encoder" / "encoder.json")
        (directory / "encoder" / "encoder.json").write_text(json.dumps(record | {"digest": "other"}))
    renew_files(directory)
    wanted = manifest["assignment_digest" if part == "quantizer" else "encoder_digest"]

    with pytest.raises(ValueError, match=rf"the (quantizer|text encoder) in .* has digest \w+, .* asks for {wanted}"):
        load(directory)


def test_a_journal_that_is_too_short_is_refused(directory):
    system = load(directory)
    system.add_items(["new"], ["football in oslo tonight"])
    system.save_catalog(directory)
    (directory / "journal.jsonl").write_text("")

    with pytest.raises(ValueError, match="holds 0 changes, the manifest names 1"):
        load(directory)


def test_saving_over_a_recommender_that_is_there_leaves_one_that_is_whole(directory):
    system = load(directory)
    system.add_items(["new"], ["football in oslo tonight"])

    system.save_pretrained(directory)

    assert "new" in load(directory).catalog and len(load(directory).journal) == 1


@pytest.mark.parametrize("outcome", ["an error", "a result"])
def test_a_read_amid_a_save_and_the_way_back_is_repeated(directory, outcome):
    """The manifest is what it was, and yet the files were others meanwhile."""
    path = directory / "recommender.json"
    reads = []

    def read(manifest):
        reads.append(manifest)
        if len(reads) == 1:
            time.sleep(0.05)  # times of files are as coarse as the clock of the kernel
            path.rename(directory / "aside")
            (directory / "aside").rename(path)
            if outcome == "an error":
                raise OSError("a file is missing")
        return len(reads)

    assert read_whole(directory, read) == 2


def test_a_damaged_directory_that_nobody_changes_is_read_once(directory):
    reads = []

    def read(manifest):
        reads.append(manifest)
        raise ValueError("a damaged file")

    with pytest.raises(ValueError, match="a damaged file"):
        read_whole(directory, read)
    assert len(reads) == 1
