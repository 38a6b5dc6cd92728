"""The recommender that answers now, and its successors: what is saved into its directory or pushed to its repository.

What answers is one reference to a `Served`, which nobody changes: a batch reads the reference once, so it is answered
by one model and one state of its catalog, whatever is loaded beside it meanwhile. A directory that is half written or
damaged is tried again later, and what was loaded before goes on.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_hf.experiments.reading_options import ReadingOptions
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import MANIFEST, differ_in_catalog_alone, locate, read_manifest
from cost_hf.recommenders.requests import ChangeRequest, RecommendRequest, parse
from cost_hf.recommenders.service import RecommenderService

logger = logging.getLogger(__name__)
MAX_RETRY_SECONDS = 60.0
HUB_SECONDS = 60.0  # between two questions to the Hub for the newest commit of a repository
ATTEMPTS = 5  # to load a directory that others change meanwhile
Signature = tuple[int, int, int] | None  # of a manifest: whether it may have changed is seen without reading it


class NotSavedError(Exception):
    """A change was not saved, and nothing has changed; the message says why."""


@dataclass(frozen=True, eq=False)
class Served:
    """A recommender that answers requests, and is changed by none.

    Attributes:
        service: answers by it.
        directory: that it was read from.
        manifest: of the directory, as it was read.
        model: digest of the weights, and of how they are searched.
        catalog: digest of all content of the catalog.
    """

    service: RecommenderService
    directory: Path
    manifest: Mapping[str, Any]
    model: str
    catalog: str

    @classmethod
    def of(cls, service: RecommenderService, directory: Path, manifest: Mapping[str, Any], *, model: str) -> "Served":
        """Return a recommender that was read from a directory; its first request is answered here."""
        recommender = service.recommender
        service.recommend(_example_request(recommender))  # what the first request sets up is there
        return cls(service, directory, manifest, model, recommender.catalog.version)

    @property
    def recommender(self) -> Recommender:
        """What answers."""
        return self.service.recommender

    def service_of(self, recommender: Recommender) -> RecommenderService:
        """Return the service of a recommender of the same run."""
        return RecommenderService(recommender, data=self.service.data)

    @property
    def facts(self) -> dict[str, str]:
        """What answers, for logs and metrics."""
        return {"kind": self.recommender.kind, "model_digest": self.model, "catalog_digest": self.catalog}

    @property
    def num_items(self) -> int:
        """Number of items that may be recommended."""
        catalog = self.recommender.catalog
        return len(catalog) - int(catalog.removed.sum())


class LiveRecommender:
    """Holds what answers, and replaces it by what appears in its directory; several threads may use one.

    Args:
        source: run directory, recommender directory, or Hub id.
        poll_seconds: between two looks at the manifest.
        on_reload: called with `model`, `catalog` (the weights stayed) or `failed`, and with what answers then.

    Raises:
        OSError, ValueError: as `Recommender.from_pretrained`.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        poll_seconds: float,
        on_reload: Callable[[str, Served], None] = lambda outcome, served: None,
    ):
        self.source = source
        self.poll_seconds = poll_seconds
        self.on_reload = on_reload
        self._changing = threading.Lock()  # one change of what answers at a time: a reload or a request's
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reload", daemon=True)
        self._failed: Signature = None
        self._failure = ""
        self._retry_seconds = 0.0
        self._retry_at = 0.0
        self._ask_hub_at = time.monotonic() + HUB_SECONDS
        directory = locate(source).absolute()
        self._seen = _signature(directory)
        self.served = self._read(directory)

    @property
    def is_local(self) -> bool:
        """Whether the directory may be written to; the cache of a Hub id may not."""
        return Path(self.source).expanduser().exists()

    def start(self) -> None:
        """Watch the directory from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; a reload that has begun is not waited for."""
        self._stopping.set()

    def poll(self) -> None:
        """Look at the manifest, of a Hub id at that of its newest commit, and load what has changed."""
        signature = _signature(self._newest())
        is_known = signature == self._seen or (signature == self._failed and time.monotonic() < self._retry_at)
        if not is_known:
            with self._changing:
                self._reload(signature)

    def _newest(self) -> Path:
        """Return the directory of what answers, or of a later commit on the Hub, which is downloaded here."""
        if self.is_local or time.monotonic() < self._ask_hub_at:
            return self.served.directory
        self._ask_hub_at = time.monotonic() + HUB_SECONDS
        try:
            return locate(self.source).absolute()
        except OSError as error:  # the network comes back, or the repository does
            logger.warning("the Hub was not asked for a newer commit: %s", error)
            return self.served.directory

    def change(self, request: ChangeRequest) -> tuple[dict[str, Any], Served]:
        """Change the catalog and save it into the directory; requests read the change from the next batch on.

        Returns:
            What has changed, as JSON, and what answers now.

        Raises:
            BadRequest: for a change that can't be made; the field is named.
            NotSavedError: where the directory can't be written to, or changed meanwhile.
        """
        with self._changing:
            for _ in range(ATTEMPTS):
                signature = _signature(self.served.directory)
                if signature != self._seen:
                    self._reload(signature)
                before = self.served
                # of the same weights; requests are answered by the old one meanwhile
                service = before.service_of(copy.copy(before.recommender))
                answer = service.change_items(request)
                try:
                    service.recommender.save_catalog(before.directory)
                except (OSError, ValueError) as error:
                    if _signature(before.directory) == signature:
                        raise NotSavedError(str(error)) from error
                    continue  # another process has saved meanwhile
                self._take_saved(service, before)
                return answer, self.served
        raise NotSavedError(f"{before.directory} was changed {ATTEMPTS} times meanwhile; try again")

    def _take_saved(self, service: RecommenderService, before: Served) -> None:
        """Answer by a recommender whose catalog was saved."""
        recommender = service.recommender
        signature = _signature(before.directory)
        manifest = read_manifest(before.directory)
        is_own = manifest["catalog_version"] == recommender.catalog.version
        if is_own and manifest["journal"] == recommender.journal.total:
            self._take(Served.of(service, before.directory, manifest, model=before.model), signature, "catalog")
        else:  # another process has saved since
            self._reload(signature)

    def _watch(self) -> None:
        while not self._stopping.wait(self.poll_seconds):
            self.poll()

    def _reload(self, signature: Signature) -> None:
        try:
            fresh = self._successor()
        except Exception as error:  # whatever is wrong there, what was loaded before goes on
            self._fail(signature, error)
            return
        if fresh is None:
            self._is_whole(signature)
        else:
            self._take(fresh, signature, "catalog" if fresh.model == self.served.model else "model")

    def _successor(self) -> Served | None:
        """Load what the directory holds now; None where it is what answers already."""
        before = self.served
        for _ in range(ATTEMPTS):
            directory = locate(self.source).absolute()
            manifest = read_manifest(directory)
            if (directory, manifest) == (before.directory, before.manifest):
                return None
            try:
                if directory == before.directory and differ_in_catalog_alone(manifest, before.manifest):
                    service = before.service_of(before.recommender.with_saved_catalog(directory, manifest))
                    return Served.of(service, directory, manifest, model=before.model)
                return self._read(directory)
            except (OSError, ValueError):
                if read_manifest(directory) == manifest:
                    raise
                # it was changed meanwhile
        raise OSError(f"{directory} was changed {ATTEMPTS} times while it was read; try again")

    def _read(self, directory: Path) -> Served:
        """Load all of a directory."""
        for _ in range(ATTEMPTS):
            manifest = read_manifest(directory)
            recommender = Recommender.from_pretrained(directory)
            if read_manifest(directory) == manifest:
                service = RecommenderService(recommender, data=ReadingOptions.of(self.source).options)
                return Served.of(service, directory, manifest, model=recommender.model_digest)
        raise OSError(f"{directory} was changed {ATTEMPTS} times while it was read; try again")

    def _take(self, fresh: Served, signature: Signature, outcome: str) -> None:
        self.served = fresh  # from the next batch on
        self._is_whole(signature)
        logger.info("the recommender was reloaded", extra={"fields": {"outcome": outcome, **fresh.facts}})
        self.on_reload(outcome, fresh)

    def _is_whole(self, signature: Signature) -> None:
        """Note that the directory holds what answers."""
        self._seen = signature
        self._failed = None
        self._failure = ""
        self._retry_at = 0.0

    def _fail(self, signature: Signature, error: Exception) -> None:
        is_same = signature == self._failed and self._failure
        self._retry_seconds = min(MAX_RETRY_SECONDS, 2 * self._retry_seconds) if is_same else self.poll_seconds
        self._retry_at = time.monotonic() + self._retry_seconds
        self._failed = signature
        if str(error) != self._failure:  # once, however often it is tried
            is_expected = isinstance(error, OSError | ValueError)
            logger.error(
                "the directory can't be loaded, and what was loaded before goes on: %s",
                error,
                exc_info=None if is_expected else error,
            )
        self._failure = str(error) or type(error).__name__
        self.on_reload("failed", self.served)


def popular_items(recommender: Recommender, count: int = 3) -> list[str]:
    """Return the ids of the most clicked items that may be recommended; fewer where the catalog has fewer."""
    catalog = recommender.catalog
    order = recommender.snapshot.popularity_order
    return [catalog.item_ids[row] for row in order[~catalog.removed[order]][:count]]


def _example_request(recommender: Recommender) -> RecommendRequest:
    parameters = {"user_ids": ["user"]} if recommender.needs_user_ids else {}
    return parse({"inputs": popular_items(recommender), "parameters": parameters})


def _signature(directory: Path) -> Signature:
    """Return what changes with a manifest; None where there is none, as in the middle of a save."""
    try:
        found = (directory / MANIFEST).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
