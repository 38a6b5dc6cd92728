"""A recommender is saved whole or not at all, with the umask, and leaves no part of the one before."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from cost_hf.files import read_json
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from cost_hf.semantic_ids import catalog_files
from tests.recommenders.saved import KINDS, answers, files_of, other, parts_of, with_journal

ROOT = Path(__file__).parents[2]
FOREIGN = {"training_log.json": b"[]", "README.md": b"of the user", "checkpoint-3/model.safetensors": b"a training"}


@pytest.fixture(scope="module", params=list(KINDS))
def saved(request, tmp_path_factory):
    """A directory with a recommender that has with_journal, and files that are none of it."""
    directory = tmp_path_factory.mktemp(request.param)
    with_journal(KINDS[request.param]()).save_pretrained(directory)
    (directory / "checkpoint-3").mkdir()
    for name, content in FOREIGN.items():
        (directory / name).write_bytes(content)
    return directory


def test_a_save_leaves_no_part_of_the_recommender_before_and_all_that_is_not_its_own(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "it")
    system = other()

    system.save_pretrained(tmp_path / "it")
    system.save_pretrained(tmp_path / "fresh")

    assert files_of(tmp_path / "it") == files_of(tmp_path / "fresh") | FOREIGN
    assert answers(Recommender.from_pretrained(tmp_path / "it")) == answers(system)


def test_an_adapter_and_whole_weights_take_each_others_place(tmp_path):
    other().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")  # as an older save could leave it

    other().save_pretrained(tmp_path)

    assert not (tmp_path / "adapter_config.json").exists()
    assert set(files_of(tmp_path)) == parts_of(tmp_path)


def test_the_manifest_names_every_file_and_nothing_else_is_there(saved):
    assert parts_of(saved) == set(files_of(saved)) - set(FOREIGN)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_and_folders_have_the_permissions_of_the_umask(saved, tmp_path, mask):
    before = os.umask(mask)
    try:
        system = Recommender.from_pretrained(saved)
        system.save_pretrained(tmp_path / "it")
        system.remove_items(["item005"])
        system.save_catalog(tmp_path / "it")
    finally:
        os.umask(before)

    for path in (tmp_path / "it").rglob("*"):
        if path.name != ".lock":
            assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_what_a_kill_at_any_moment_leaves_loads_as_the_old_recommender_or_the_new_one(saved, tmp_path, monkeypatch):
    """A copy before each rename is what a kill there would leave; those at writing beside the old files are alike."""
    shutil.copytree(saved, tmp_path / "it")
    old, new = answers(Recommender.from_pretrained(saved)), other()
    rename, taken = os.replace, []

    def keeping(*arguments, **options):
        if not taken or (tmp_path / "it" / ".replaced").is_dir():
            taken.append(tmp_path / str(len(taken)))
            shutil.copytree(tmp_path / "it", taken[-1])
        return rename(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", keeping)
        new.save_pretrained(tmp_path / "it")
    found = [answers(Recommender.from_pretrained(place)) for place in taken]

    changed = found.index(answers(new))
    assert found == [old] * changed + [answers(new)] * (len(found) - changed)
    new.save_pretrained(taken[changed - 1])
    assert files_of(taken[changed - 1]) == files_of(tmp_path / "it")


def test_whichever_rename_fails_the_old_recommender_is_there_as_it_was(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "it")
    before, new, rename = files_of(saved), other(), os.replace
    failures = 0
    while True:
        calls = [0]

        def failing(*arguments, calls=calls, at=failures + 1):
            calls[0] += 1
            if calls[0] == at:
                raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
            return rename(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", failing)
            try:
                new.save_pretrained(tmp_path / "it")
                break
            except OSError as error:
                assert "no space is left on the device; free some" in str(error)
        failures += 1
        assert files_of(tmp_path / "it") == before, failures

    assert failures > 15
    assert answers(Recommender.from_pretrained(tmp_path / "it")) == answers(new)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (PreTrainedModel, "save_pretrained"),
        (catalog_files.pq, "write_table"),
        (repository, "save_file"),
        (repository, "write_json"),
    ],
    ids=["weights", "catalog", "popularity", "manifest"],
)
def test_a_full_disk_leaves_the_old_recommender_as_it_was(saved, tmp_path, monkeypatch, owner, name):
    shutil.copytree(saved, tmp_path / "it")
    before = files_of(saved)
    system = Recommender.from_pretrained(saved)
    if owner is PreTrainedModel and system.num_parameters == 0:
        pytest.skip("it has no weights")
    system.remove_items(["item005"])

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", name)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, full)
        with pytest.raises(OSError, match="no space is left on the device"):
            system.save_pretrained(tmp_path / "it")
        with pytest.raises(OSError, match="no space is left on the device"):
            system.save_pretrained(tmp_path / "new")

    assert files_of(tmp_path / "it") == before
    assert files_of(tmp_path / "new") == {}


def test_a_change_that_meets_a_full_disk_leaves_the_old_catalog(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "it")
    before = files_of(saved)
    system = Recommender.from_pretrained(tmp_path / "it")
    system.remove_items(["item005"])
    rename = os.replace

    for at in range(1, 5):  # two files of the catalog, journal, manifest
        calls = [0]

        def failing(*arguments, calls=calls, at=at):
            calls[0] += 1
            if calls[0] == at:
                raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
            return rename(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", failing)
            with pytest.raises(OSError, match="no space is left on the device"):
                system.save_catalog(tmp_path / "it")
        now = files_of(tmp_path / "it")
        journal = now.pop("journal.jsonl")
        assert journal.startswith(before["journal.jsonl"])
        assert now == {name: content for name, content in before.items() if name != "journal.jsonl"}
        assert len(Recommender.from_pretrained(tmp_path / "it").journal) == 1

    system.save_catalog(tmp_path / "it")
    assert len(Recommender.from_pretrained(tmp_path / "it").journal) == 2


def test_a_process_that_is_killed_between_two_renames_loses_nothing(tmp_path):
    with_journal(KINDS["ids"]()).save_pretrained(tmp_path / "it")
    shutil.copytree(tmp_path / "it", tmp_path / "before")
    program = (
        "import os, signal, sys\n"
        "from tests.recommenders.saved import other\n"
        "system, rename = other(), os.replace\n"
        "def killed(source, target):\n"
        "    if str(target).endswith('it/vocabulary.json'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rename(source, target)\n"
        "os.replace = killed\n"
        "system.save_pretrained(sys.argv[1])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}

    done = subprocess.run([sys.executable, "-c", program, tmp_path / "it"], env=environment, capture_output=True)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "it" / ".replaced").is_dir() and not (tmp_path / "it" / "recommender.json").exists()
    loaded, before = (Recommender.from_pretrained(tmp_path / name) for name in ("it", "before"))
    assert answers(loaded) == answers(before)
    assert files_of(tmp_path / "it") == files_of(tmp_path / "before")


def test_a_run_directory_is_no_place_for_a_recommender_whose_folders_would_replace_its_own(tmp_path):
    (tmp_path / "quantizer").mkdir()
    (tmp_path / "quantizer" / "codes.json").write_text("{}")

    with pytest.raises(FileExistsError, match=r"quantizer stands where a part .* give another directory"):
        KINDS["causal"]().save_pretrained(tmp_path)

    assert set(files_of(tmp_path)) == {"quantizer/codes.json"}


def test_a_quantizer_that_did_not_make_the_codes_is_refused_before_anything_is_written(saved, tmp_path):
    system = KINDS["causal"]()
    system.quantizer.level_vectors(0).data[0] += 1

    with pytest.raises(ValueError, match=r"the quantizer has assignment digest \w+, the catalog's codes"):
        system.save_pretrained(tmp_path / "it")

    assert not (tmp_path / "it").exists()


def test_loading_and_saving_elsewhere_write_nothing_into_the_directory(saved, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError(f"loading takes no lock, got {arguments}")

    before = {path: path.stat().st_mtime_ns for path in saved.rglob("*")}
    with monkeypatch.context() as patched:
        patched.setattr("cost_hf.files.FileLock", refused)
        system = Recommender.from_pretrained(saved)
        answers(system)

    system.save_pretrained(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in saved.rglob("*")} == before
    assert files_of(tmp_path) == {name: content for name, content in files_of(saved).items() if name not in FOREIGN}


def test_a_file_that_may_not_be_read_is_named_with_the_reason(saved, monkeypatch):
    def refused(path, *arguments, **options):
        if path.name == "model.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refused)

    with pytest.raises(PermissionError, match=r"model.safetensors: permission denied; .* change its permissions"):
        Recommender.from_pretrained(saved)


def test_a_manifest_entry_changes_without_another_file(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "it")
    before = files_of(tmp_path / "it")

    repository.update_manifest(tmp_path / "it", num_beams=9)

    assert read_json(tmp_path / "it" / "recommender.json")["num_beams"] == 9
    assert {name for name, content in files_of(tmp_path / "it").items() if content != before[name]} == {
        "recommender.json"
    }
    Recommender.from_pretrained(tmp_path / "it")
