"""Recommenders of other days: where they are kept, and how one takes the place of another in one step."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cost_hf.data.click_log import CLICKS
from cost_hf.files import atomic_path, check_file_digests, locked, remove_scratch
from cost_hf.recommenders.repository import copy_recommender, read_manifest, replace_whole
from cost_hf.run_updates import CLICKS_DIGEST, FOLDER, NUMBER, RECOMMENDER, read_updates, write_updates
from cost_hf.stages import check_file

REFUSED = "-refused"


class History:
    """The days of a run: the recommender that is served, those before it, and the clicks of every update.

    Args:
        run: the run directory.
    """

    def __init__(self, run: str | Path):
        self.run = Path(run)
        self.directory = self.run / RECOMMENDER
        self.folder = self.run / FOLDER
        self.updates = read_updates(self.run)

    @property
    def served(self) -> int:
        """Number of the update that is served; 0 for the training."""
        return read_manifest(self.directory).get(NUMBER, 0)

    @property
    def next_number(self) -> int:
        """Number of the next update; none is used twice."""
        return max((entry["number"] for entry in self.updates), default=0) + 1

    def line(self) -> list[int]:
        """Return the numbers of the updates that the served model went through, oldest first."""
        parents = {entry["number"]: entry["parent"] for entry in self.updates}
        numbers = []
        number = self.served
        while number:
            numbers.append(number)
            number = parents[number]
        return numbers[::-1]

    def parent(self, number: int) -> int:
        """Return the update before another one."""
        return next(entry["parent"] for entry in self.updates if entry["number"] == number)

    def kept(self, number: int) -> Path:
        """Return where the recommender of an update is kept while another one is served."""
        return self.folder / f"{number:04d}"

    def refused(self, number: int) -> Path:
        """Return where the recommender of a refused update is."""
        return self.folder / f"{number:04d}{REFUSED}"

    def clicks(self, number: int) -> Path:
        """Return the file of the clicks that an update brought, or that the run was trained on."""
        return self.run / (CLICKS if number == 0 else self._name_of(number))

    @staticmethod
    def _name_of(number: int) -> str:
        return f"{FOLDER}/{number:04d}-{CLICKS}"

    def check_clicks(self) -> None:
        """Raise `DamagedFileError` where clicks that the served model knows are not those that were written."""
        check_file(self.run, CLICKS)
        line = set(self.line())
        for entry in self.updates:
            if entry["number"] in line and CLICKS_DIGEST in entry:
                check_file_digests(self.run, {self._name_of(entry["number"]): entry[CLICKS_DIGEST]})

    def clean(self) -> None:
        """Delete what an update left that failed or was killed; the caller holds the lock of the run."""
        if self.folder.is_dir():
            remove_scratch(self.folder)
        ever_served = {0, self.served, *self.line()}
        for entry in list(self.updates):
            number = entry["number"]
            was_served = number in ever_served or "rolled_back" in entry or self.kept(number).is_dir()
            if entry["is_accepted"] and not was_served:
                self.updates.remove(entry)
                write_updates(self.run, self.updates)
                self.clicks(number).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty folder beside the kept recommenders, which is gone when the block ends."""
        self.folder.mkdir(exist_ok=True)
        folder = Path(mkdtemp(prefix=".update-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def serve(self, coming: Path) -> None:
        """Put the recommender of a directory in place of the one that is served, which is kept."""
        with locked(self.directory):
            with atomic_path(self.kept(self.served), durable=True) as copy:
                copy_recommender(self.directory, copy)
            replace_whole(self.directory, coming)

    def record(self, update: dict[str, Any]) -> None:
        """Add an update to the record of the run."""
        self.updates = [*self.updates, update]
        write_updates(self.run, self.updates)

    def forget_copy(self) -> None:
        """Delete the kept copy of the recommender that is served."""
        shutil.rmtree(self.kept(self.served), ignore_errors=True)

    def check_kept(self, number: int) -> None:
        """Raise where the recommender of an update is not kept any more, or not whole."""
        folder = self.kept(number)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not there: the recommender of update {number} is not kept any more; updates with a "
                "larger --keep keep more"
            )
        check_file_digests(folder, read_manifest(folder)["files"])

    def prune(self, keep: int) -> None:
        """Delete the oldest recommenders beyond `keep`; those before the served one stay longest."""
        served = self.served
        line = {0, *self.line()} - {served}
        self.forget_copy()
        folders = {}
        for path in self.folder.iterdir():
            name = path.name.removesuffix(REFUSED)
            if path.is_dir() and name.isdecimal():
                is_before = int(name) in line and path == self.kept(int(name))
                folders[path] = (is_before, int(name))
        ordered = sorted(folders, key=folders.__getitem__, reverse=True)
        for path in ordered[keep:]:
            shutil.rmtree(path)
        for entry in self.updates:
            number = entry["number"]
            is_needed = number == served or number in line or self.kept(number).is_dir()
            if not is_needed:
                self.clicks(number).unlink(missing_ok=True)
