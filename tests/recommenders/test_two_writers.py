"""Several processes at one directory: nothing that was saved is lost, and it loads at any moment."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cost_hf.cli import main
from cost_hf.files import LockedError, locked
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from tests.recommenders.saved import KINDS, answers, files_of, other
from tests.recommenders.toys import toy_recommender

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
import numpy as np
from cost_hf import Recommender
directory, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    while True:
        system = Recommender.from_pretrained(directory)
        system.add_items([f"{name}{number}"], codes=np.array([[number % 4, number % 5, number % 3]]))
        try:
            system.save_catalog(directory)
            break
        except ValueError as error:
            assert "something else has changed it; load it again" in str(error), error
"""
READER = """
import sys
from pathlib import Path
from cost_hf import Recommender
loaded = 0
while not Path(sys.argv[2]).exists():
    system = Recommender.from_pretrained(sys.argv[1])
    assert system.recommend(["item001"], top_k=3)
    assert len(system.catalog) == 20 + len(system.journal)
    loaded += 1
print(loaded)
"""


def start(program: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_writers_and_a_reader_lose_nothing_and_always_find_a_whole_recommender(tmp_path):
    toy_recommender().save_pretrained(tmp_path / "it")
    count = int(os.environ.get("COST_HF_CHANGES", "6"))

    reader = start(READER, tmp_path / "it", tmp_path / "stop")
    writers = [start(WRITER, tmp_path / "it", name, count) for name in "ab"]
    errors = [writer.communicate(timeout=600)[1] for writer in writers]
    (tmp_path / "stop").touch()
    loaded, error = reader.communicate(timeout=600)

    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert reader.returncode == 0 and int(loaded) > 0, error
    system = Recommender.from_pretrained(tmp_path / "it")
    added = {f"{name}{number}" for name in "ab" for number in range(count)}
    assert set(system.catalog.item_ids) >= added and len(system.journal) == 2 * count
    assert all(system.rollback() for _ in range(min(10, 2 * count)))


def test_a_reader_begins_again_where_a_whole_save_comes_between(tmp_path, monkeypatch):
    KINDS["causal"]().save_pretrained(tmp_path / "it")
    new, check, calls = other(), repository.check_file_digests, []

    def late(directory, expected, **options):
        check(directory, expected, **options)
        if not calls:
            calls.append(directory)
            new.save_pretrained(tmp_path / "it")

    monkeypatch.setattr(repository, "check_file_digests", late)

    assert answers(Recommender.from_pretrained(tmp_path / "it")) == answers(new)


def test_a_reader_whose_files_go_while_it_reads_begins_again(tmp_path, monkeypatch):
    KINDS["causal"]().save_pretrained(tmp_path / "it")
    new, read, calls = other(), repository.read_journal, []

    def late(*arguments, **options):
        if not calls:
            calls.append(arguments)
            new.save_pretrained(tmp_path / "it")
        return read(*arguments, **options)

    monkeypatch.setattr(repository, "read_journal", late)

    assert answers(Recommender.from_pretrained(tmp_path / "it")) == answers(new)


def is_locked(directory: Path) -> bool:
    try:
        with locked(directory, seconds=0.05):
            return False
    except LockedError:
        return True


def test_an_update_waits_for_the_lock_from_its_reading_on(tmp_path, monkeypatch, capsys):
    KINDS["causal"]().save_pretrained(tmp_path / "it")
    held = []
    read = Recommender.from_pretrained

    def reading(directory, **options):
        with ThreadPoolExecutor(1) as other_writer:
            held.append(other_writer.submit(is_locked, directory).result())
        return read(directory, **options)

    monkeypatch.setattr("cost_hf.hub.catalog_update.Recommender.from_pretrained", reading)
    assert main(["update-catalog", str(tmp_path / "it"), "--remove", "item003"]) == 0

    assert held == [True]


def test_the_error_names_a_writer_that_is_too_slow(tmp_path, monkeypatch):
    system = KINDS["ids"]()
    system.save_pretrained(tmp_path)
    system.remove_items(["item003"])
    with locked(tmp_path), ThreadPoolExecutor(1) as other_writer:
        monkeypatch.setattr(repository, "locked", lambda directory: locked(directory, seconds=0.1))
        with pytest.raises(
            LockedError, match=r"another process is writing to .* wait for it, stop it, or give another"
        ):
            other_writer.submit(system.save_catalog, tmp_path).result()
    system.save_catalog(tmp_path)


def test_catalogs_of_others_are_never_deleted(tmp_path):
    system = toy_recommender()
    system.save_pretrained(tmp_path)
    for name in ("catalog-0123456789abcdef.parquet", "catalog-0123456789abcdef.safetensors", "catalog-mine.csv"):
        (tmp_path / name).write_text("of somebody")

    for number in range(12):
        system.add_items([f"new{number}"], codes=np.array([[1, 2, 2]]))
        system.save_catalog(tmp_path)

    names = {path.name for path in tmp_path.glob("catalog-*") if path.read_bytes() == b"of somebody"}
    assert len(names) == 3
    assert len(list(tmp_path.glob("catalog-*"))) == 3 + 2 * 11


def test_the_journal_of_an_equal_change_by_another_process_stays_as_it_is(tmp_path):
    """Both end at one version; the second finds it there and goes on from it."""
    toy_recommender().save_pretrained(tmp_path)
    first, second = (Recommender.from_pretrained(tmp_path) for _ in range(2))
    for system in (first, second):
        system.remove_items(["item003"])
    first.save_catalog(tmp_path)
    line = files_of(tmp_path)["journal.jsonl"]
    second.remove_items(["item004"])

    second.save_catalog(tmp_path)

    assert files_of(tmp_path)["journal.jsonl"].startswith(line)
    assert Recommender.from_pretrained(tmp_path).journal[0] == first.journal[0]


def test_a_save_beside_changes_of_another_thread_is_of_one_moment(tmp_path):
    system = toy_recommender()
    system.save_pretrained(tmp_path)

    def change():
        for number in range(25):
            system.add_items([f"new{number}"], codes=np.array([[number % 4, number % 5, number % 3]]))

    with ThreadPoolExecutor(1) as other_thread:
        changing = other_thread.submit(change)
        while True:
            is_last = changing.done()
            (system.save_pretrained if is_last else system.save_catalog)(tmp_path)
            found = Recommender.from_pretrained(tmp_path)
            assert len(found.catalog) == 20 + len(found.journal)
            if is_last:
                break
    assert len(found.journal) == 25
