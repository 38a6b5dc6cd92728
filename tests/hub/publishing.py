"""Publishing to the loopback Hub, as tests do it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from huggingface_hub import HfApi

from cost_hf.hub.upload import upload
from tests.hub.loopback_hub import TOKEN

MODELS = ("quantizer", "recommender", "dataset")


def publish(
    endpoint: str, run: Path, *, what: Sequence[str] = MODELS, token: str | bool = TOKEN, **options: Any
) -> str:
    """Publish as `org/toy…` and return what was said."""
    said: list[str] = []
    api = HfApi(endpoint=endpoint, token=token)
    # the client asks at every call whether it is offline; the loopback Hub is not
    with mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", False):
        upload(run, namespace="org", name="toy", what=list(what), api=api, say=said.append, **options)
    return "\n".join(said)


def without_licence(run: Path, target: Path) -> Path:
    """Return a copy of a run whose recipe states no licence of the data."""
    shutil.copytree(run, target)
    recipe = yaml.safe_load((target / "recipe.yaml").read_text())
    recipe["data"]["licence"] = None
    (target / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return target
