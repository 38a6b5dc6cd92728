"""A journal of many changes: the newest are kept, in memory and on disk, and the others are counted."""

import shutil

import numpy as np
import pytest

from cost_hf.files import read_json
from cost_hf.recommenders import catalog_changes, repository
from cost_hf.recommenders.base import Recommender
from tests.recommenders.toys import toy_recommender

KEPT = 5


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_changes, "KEPT_CHANGES", KEPT)
    toy_recommender().save_pretrained(tmp_path / "it")
    return tmp_path / "it"


def add(system: Recommender, numbers: range, *, directory=None) -> None:
    """Add items, each by a change of its own; where there is a directory, save each."""
    for number in numbers:
        system.add_items([f"new{number:02}"], codes=np.array([[number % 4, number % 5, number % 3]]))
        if directory is not None:
            system.save_catalog(directory)


def added(system: Recommender) -> list[str]:
    return [item for change in system.journal for item in change.item_ids]


def journals(directory) -> set[str]:
    return {path.name for path in directory.glob("journal*")}


def test_the_newest_changes_are_kept_and_the_others_counted(directory):
    system = Recommender.from_pretrained(directory)

    add(system, range(12))

    assert added(system) == [f"new{number:02}" for number in range(7, 12)]
    assert system.journal.dropped == 7 and system.journal.total == 12


@pytest.mark.parametrize("is_saved_each_time", [True, False])
def test_a_directory_holds_what_the_recommender_does_and_is_gone_on_from(directory, is_saved_each_time):
    system = Recommender.from_pretrained(directory)

    add(system, range(12), directory=directory if is_saved_each_time else None)
    system.save_catalog(directory)
    found = Recommender.from_pretrained(directory)

    assert found.journal == system.journal and found.journal.dropped == 7
    assert found.catalog.version == system.catalog.version
    assert journals(directory) == {"journal-7.jsonl"}
    add(found, range(12, 15), directory=directory)
    assert added(Recommender.from_pretrained(directory)) == [f"new{number:02}" for number in range(10, 15)]
    assert found.rollback().item_ids == ("new14",)


def test_a_whole_save_leaves_no_older_journal(directory):
    system = Recommender.from_pretrained(directory)
    add(system, range(3), directory=directory)
    add(system, range(3, 12))

    system.save_pretrained(directory)
    add(system, range(12, 30))  # more than are remembered: what was written last is known all the same
    system.save_catalog(directory)

    assert journals(directory) == {"journal-25.jsonl"}
    assert Recommender.from_pretrained(directory).journal == system.journal


def test_the_second_of_two_writers_is_refused_however_many_changes_ago_they_parted(directory):
    first, second = (Recommender.from_pretrained(directory) for _ in range(2))
    add(first, range(12), directory=directory)
    add(second, range(20, 40))

    with pytest.raises(ValueError, match=r"after 12 changes; this recommender made 20 and remembers the last 5"):
        second.save_catalog(directory)
    with pytest.raises(ValueError, match="after 12 changes, which this recommender does not know"):
        toy_recommender().save_catalog(directory)

    assert Recommender.from_pretrained(directory).journal == first.journal


def test_a_copy_of_a_directory_is_brought_up_to_date_as_far_as_the_journal_goes(directory, tmp_path):
    system = Recommender.from_pretrained(directory)
    copies = {count: tmp_path / f"after-{count}" for count in (2, 7, 9)}
    for number in range(12):
        if number in copies:
            shutil.copytree(directory, copies[number])
        add(system, range(number, number + 1), directory=directory)

    for count in (7, 9):
        system.save_catalog(copies[count])
        assert Recommender.from_pretrained(copies[count]).journal == system.journal
    with pytest.raises(ValueError, match=r"after 2 changes; .* save_pretrained writes all of it"):
        system.save_catalog(copies[2])


@pytest.mark.parametrize("count", [4, 6, 12])
def test_a_write_that_fails_before_its_last_step_leaves_the_journal_of_before(directory, monkeypatch, count):
    system = Recommender.from_pretrained(directory)
    add(system, range(count), directory=directory)
    held, before = journals(directory), system.journal
    add(system, range(count, count + 3))

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(repository, "_write_manifest", fail)
        system.save_catalog(directory)
    found = Recommender.from_pretrained(directory)

    assert found.journal == before and journals(directory) == held
    system.save_catalog(directory)
    assert Recommender.from_pretrained(directory).journal == system.journal


def test_a_longer_journal_of_before_the_limit_is_read_and_written_within_it(tmp_path, monkeypatch):
    system = toy_recommender()
    add(system, range(12))
    system.save_pretrained(tmp_path)
    monkeypatch.setattr(catalog_changes, "KEPT_CHANGES", KEPT)

    found = Recommender.from_pretrained(tmp_path)
    assert found.journal == system.journal[7:] and found.journal.dropped == 7
    add(found, range(12, 13), directory=tmp_path)

    assert journals(tmp_path) == {"journal-8.jsonl"}
    assert Recommender.from_pretrained(tmp_path).journal == found.journal


@pytest.mark.parametrize("dropped", [-1, 13, "7"])
def test_a_number_of_dropped_changes_that_can_t_be_is_refused(directory, dropped):
    add(system := Recommender.from_pretrained(directory), range(12))
    system.save_catalog(directory)
    content = read_json(directory / "recommender.json") | {"journal_dropped": dropped}
    repository._write_manifest(directory, content)

    with pytest.raises(ValueError, match=r"recommender\.json has journal_dropped"):
        Recommender.from_pretrained(directory)
