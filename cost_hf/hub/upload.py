"""Publishing on the Hub: the repositories of a finished run, or one recommender, by one commit per repository."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from cost_hf.command_line import print_text
from cost_hf.hub import PARTS, REPO_TYPES, SUFFIXES
from cost_hf.hub.publish import explained, format_plan, plan, publish
from cost_hf.hub.redaction import Licence
from cost_hf.hub.staging import (
    RunPublication,
    StagedRepository,
    check,
    describe_recommender,
    describes,
    licence_of_run,
    publishable,
    read_results,
    require_hub_base,
    write_recommender,
)
from cost_hf.recommenders.base import Recommender

logger = logging.getLogger(__name__)


def upload(
    run: str | Path,
    *,
    namespace: str,
    what: Sequence[str] | None = None,
    name: str | None = None,
    weights: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    api: HfApi | None = None,
    report: Callable[[str], None] = print_text,
) -> list[str]:
    """Publish the parts of a finished run; return the ids of their repositories.

    All repositories are staged and checked before the first commit is made.

    Args:
        run: run directory.
        namespace: user or organisation.
        what: parts of `PARTS`; all that the run has by default.
        name: of the repositories; by default the name of the recipe.
        weights: of a LoRA run: `adapter` or `merged`; by default the adapter where its base model is on the Hub.
        private: make new repositories private.
        create_pr: open pull requests in place of commits.
        dry_run: print the plan and publish nothing; needs no network.
        api: with endpoint and token; by default those of the environment.
        report: takes the lines of the plan.

    Raises:
        ValueError: for a part that does not exist or can't be published, or a file that may not be published.
        PublishError: where the Hub refuses or can't be reached.
    """
    unknown = [part for part in what or () if part not in PARTS]
    if unknown:
        raise ValueError(f"--what takes parts of {', '.join(PARTS)}, got {unknown[0]!r}; correct it")
    with tempfile.TemporaryDirectory() as scratch:
        publication = RunPublication(run, Path(scratch), {}, weights=weights)
        chosen = [part for part in PARTS if part in (what or publication.parts)]
        names = _names(namespace, name or publication.results["recipe"]["name"].replace("_", "-"))
        hub = None if dry_run else api or HfApi()
        missing = [part for part in PARTS if part not in chosen]
        others = [] if hub is None else [part for part in missing if _exists(hub, part, names[part])]
        publication.repo_ids.update({part: names[part] for part in [*chosen, *others]})
        repositories = [publication.stage(part) for part in chosen]
        report(publication.licence.sentence)
        for staged in repositories:
            with explained(staged):
                report(format_plan(staged, plan(staged, hub)[0]))
        if hub is None:
            report("dry run: nothing was published")
            return [staged.repo_id for staged in repositories]
        for staged in repositories:
            published = publish(staged, hub, private=private, create_pr=create_pr)
            report(f"{staged.repo_id}: {published.address or 'the Hub holds all of it already'}")
        return [staged.repo_id for staged in repositories]


def push_recommender(
    recommender: Recommender,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    licence: str | None = None,
    api: HfApi | None = None,
) -> str | None:
    """Publish a recommender as it is in memory; arguments, result and errors are those of `Recommender.push_to_hub`.

    Args:
        api: with endpoint and token; by default those of the environment.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"repo_id must be a repository id (org/name), got {repo_id!r:.80} ({error})") from error
    require_hub_base(recommender, remedy="call merge() first, or train on the model's Hub id")
    gate = Licence(licence) if licence is not None else _licence_of(recommender)
    hub = api or HfApi(token=token)
    branch = (repo_id, revision or "main")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copied = publishable(recommender, gate)
        write_recommender(copied, folder, gate)
        results = _results_of(recommender, folder)
        if results is not None:
            results["recipe"]["data"]["licence"] = gate.name
        describe_recommender(copied, folder, gate, results=results, repo_id=repo_id, related={"recommender": repo_id})
        staged = StagedRepository("recommender", repo_id, folder)
        check(staged)
        published = publish(
            staged,
            hub,
            private=bool(private),
            create_pr=create_pr,
            revision=revision,
            follows=recommender.hub_commits.get(branch),
            commit_message=commit_message,
            keeps_others=True,
        )
    if not create_pr:
        recommender.hub_commits = {**recommender.hub_commits, branch: published.commit}
    return published.address


def _licence_of(recommender: Recommender) -> Licence:
    """Return the licence of the run or repository that a recommender was loaded from; None where it is not known."""
    directory = recommender.directory
    if directory is None:
        return Licence(None)
    if (directory / "results.json").is_file():
        return Licence.of(read_results(directory)["recipe"])
    return licence_of_run(directory.parent) if (directory.parent / "recipe.yaml").is_file() else Licence(None)


def _results_of(recommender: Recommender, folder: Path) -> dict[str, Any] | None:
    """Return the results that describe a recommender; None where there are none, or those of other weights.

    Args:
        folder: where its weights were written.
    """
    if recommender.directory is None:
        return None
    try:
        results = read_results(recommender.directory)
    except FileNotFoundError:
        return None
    if not recommender.num_new_clicks and describes(recommender.directory, folder):
        return results
    logger.warning(
        "weights, counts or search settings have changed since this recommender was loaded from %s, so the results "
        "found there are not published (upload.py --weights merged publishes a merged adapter with its results)",
        recommender.directory,
    )
    return None


def _names(namespace: str, base: str) -> dict[str, str]:
    """Return the repository id of every part."""
    names = {part: f"{namespace}/{base}{SUFFIXES[part]}" for part in PARTS}
    try:
        for repo_id in names.values():
            validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"namespace {namespace!r} and name {base!r} make no repository id ({error}); correct them"
        ) from error
    return names


def _exists(hub: HfApi, part: str, repo_id: str) -> bool:
    """Tell whether a part was published before, so that cards may link to it."""
    try:
        return hub.repo_exists(repo_id, repo_type=REPO_TYPES[part])
    except (HfHubHTTPError, HTTPError, OSError):
        return False  # a missing link is no reason to stop; real failures show at the commit
