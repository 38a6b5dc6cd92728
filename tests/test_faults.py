"""What users see of faults of the machine, and what is there afterwards; `docs/pages/faults.md` has the whole table."""

import ast
import os
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_hf.bulk.job import run_bulk
from cost_hf.bulk.tasks import RecommendTask
from cost_hf.files import file_digests
from cost_hf.quantizers.fit import CodesResult
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.example import example_recommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.stages import Stages
from tests.faults import read_only, run_on_small_disk
from tests.recommenders.saved import KINDS, answers
from tests.runs import ROOT, child_environment, command_line, results_of, run_train

PAGE = ROOT / "docs" / "pages" / "faults.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows_of_the_table() -> list[list[str]]:
    """Return the cells of every fault: what happens, what the user sees, the state afterwards, tests."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return cells[2:]  # below its head


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_fault_of_the_table_has_a_test_that_is_there():
    rows = rows_of_the_table()

    assert len(rows) >= 15
    for row in rows:
        assert len(row) == 4, row
        named = TEST.findall(row[3])
        assert named, f"no test brings about {row[0]!r}"
        for path, name in named:
            assert name in functions_of(path), f"{path} has no test {name}"


def write_stage(folder: Path) -> None:
    Stages(folder).run("work", digest="a", folder="work", compute=lambda place: (place / "x").touch(), load=str)


def write_codes(folder: Path) -> None:
    CodesResult(np.array([[0, 1], [3, 2]]), (4, 3), None, [], "digest", "inputs").save(folder)


def write_catalog_change(folder: Path) -> None:
    system = Recommender.from_pretrained(folder)
    system.remove_items(["item006"])
    system.save_catalog(folder)


def write_lists(folder: Path) -> None:
    run_bulk(RecommendTask(str(folder.parent / "model"), top_k=3), str(folder.parent / "in.parquet"), folder)


WRITERS: dict[str, Callable[[Path], None]] = {
    "a stage": write_stage,
    "codes": write_codes,
    "a recommender": lambda folder: KINDS["ids"]().save_pretrained(folder),
    "a change of a catalog": write_catalog_change,
    "a catalog": lambda folder: Catalog.from_codes(["a", "b"], [[0, 1], [1, 0]], level_sizes=(2, 2)).save(folder),
    "lists": write_lists,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_directory_that_may_not_be_written_to_is_named_and_left_as_it_is(name, tmp_path):
    folder = tmp_path / "it"
    folder.mkdir()
    if name == "a change of a catalog":
        KINDS["ids"]().save_pretrained(folder)
    if name == "lists":
        example_recommender().save_pretrained(tmp_path / "model")
        pq.write_table(pa.table({"history": [["kettle"]]}), tmp_path / "in.parquet")
    before = file_digests(folder)

    with read_only(folder), pytest.raises(PermissionError, match=r": permission denied; give another path") as caught:
        WRITERS[name](folder)

    assert str(folder) in str(caught.value)
    assert file_digests(folder) == before
    WRITERS[name](folder)
    assert file_digests(folder) != before


def test_a_recommender_is_loaded_and_answers_where_nothing_may_be_written(tmp_path):
    KINDS["causal"]().save_pretrained(tmp_path)
    expected = answers(Recommender.from_pretrained(tmp_path))

    with read_only(tmp_path):
        assert answers(Recommender.from_pretrained(tmp_path)) == expected


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    run_train(command_line(directory))
    return directory


def recommender_files(run: Path) -> dict[str, str]:
    return file_digests(run / "recommender", excluded=["training_log.json"])  # that has times in it


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("kilobytes", [60, 1300, 3300])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(undisturbed, tmp_path, kilobytes):
    """A real disk, which is full in another stage or file each time; checkpoints take the most of it."""
    command = shlex.join([str(ROOT / "train.py"), *command_line(tmp_path / "disk" / "run")])
    script = f"""
        resize {kilobytes}k
        $PYTHON {command} > {tmp_path}/first 2>&1 && status=0 || status=$?
        echo $status > {tmp_path}/status
        ls -A "$DISK/run/.stages" > {tmp_path}/stages
        resize 32m
        $PYTHON {command} > {tmp_path}/second 2>&1
        cp -r "$DISK/run" {tmp_path}/run
    """

    done = run_on_small_disk(script, tmp_path / "disk", environment=child_environment())

    log = (tmp_path / "first").read_text()
    assert (tmp_path / "status").read_text() == "2\n", log
    assert re.search(r"error: \S+: no space is left on the device; free some and run again$", log, re.M), log
    assert "Traceback" not in log and "finished.json" not in (tmp_path / "stages").read_text()
    assert done.returncode == 0, (tmp_path / "second").read_text()
    assert results_of(tmp_path / "run") == results_of(undisturbed)
    assert recommender_files(tmp_path / "run") == recommender_files(undisturbed)
    assert not [path for path in (tmp_path / "run").rglob(".*-????????")]


def test_the_small_disk_is_one(tmp_path):
    done = run_on_small_disk('head -c 100000 /dev/zero > "$DISK/it"', tmp_path / "disk", environment=dict(os.environ))

    assert done.returncode != 0 and "No space left on device" in done.stderr
    assert not list((tmp_path / "disk").iterdir())  # gone with its namespace
