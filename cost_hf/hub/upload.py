"""A finished run to the Hub, whole, in one commit per repository."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from cost_hf.command_line import print_text
from cost_hf.hub.parts import PARTS, REPO_TYPES, SUFFIXES
from cost_hf.hub.publish import explained, plan, publish, told
from cost_hf.hub.staging import Stage
from cost_hf.recommenders.generative import GenerativeRecommender


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
    say: Callable[[str], None] = print_text,
) -> list[str]:
    """Publish the parts of a finished run; return the ids of their repositories.

    Everything is staged and checked before the first commit is made.

    Args:
        run: run directory.
        namespace: user or organisation.
        what: parts of `PARTS`; all that the run can give by default.
        name: of the repositories; by default the name of the recipe.
        weights: of a LoRA run: `adapter` or `merged`; by default the adapter where its base model is on the Hub.
        private: make new repositories private.
        create_pr: open pull requests in place of commits.
        dry_run: print the plan and publish nothing; needs no network.
        api: with endpoint and token; by default those of the environment.
        say: takes the lines of the plan.

    Raises:
        ValueError: for a part that does not exist or can't be published, or a file that may not go out.
        PublishError: where the Hub refuses or can't be reached.
    """
    unknown = [part for part in what or () if part not in PARTS]
    if unknown:
        raise ValueError(f"--what takes parts of {', '.join(PARTS)}, got {unknown[0]!r}; correct it")
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(run, Path(scratch), {}, weights=weights)
        chosen = [part for part in PARTS if part in (what or _possible(stage))]
        names = _names(namespace, name or stage.recipe["name"].replace("_", "-"))
        hub = None if dry_run else api or HfApi()
        others = (
            [] if hub is None else [part for part in PARTS if part not in chosen and _is_there(hub, part, names[part])]
        )
        stage.repo_ids.update({part: names[part] for part in [*chosen, *others]})
        parts = [stage.part(part) for part in chosen]
        say(stage.licence.sentence)
        for staged in parts:
            with explained(staged):
                say(told(staged, plan(staged, hub)[0]))
        if hub is None:
            say("dry run: nothing was published")
            return [staged.repo_id for staged in parts]
        for staged in parts:
            address = publish(staged, hub, private=private, create_pr=create_pr)
            say(f"{staged.repo_id}: {address or 'the Hub holds all of it already'}")
        return [staged.repo_id for staged in parts]


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


def _is_there(hub: HfApi, part: str, repo_id: str) -> bool:
    """Tell whether a part was published before, so that cards may point to it."""
    try:
        return hub.repo_exists(repo_id, repo_type=REPO_TYPES[part])
    except (HfHubHTTPError, HTTPError, OSError):
        return False  # a card without a link is no reason to stop; what really fails does so at the commit


def _possible(stage: Stage) -> Sequence[str]:
    """Return the parts that a run can give."""
    system = stage.recommender
    if not isinstance(system, GenerativeRecommender):
        return ("recommender", "space")
    return PARTS if system.quantizer is not None else [part for part in PARTS if part != "quantizer"]
