"""Staged folders to the Hub: a plan that can be read, then one atomic commit per repository.

A commit names the one that it follows. Where somebody else was faster, the connection breaks, or a right is missing,
the Hub refuses it whole, so a repository is as it was or as it should be.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from cost_hf.files import content_digest, file_digest
from cost_hf.hub.staging import Staged

SECRET = re.compile(r"hf_\w+")
KEPT = (".gitattributes",)


@dataclass(frozen=True)
class FilePlan:
    """What happens to one file.

    Attributes:
        path: in the repository.
        size: bytes; 0 for a file that is deleted.
        digest: sha256 of the content.
        change: `new`, `changed`, `unchanged`, `deleted`, or `unknown` without a look at the Hub.
    """

    path: str
    size: int
    digest: str
    change: str


class PublishError(OSError):
    """Publishing stopped; the message says what the Hub looks like now and how to go on."""


def plan(staged: Staged, api: HfApi | None) -> tuple[list[FilePlan], str | None]:
    """Return what publishing would change, and the commit that it follows (None for a repository that is not there).

    Args:
        staged: the folder.
        api: asks the Hub what it holds; None asks nobody.
    """
    held, head = ({}, None) if api is None else _held(api, staged)
    files = []
    for path in staged.files:
        local = staged.folder / path
        digest = file_digest(local)
        change = "unknown" if api is None else "new" if path not in held else "changed"
        if path in held and held[path] == (digest if len(held[path]) == len(digest) else _git_digest(local)):
            change = "unchanged"
        files.append(FilePlan(path, local.stat().st_size, digest, change))
    gone = sorted(path for path in set(held) - set(staged.files) if path not in KEPT)
    return [*files, *(FilePlan(path, 0, "", "deleted") for path in gone)], head


def publish(
    staged: Staged, api: HfApi, *, private: bool = False, create_pr: bool = False, follows: str | None = None
) -> str | None:
    """Publish a folder by one commit; return its address, or None where the Hub holds all of it already.

    Args:
        staged: the folder.
        api: with endpoint and token.
        private: make a new repository private, and refuse one that everybody can read.
        create_pr: open a pull request in place of a commit to `main`.
        follows: commit that the folder was made from; by default whatever the Hub holds now.

    Raises:
        PublishError: where the Hub refuses or can't be reached; the repository is as it was, or all of it is there.
        ValueError: for a public repository with `private`.
    """
    with explained(staged):
        options: dict[str, Any] = {"space_sdk": "gradio"} if staged.repo_type == "space" else {}
        api.create_repo(staged.repo_id, repo_type=staged.repo_type, private=private or None, exist_ok=True, **options)
        if private and not api.repo_info(staged.repo_id, repo_type=staged.repo_type).private:
            raise ValueError(
                f"{staged.repo_id} is there already and public, so nothing was sent to it; make it private in its "
                "settings on the Hub, or leave out --private"
            )
        files, head = plan(staged, api)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(file.path, staged.folder / file.path)
            for file in files
            if file.change in ("new", "changed")
        ]
        operations += [CommitOperationDelete(file.path) for file in files if file.change == "deleted"]
        if not operations:
            return None
        with warnings.catch_warnings():  # a catalog is part of the model: without it the weights name nothing
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            commit = api.create_commit(
                staged.repo_id,
                operations,
                commit_message=f"cost_hf: {staged.part}",
                repo_type=staged.repo_type,
                parent_commit=follows or head,
                create_pr=create_pr,
            )
    return commit.pr_url or commit.commit_url


@contextmanager
def explained(staged: Staged) -> Iterator[None]:
    """Turn whatever goes wrong on the way to the Hub into a `PublishError` that says how to go on."""
    try:
        yield
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise PublishError(_explained(staged, error)) from None  # the trace of a request may hold the token


def told(staged: Staged, files: Sequence[FilePlan]) -> str:
    """Return the plan of one repository: a line per file with size and digest, one line for the package."""
    total = sum(file.size for file in files)
    package = [file for file in files if file.path.startswith("cost_hf/")]
    if package:
        changes = {file.change for file in package}
        change = changes.pop() if len(changes) == 1 else "changed"
        digest = content_digest([file.digest for file in package])
        line = FilePlan(f"cost_hf/ ({len(package)} files)", sum(file.size for file in package), digest, change)
        files = [line, *(file for file in files if file not in package)]
    lines = [f"{staged.repo_type} {staged.repo_id}: {_size(total)}"]
    lines += [f"  {file.change:<9} {_size(file.size):>9}  {file.digest[:12]:<12}  {file.path}" for file in files]
    return "\n".join(lines)


def _held(api: HfApi, staged: Staged) -> tuple[dict[str, str], str | None]:
    """Return the digest of every file that the repository holds (git or sha256), and its last commit."""
    try:
        head = api.repo_info(staged.repo_id, repo_type=staged.repo_type).sha
    except RepositoryNotFoundError:
        return {}, None
    entries = api.list_repo_tree(staged.repo_id, repo_type=staged.repo_type, revision=head, recursive=True)
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    held = {file.path: file.blob_id if file.lfs is None else file.lfs.sha256 for file in files}
    return held, head


def _git_digest(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _explained(staged: Staged, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reasons = {
        401: "the token is missing or not valid; log in by `hf auth login`",
        403: "this token may not write there; use one with write access, or another --namespace",
        409: "somebody else has committed in the meantime",
        412: "somebody else has committed in the meantime",
    }
    reason = reasons.get(status or 0) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if status is not None and status < 500:
        state = "was not published", "No file of it has changed on the Hub (a new repository may be there, empty)"
    else:  # the answer to a commit can be lost after the commit was made
        state = "may not be published", "Its one commit is on the Hub whole, or not at all"
    return (
        f"{staged.repo_id} {state[0]}: {SECRET.sub('hf_***', reason)}. {state[1]}; what was published before is "
        "complete. The same command looks and goes on"
    )


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
