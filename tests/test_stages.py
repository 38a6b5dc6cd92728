import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cost_hf.experiments.compare.compare import compare
from cost_hf.experiments.recipe import Recipe
from cost_hf.experiments.updates.update import update_run
from cost_hf.files import DamagedFileError, LockedError
from cost_hf.stages import Stages, UnfinishedRunError, require_finished


class Work:
    """A stage that counts its computations and can be made to fail half-way."""

    def __init__(self) -> None:
        self.computed = 0
        self.found: list[list[str]] = []

    def compute(self, folder: Path) -> None:
        self.found.append(sorted(path.name for path in folder.iterdir()))
        (folder / "half").write_text("half")
        self.computed += 1
        (folder / "result").write_text(str(self.computed))

    def run(self, directory: Path, digest: str) -> str:
        return Stages(directory).run(
            "work",
            digest=digest,
            folder="work",
            compute=self.compute,
            load=lambda folder: (folder / "result").read_text(),
        )


def test_a_stage_with_the_same_digest_is_skipped(tmp_path):
    work = Work()

    assert work.run(tmp_path, "a") == "1"
    assert work.run(tmp_path, "a") == "1"
    assert work.computed == 1


def test_a_stage_with_another_digest_starts_in_an_empty_folder(tmp_path):
    work = Work()
    work.run(tmp_path, "a")

    assert work.run(tmp_path, "b") == "2"
    assert work.found == [[], []]


def test_a_killed_stage_finds_what_it_left(tmp_path):
    def killed(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("work", digest="a", folder="work", compute=killed, load=str)
    work = Work()

    assert work.run(tmp_path, "a") == "1"
    assert work.found == [["half"]]


def test_a_killed_stage_loses_the_file_that_was_being_written(tmp_path):
    def killed(folder: Path) -> None:
        (folder / "kept").write_text("whole")
        (folder / ".model.safetensors-a1b2c3d4").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("work", digest="a", folder="work", compute=killed, load=str)
    work = Work()
    work.run(tmp_path, "a")

    assert work.found == [["kept"]]


def test_a_stage_whose_folder_was_deleted_is_computed_again(tmp_path):
    work = Work()
    work.run(tmp_path, "a")
    shutil.rmtree(tmp_path / "work")

    assert work.run(tmp_path, "a") == "2"


def test_a_skipped_stage_reports_what_it_cost_when_it_ran(tmp_path):
    Work().run(tmp_path, "a")
    first = json.loads((tmp_path / ".stages" / "work.json").read_text())

    stages = Stages(tmp_path)
    stages.run("work", digest="a", folder="work", compute=lambda folder: None, load=str)

    assert stages.records["work"].seconds == first["seconds"]
    assert stages.records["work"].peak_mb == first["peak_mb"] > 10


ALLOCATION = """
from cost_hf.stages import peak_memory_mb, reset_peak_memory
reset_peak_memory()
before = peak_memory_mb()
block = bytearray(200 * 2**20)
block[::4096] = b"x" * len(block[::4096])
print(peak_memory_mb() - before)
"""


def test_peak_memory_sees_an_allocation():
    # in a process of its own: threads of other tests may free as much at the same time
    done = subprocess.run([sys.executable, "-c", ALLOCATION], capture_output=True, text=True, check=True)

    assert float(done.stdout) > 100


def test_a_folder_of_another_method_is_not_overwritten(tmp_path):
    Work().run(tmp_path, "a")

    with pytest.raises(
        ValueError, match=r"holds files of a run of another method \(stage work\); give another output_dir"
    ):
        Stages(tmp_path).run("other", digest="b", folder="work", compute=print, load=str)


def shared_run(work: Work, directory: Path, digest: str = "a") -> str:
    return Stages(directory, shared=directory.parent / "shared").run(
        "work",
        digest=digest,
        folder="work",
        compute=work.compute,
        load=lambda folder: (folder / "result").read_text(),
        shared_as="work",
    )


def test_a_shared_stage_is_computed_by_the_first_run_alone(tmp_path):
    work = Work()

    assert shared_run(work, tmp_path / "one") == "1"
    assert shared_run(work, tmp_path / "two") == "1"
    assert work.computed == 1
    assert (tmp_path / "two" / ".stages" / "work.json").read_text() == (
        tmp_path / "one" / ".stages" / "work.json"
    ).read_text()


def test_a_shared_stage_of_another_digest_is_not_taken(tmp_path):
    work = Work()
    shared_run(work, tmp_path / "one")

    assert shared_run(work, tmp_path / "two", "b") == "2"


def test_a_run_whose_stage_changed_takes_the_shared_one_of_the_new_digest(tmp_path):
    work = Work()
    shared_run(work, tmp_path / "one")
    shared_run(work, tmp_path / "two", "b")

    assert shared_run(work, tmp_path / "one", "b") == "2"
    assert work.computed == 2


def run_in(stages: Stages, name: str, work: Work, *, work_lost=None) -> str:
    return stages.run(
        name,
        digest="a",
        folder=name,
        compute=work.compute,
        load=lambda folder: (folder / "result").read_text(),
        shared_as="work",
        mutable=["changes"],
        work_lost=work_lost,
    )


def test_two_stages_of_a_run_with_the_same_inputs_are_computed_once(tmp_path):
    work = Work()
    stages = Stages(tmp_path)

    assert run_in(stages, "one", work) == run_in(stages, "two", work) == "1"
    assert work.computed == 1
    assert stages.records["one"] == stages.records["two"]
    assert json.loads((tmp_path / ".stages" / "two.json").read_text())["folder"] == "two"


def test_a_result_that_users_have_changed_is_not_taken(tmp_path):
    work = Work()
    stages = Stages(tmp_path, shared=tmp_path / "shared")

    def changes(folder: Path) -> str:
        return "one change" if (folder / "changes").exists() else ""

    run_in(stages, "one", work, work_lost=changes)
    (tmp_path / "one" / "changes").write_text("item 7 is gone")
    shutil.rmtree(tmp_path / "shared")

    assert run_in(Stages(tmp_path, shared=tmp_path / "shared"), "one", work, work_lost=changes) == "1"
    assert not (tmp_path / "shared").exists()
    assert run_in(stages, "two", work, work_lost=changes) == "2"


def test_what_a_killed_attempt_left_is_not_mixed_with_a_result_that_is_taken(tmp_path):
    work = Work()
    run_in(Stages(tmp_path), "one", work)

    def killed(folder: Path) -> None:
        (folder / "checkpoint").write_text("3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("two", digest="a", folder="two", compute=killed, load=str)

    assert run_in(Stages(tmp_path), "two", work) == "1"
    assert not (tmp_path / "two" / "checkpoint").exists()


def test_a_killed_shared_stage_is_offered_to_nobody(tmp_path):
    def killed(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path / "one", shared=tmp_path / "shared").run(
            "work", digest="a", folder="work", compute=killed, load=str, shared_as="work"
        )
    work = Work()

    assert shared_run(work, tmp_path / "two") == "1"
    assert work.found == [[]]


def test_files_that_may_change_after_a_stage_are_not_in_its_record(tmp_path):
    def compute(folder: Path) -> None:
        (folder / "catalog-1").write_text("old")
        (folder / "weights").write_text("w")

    arguments = {"digest": "a", "folder": "work", "compute": compute, "load": str, "mutable": ["catalog-*"]}
    Stages(tmp_path).run("work", **arguments)
    (tmp_path / "work" / "catalog-1").write_text("new")
    Stages(tmp_path).run("work", **arguments)

    assert (tmp_path / "work" / "catalog-1").read_text() == "new"
    assert list(json.loads((tmp_path / ".stages" / "work.json").read_text())["files"]) == ["weights"]


def test_a_lost_record_is_not_taken_for_another_method(tmp_path):
    Work().run(tmp_path, "a")
    Stages(tmp_path).run("next", digest="b", folder="next", compute=lambda folder: None, load=str)
    (tmp_path / ".stages" / "work.json").unlink()

    with pytest.raises(
        ValueError, match=r"work has lost its record .*work\.json, so what it was made from is not known"
    ):
        Work().run(tmp_path, "a")


def test_files_of_nobody_are_not_overwritten(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")

    with pytest.raises(ValueError, match="holds files of no run of this package"):
        Work().run(tmp_path, "a")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"digest": "a", "status": "done", "folder": "../x"}'])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path, text):
    Work().run(tmp_path, "a")
    (tmp_path / ".stages" / "work.json").write_text(text)

    with pytest.raises(DamagedFileError, match=r"work\.json"):
        Work().run(tmp_path, "a")


def test_a_damaged_shared_stage_is_made_again(tmp_path, caplog):
    work = Work()
    shared_run(work, tmp_path / "one")
    (stored,) = (tmp_path / "shared").rglob("result")
    stored.write_text("9")

    assert shared_run(work, tmp_path / "two") == "2"
    assert "the result of stage work in" in caplog.text
    assert shared_run(work, tmp_path / "three") == "2"


def finished_run(directory: Path, digest: str = "a") -> Stages:
    stages = Stages(directory)
    work = Work()
    stages.run("work", digest=digest, folder="work", compute=work.compute, load=str)
    (directory / "report.html").write_text(digest)
    stages.finish(["report.html"])
    return stages


def test_a_finished_run_is_finished(tmp_path):
    finished_run(tmp_path)

    require_finished(tmp_path, checked=None)


def test_a_run_that_was_begun_again_is_unfinished(tmp_path):
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    finished_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("work", digest="b", folder="work", compute=killed, load=str)
    with pytest.raises(UnfinishedRunError, match="unfinished run: stage work was begun again with other settings"):
        require_finished(tmp_path)

    Stages(tmp_path).run("work", digest="b", folder="work", compute=Work().compute, load=str)
    with pytest.raises(UnfinishedRunError, match="stage work was begun again"):  # its results are still missing
        require_finished(tmp_path)

    finished_run(tmp_path, "b")
    require_finished(tmp_path, checked=None)


def test_a_run_without_its_record_is_unfinished(tmp_path):
    Work().run(tmp_path, "a")

    with pytest.raises(UnfinishedRunError, match=r"\.stages/finished\.json is missing"):
        require_finished(tmp_path)


@pytest.mark.parametrize("file", ["report.html", "work/result"])
def test_a_file_that_changed_after_the_run_is_named(tmp_path, file):
    finished_run(tmp_path)
    (tmp_path / file).write_text("changed")

    require_finished(tmp_path)  # nobody asked for the files
    with pytest.raises(DamagedFileError, match=file):
        require_finished(tmp_path, checked=None)


def test_the_record_follows_a_file_that_its_stage_rewrites(tmp_path):
    stages = finished_run(tmp_path)
    stages.rewrite("work", tmp_path / "work" / "result", lambda path: path.write_text("7"))

    with pytest.raises(UnfinishedRunError):  # recipe and report are still those of before
        require_finished(tmp_path)
    stages.finish(["report.html"])
    require_finished(tmp_path, checked=None)


@pytest.mark.parametrize(("text", "is_finished"), [("a", True), ("b", False)])
def test_a_file_that_says_something_new_makes_a_run_unfinished(tmp_path, text, is_finished):
    stages = finished_run(tmp_path)
    stages.write("report.html", lambda path: path.write_text(text))

    assert (tmp_path / "report.html").read_text() == text
    assert (tmp_path / ".stages" / "finished.json").is_file() == is_finished


def test_a_note_stays_in_the_record_until_the_stage_is_made_again(tmp_path):
    stages = finished_run(tmp_path)
    stages.note("work", seen="yes")

    require_finished(tmp_path, checked=None)
    assert Stages(tmp_path).noted("work", "seen") == "yes"
    assert finished_run(tmp_path, "b").noted("work", "seen") is None


def test_a_folder_behind_a_link_is_emptied_too(tmp_path):
    finished_run(tmp_path / "run")
    (tmp_path / "run" / "work").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "work").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "checkpoint").write_text("of other settings")
    work = Work()
    work.run(tmp_path / "run", "b")

    assert work.found == [[]]
    assert (tmp_path / "run" / "work").is_symlink()


def test_a_damaged_mark_of_the_end_is_written_again(tmp_path):
    finished_run(tmp_path)
    (tmp_path / ".stages" / "finished.json").write_text("[")
    finished_run(tmp_path)

    require_finished(tmp_path, checked=None)


def test_a_lost_record_of_a_finished_run_is_named(tmp_path):
    finished_run(tmp_path)
    (tmp_path / ".stages" / "work.json").unlink()

    with pytest.raises(DamagedFileError, match=r"work\.json is missing, the record of a stage"):
        require_finished(tmp_path)


def test_a_run_that_lost_the_record_of_its_data_is_not_overwritten(tmp_path):
    stages = finished_run(tmp_path)

    with pytest.raises(ValueError, match=r"has lost its record .*data\.json.*--overwrite"):
        stages.claim("one", overwrite=False)
    stages.claim("one", overwrite=True)
    stages.claim("one", overwrite=False)


@pytest.mark.parametrize("record", ["{}", '"x', '{"digest": "b", "status": "done", "folder": "work"}'])
def test_a_shared_stage_with_a_damaged_record_is_made_again(tmp_path, record, caplog):
    work = Work()
    shared_run(work, tmp_path / "one")
    (path,) = (tmp_path / "shared").rglob("record.json")
    path.write_text(record)

    assert shared_run(work, tmp_path / "two") == "2"
    assert "the result of stage work in" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 8"),
    ],
)
def test_a_full_disk_in_a_stage_is_told(tmp_path, error):
    def compute(folder: Path) -> None:
        raise error

    with pytest.raises(OSError, match=r"work: no space is left on the device; free some and run again"):
        Stages(tmp_path).run("work", digest="a", folder="work", compute=compute, load=str)


def test_other_data_is_refused_unless_it_may_overwrite(tmp_path):
    Stages(tmp_path).claim("one", overwrite=False)
    Stages(tmp_path).claim("one", overwrite=False)
    with pytest.raises(ValueError, match=r"was made from other data .*--overwrite"):
        Stages(tmp_path).claim("two", overwrite=False)
    Stages(tmp_path).claim("one", overwrite=False)  # the refusal changed nothing

    Stages(tmp_path).claim("two", overwrite=True)
    with pytest.raises(ValueError, match="was made from other data"):
        Stages(tmp_path).claim("one", overwrite=False)


def test_a_second_process_is_refused_while_a_run_holds_its_directory(tmp_path, monkeypatch):
    code = (
        "import sys\nfrom cost_hf.stages import Stages\n"
        f"with Stages({str(tmp_path)!r}).exclusive():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    monkeypatch.setattr("cost_hf.stages.LOCK_SECONDS", 0.1)
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match="another process is writing to"), Stages(tmp_path).exclusive():
            pass
    finally:
        holder.kill()  # a lock of a dead process is no lock
        holder.wait()
    with Stages(tmp_path).exclusive():
        pass


def test_what_runs_in_one_process_is_refused_in_several(monkeypatch, tmp_path):
    monkeypatch.setattr("cost_hf.stages.PartialState", lambda **_: SimpleNamespace(num_processes=2))

    with pytest.raises(ValueError, match="an update runs in one process, got 2; start it without a launcher"):
        update_run(tmp_path, clicks="clicks.csv")
    with pytest.raises(ValueError, match="a comparison runs in one process, got 2"):
        compare("cost_quickstart", output_dir=tmp_path)
    with pytest.raises(ValueError, match="method ttdsr runs in one process, got 2"):
        Recipe.load("ttdsr_llm").system.fit(None, seed=0)
    assert not list(tmp_path.iterdir())
