"""Directories that are replaced whole: whatever fails or is killed, all old files are there or all new ones."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from cost_hf import replacing
from cost_hf.replacing import MOVES, REPLACED, settle

RECORD = "record.json"
OLD = {"record.json": "old", "weights": "old weights", "stale": "of the old one alone", "room/part": "old part"}
NEW = {"record.json": "new", "weights": "new weights", "more": "of the new one alone", "room/part": "new part"}
FOREIGN = {"notes.txt": "of the user", "checkpoint-1/state": "of a training"}


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def read(directory: Path) -> dict[str, str]:
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(directory).as_posix(): path.read_text() for path in paths}


def save(directory: Path, files: dict[str, str] = NEW) -> None:
    with replacing.replacing(directory, RECORD, old=lambda _: {"record.json", "weights", "stale", "room"}) as folder:
        write(folder, files)


@pytest.fixture
def directory(tmp_path):
    write(tmp_path / "it", OLD | FOREIGN)
    return tmp_path / "it"


def test_old_parts_go_new_ones_come_and_other_files_stay(directory):
    save(directory)

    assert read(directory) == NEW | FOREIGN


def test_an_error_in_the_block_changes_nothing(directory):
    with (
        pytest.raises(ValueError, match="no"),
        replacing.replacing(directory, RECORD, old=lambda _: {"weights"}) as folder,
    ):
        write(folder, NEW)
        raise ValueError("no")

    assert read(directory) == OLD | FOREIGN


def count_renames(monkeypatch, directory: Path, at: int, *, lasts: bool = False) -> bool:
    """Save with the rename number `at` failing (and all behind it, with `lasts`); tell whether there was one."""
    calls, rename = [0], os.replace

    def failing(*arguments, **options):
        calls[0] += 1
        if calls[0] == at or (lasts and calls[0] > at):
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        return rename(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing)
        try:
            save(directory)
        except OSError as error:
            assert "no space is left on the device" in str(error)
    return calls[0] >= at


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
def test_whichever_rename_fails_the_old_files_or_the_new_ones_are_there(tmp_path, monkeypatch, lasts):
    at, found = 0, []
    while True:
        at += 1
        directory = tmp_path / str(at)
        write(directory, OLD | FOREIGN)
        if not count_renames(monkeypatch, directory, at, lasts=lasts):
            break
        settle(directory, RECORD)
        files = {name: text for name, text in read(directory).items() if not name.startswith(".")}
        assert files in (OLD | FOREIGN, NEW | FOREIGN), at
        save(directory)
        assert read(directory) == NEW | FOREIGN
        found.append(files)

    assert at > len(OLD) + len(NEW) - 1  # the last one, that of a folder of no use any more, fails without harm
    assert found[:-1] == [OLD | FOREIGN] * (len(found) - 1) and found[-1] == NEW | FOREIGN


def snapshots(monkeypatch, directory: Path, target: Path, files: dict[str, str]) -> list[Path]:
    """Save and keep a copy of the directory as a kill before each rename would leave it."""
    rename, taken = os.replace, []

    def keeping(*arguments, **options):
        taken.append(target / str(len(taken)))
        shutil.copytree(directory, taken[-1])
        return rename(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", keeping)
        save(directory, files)
    return taken


def test_what_a_kill_at_any_moment_leaves_is_the_old_directory_or_the_new_one(directory, tmp_path, monkeypatch):
    taken = snapshots(monkeypatch, directory, tmp_path / "kills", NEW)

    for place in taken:
        settle(place, RECORD)
        found = {name: text for name, text in read(place).items() if not name.startswith(".")}
        assert found in (OLD | FOREIGN, NEW | FOREIGN), place
        save(place)
        assert read(place) == NEW | FOREIGN


def test_a_kill_at_putting_the_old_files_back_is_mended_too(directory, tmp_path, monkeypatch):
    taken = snapshots(monkeypatch, directory, tmp_path / "kills", NEW)
    for number, place in enumerate(taken):
        rename, second = os.replace, []

        def keeping(*arguments, place=place, number=number, rename=rename, second=second):
            second.append(tmp_path / f"{number}-{len(second)}")
            shutil.copytree(place, second[-1])
            return rename(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", keeping)
            settle(place, RECORD)
        for again in second:
            settle(again, RECORD)
            found = {name: text for name, text in read(again).items() if not name.startswith(".")}
            assert found in (OLD | FOREIGN, NEW | FOREIGN), again


def test_a_first_save_that_is_killed_leaves_no_record(tmp_path, monkeypatch):
    write(tmp_path / "it", FOREIGN)
    taken = snapshots(monkeypatch, tmp_path / "it", tmp_path / "kills", NEW)

    for place in taken:
        settle(place, RECORD)
        found = {name: text for name, text in read(place).items() if not name.startswith(".")}
        assert found in (FOREIGN, NEW | FOREIGN), place


def test_a_folder_in_the_way_that_is_none_of_the_old_parts_is_never_replaced(tmp_path):
    write(tmp_path, {"room/of the user": "text", "weights": "old"})

    with (
        pytest.raises(FileExistsError, match=r"room stands where a part .* move it away or give another directory"),
        replacing.replacing(tmp_path, RECORD, old=lambda _: {"weights"}) as folder,
    ):
        write(folder, NEW)

    assert read(tmp_path) == {"room/of the user": "text", "weights": "old"}


def test_a_file_in_the_place_of_the_directory_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OSError, match=r"file: a file stands where a directory is expected"):
        save(tmp_path / "file")


def test_where_nothing_may_be_written_it_is_said_how_the_directory_is_mended(directory, tmp_path, monkeypatch):
    taken = snapshots(monkeypatch, directory, tmp_path / "kills", NEW)
    torn = next(place for place in taken if not (place / RECORD).exists())

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(replacing, "locked", refused)
    with pytest.raises(OSError, match=r"a save into .* was stopped .* load or save it once as a user who may write"):
        settle(torn, RECORD)
    settle(directory, RECORD)  # a whole one needs no lock


@pytest.mark.parametrize("name", ["../victim", "/tmp/victim", "", ".", "..", "a/b", 7])
def test_the_list_of_moves_leads_out_of_no_directory(directory, tmp_path, name):
    write(tmp_path, {"victim": "of somebody"})
    (directory / RECORD).unlink()
    write(directory, {f"{REPLACED}/{MOVES}": json.dumps({"old": [], "new": [name]}), f"{REPLACED}/new/part": ""})

    with pytest.raises(ValueError, match=MOVES):
        settle(directory, RECORD)
    assert (tmp_path / "victim").read_text() == "of somebody"
