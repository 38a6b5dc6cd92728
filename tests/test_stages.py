import json
import shutil
from pathlib import Path

import pytest
import torch

from cost_hf.files import content_digest
from cost_hf.products import Products
from cost_hf.stages import Stages, peak_memory_mb, reset_peak_memory


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


def test_peak_memory_sees_an_allocation():
    reset_peak_memory()
    before = peak_memory_mb()
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])

    assert peak_memory_mb() > before + 100


def test_a_folder_of_another_method_is_not_overwritten(tmp_path):
    Work().run(tmp_path, "a")

    with pytest.raises(ValueError, match=r"holds files of a run of another method \(work\); give another output_dir"):
        Stages(tmp_path).run("other", digest="b", folder="work", compute=print, load=str)


def shared_run(work: Work, directory: Path, digest: str = "a") -> str:
    return Stages(directory, shared=directory.parent / "shared").run(
        "work",
        digest=digest,
        folder="work",
        compute=work.compute,
        load=lambda folder: (folder / "result").read_text(),
        is_shared=True,
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


def test_a_killed_shared_stage_is_offered_to_nobody(tmp_path):
    def killed(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path / "one", shared=tmp_path / "shared").run(
            "work", digest="a", folder="work", compute=killed, load=str, is_shared=True
        )
    work = Work()

    assert shared_run(work, tmp_path / "two") == "1"
    assert work.found == [[]]


def run_with_products(directory: Path, products: Products) -> tuple[list[str], Stages]:
    seen: list[str] = []
    stages = Stages(directory)
    stages.run(
        "work",
        digest="a",
        folder="work",
        compute=lambda folder: seen.append(torch.get_float32_matmul_precision()),
        load=str,
        products=products,
    )
    return seen, stages


def test_a_stage_computes_with_its_products_and_depends_on_them(tmp_path):
    seen, stages = run_with_products(tmp_path, Products("medium", "medium", 1e-7))

    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == "highest"
    assert stages.digests == {"work": content_digest("a", "medium")}
    assert stages.products["work"].relative_error == 1e-7


def test_refused_products_make_nothing_again(tmp_path):
    assert run_with_products(tmp_path, Products())[0] == ["highest"]

    seen, stages = run_with_products(tmp_path, Products("medium", "exact", 1e-2))

    assert seen == []
    assert stages.digests == {"work": "a"}
    assert stages.products["work"].asked == "medium"
