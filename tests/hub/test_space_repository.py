"""A published Space holds all that it runs on: the app builds where this package is not installed."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, SpaceCard

from cost_hf.hub.upload import upload
from tests.hub.loopback_hub import TOKEN

BUILD = """
import importlib.util, json, sys
assert importlib.util.find_spec("cost_hf") is None
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cost_hf import Recommender
from cost_hf.hub.space.app import build_demo
name = json.loads((Path(sys.argv[1]) / "demo.json").read_text())["recommender"]
demo = build_demo(Recommender.from_pretrained(name))
print([function.api_name for function in demo.fns.values() if function.api_visibility == "public"])
"""


@pytest.fixture
def space(hub, finished_run, monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    upload(finished_run, namespace="org", name="toy", what=["recommender", "space"], api=api, report=lambda line: None)
    for path, content in hub.repositories["spaces/org/toy-demo"].commits[-1][1].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


@pytest.mark.slow  # CI runs it by `make test-published`
def test_the_app_of_a_space_builds_from_its_own_files(hub, space, second_environment):
    names = second_environment.run(BUILD, space, **hub.environment())

    assert names.strip() == "['recommend', 'encode']"


def test_a_space_names_its_recommender_and_what_it_needs(space):
    card = SpaceCard.load(space / "README.md")

    assert card.data.sdk == "gradio" and card.data.app_file == "app.py"
    assert card.data.models == ["org/toy-recommender"]
    lines = (space / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("transformers") for line in lines) and not any("extra" in line for line in lines)


def test_a_space_without_its_recommender_is_refused(finished_run):
    with pytest.raises(ValueError, match="the demo needs its recommender on the Hub"):
        upload(finished_run, namespace="org", what=["space"], dry_run=True)
