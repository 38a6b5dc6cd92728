"""Staged folders to the Hub: a plan to read first, then one atomic commit per repository.

A commit names its parent. If somebody else has committed meanwhile, the connection breaks, or the token lacks a right,
the Hub refuses the whole commit, so a repository holds all of the old files or all of the new ones.
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
from cost_hf.hub.staging import StagedRepository

SECRET = re.compile(r"hf_\w+")
KEPT = (".gitattributes",)
CONFLICTS = (409, 412)  # status of a commit that does not follow the present one


@dataclass(frozen=True)
class FilePlan:
    """The change of one file.

    Attributes:
        path: in the repository.
        size: bytes; 0 for a file that is deleted.
        digest: sha256 of the content.
        change: `new`, `changed`, `unchanged`, `deleted`, or `unknown` without access to the Hub.
    """

    path: str
    size: int
    digest: str
    change: str


@dataclass(frozen=True)
class Published:
    """The state of a repository after publishing.

    Attributes:
        address: of the commit or pull request; None where the repository held all of it already.
        commit: the last commit of the branch.
    """

    address: str | None
    commit: str


class PublishError(OSError):
    """Publishing failed; the message describes the state of the Hub and what to do."""


def plan(
    staged: StagedRepository, api: HfApi | None, *, revision: str | None = None, keeps_others: bool = False
) -> tuple[list[FilePlan], str | None]:
    """Return what publishing would change, and the commit that it follows (None for a new repository).

    Args:
        staged: the folder.
        api: of the Hub; None for a plan without network access.
        revision: branch.
        keeps_others: whether files stay that a repository of this kind never holds, such as an image of the user's.
    """
    held, head = ({}, None) if api is None else _held(api, staged, revision)
    files = []
    for path in staged.files:
        local = staged.folder / path
        digest = file_digest(local)
        change = "unknown" if api is None else "new" if path not in held else "changed"
        if path in held and held[path] == (digest if len(held[path]) == len(digest) else _git_digest(local)):
            change = "unchanged"
        files.append(FilePlan(path, local.stat().st_size, digest, change))
    own = re.compile(staged.allowed if keeps_others else ".*")
    gone = sorted(path for path in set(held) - set(staged.files) if path not in KEPT and own.fullmatch(path))
    return [*files, *(FilePlan(path, 0, "", "deleted") for path in gone)], head


def publish(
    staged: StagedRepository,
    api: HfApi,
    *,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    follows: str | None = None,
    commit_message: str | None = None,
    keeps_others: bool = False,
) -> Published:
    """Publish a folder by one commit.

    Args:
        staged: the folder.
        api: with endpoint and token.
        private: make a new repository private, and refuse an existing public one.
        create_pr: open a pull request in place of a commit.
        revision: branch, made where it does not exist; `main` by default.
        follows: commit that the folder was made from; by default the present one.
        commit_message: first line of the commit.
        keeps_others: as for `plan`.

    Raises:
        PublishError: where the Hub refuses or can't be reached; the repository holds all of the commit or none of it.
        ValueError: for a public repository with `private`.
    """
    with explained(staged, follows=follows):
        options: dict[str, Any] = {"space_sdk": "gradio"} if staged.repo_type == "space" else {}
        api.create_repo(staged.repo_id, repo_type=staged.repo_type, private=private or None, exist_ok=True, **options)
        if private and not api.repo_info(staged.repo_id, repo_type=staged.repo_type).private:
            raise ValueError(
                f"{staged.repo_id} exists already and is public, so nothing was sent to it; make it private in its "
                "settings on the Hub, or leave out --private"
            )
        if revision is not None:
            api.create_branch(staged.repo_id, branch=revision, repo_type=staged.repo_type, exist_ok=True)
        files, head = plan(staged, api, revision=revision, keeps_others=keeps_others)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(file.path, staged.folder / file.path)
            for file in files
            if file.change in ("new", "changed")
        ]
        operations += [CommitOperationDelete(file.path) for file in files if file.change == "deleted"]
        if not operations:
            return Published(None, str(head))
        with warnings.catch_warnings():  # a catalog is part of the model, without which its weights mean nothing
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            commit = api.create_commit(
                staged.repo_id,
                operations,
                commit_message=commit_message or f"cost_hf: {staged.part}",
                repo_type=staged.repo_type,
                revision=revision,
                parent_commit=follows or head,
                create_pr=create_pr,
            )
    return Published(commit.pr_url or commit.commit_url, commit.oid)


@contextmanager
def explained(staged: StagedRepository, *, follows: str | None = None) -> Iterator[None]:
    """Turn errors of the connection and the Hub into a `PublishError` that names state and remedy."""
    try:
        yield
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        # without the traceback of the request, which may hold the token
        raise PublishError(_explained(staged, error, follows)) from None


def format_plan(staged: StagedRepository, files: Sequence[FilePlan]) -> str:
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


def _held(api: HfApi, staged: StagedRepository, revision: str | None) -> tuple[dict[str, str], str | None]:
    """Return the digest of every file on a branch (git or sha256), and its last commit."""
    try:
        head = api.repo_info(staged.repo_id, repo_type=staged.repo_type, revision=revision).sha
    except RepositoryNotFoundError:
        return {}, None
    entries = api.list_repo_tree(staged.repo_id, repo_type=staged.repo_type, revision=head, recursive=True)
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    held = {file.path: file.blob_id if file.lfs is None else file.lfs.sha256 for file in files}
    return held, head


def _git_digest(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _explained(staged: StagedRepository, error: Exception, follows: str | None) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reasons = {
        401: "the token is missing or not valid; log in by `hf auth login`",
        403: "this token may not write there; use one with write access, or another namespace",
        **dict.fromkeys(CONFLICTS, "somebody else has committed meanwhile"),
    }
    reason = reasons.get(status or 0) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if status is not None and status < 500:
        state = "was not published"
        left = "No file of it has changed on the Hub (an empty new repository may exist)"
    else:  # the answer to a commit can be lost after the commit was made
        state = "may not be published"
        left = "The Hub holds all of its commit, or nothing of it"
    is_conflict = follows is not None and status in CONFLICTS
    remedy = "Load it again and repeat the change" if is_conflict else "Run the same command again"
    return (
        f"{staged.repo_id} {state}: {SECRET.sub('hf_***', reason)}. {left}; repositories published before are "
        f"complete. {remedy}"
    )


def _size(count: int) -> str:
    size = float(count)
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size = size / 1000
        unit = larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
