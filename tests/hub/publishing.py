"""Publishing to the loopback Hub, as tests do it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from huggingface_hub import HfApi

from cost_hf.files import file_digest, file_digests, read_json, write_json
from cost_hf.hub.upload import upload
from cost_hf.stages import FINISHED, STATE
from tests.hub.loopback_hub import TOKEN

MODELS = ("quantizer", "recommender", "dataset")


def publish(
    endpoint: str, run: Path, *, what: Sequence[str] = MODELS, token: str | bool = TOKEN, **options: Any
) -> str:
    """Publish as `org/toy…` and return the report."""
    lines: list[str] = []
    api = HfApi(endpoint=endpoint, token=token)
    # the client asks at every call whether it is offline; the loopback Hub is not
    with mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", False):
        upload(run, namespace="org", name="toy", what=list(what), api=api, report=lines.append, **options)
    return "\n".join(lines)


def without_licence(run: Path, target: Path) -> Path:
    """Return a copy of a run whose recipe states no licence of the data."""
    shutil.copytree(run, target)
    recipe = yaml.safe_load((target / "recipe.yaml").read_text())
    recipe["data"]["licence"] = None
    (target / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    record_again(target)
    return target


def record_again(run: Path) -> None:
    """Record the files of a finished run as they are now, as if it had written them."""
    finished = read_json(run / STATE / FINISHED)
    finished["files"] = {name: file_digest(run / name) for name in finished["files"]}
    write_json(run / STATE / FINISHED, finished)
    record = read_json(run / STATE / "evaluation.json")
    record["files"] = file_digests(run / record["folder"])
    write_json(run / STATE / "evaluation.json", record)
