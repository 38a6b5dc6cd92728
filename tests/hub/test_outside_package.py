"""A method and a quantizer of another distribution: trained, compared, published, loaded, and gone with it.

The package lies in `tests/outside` and is known by entry points alone; no file of cost_hf names it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.trains]  # CI runs it by `make test-published`
TINY = {
    "data.synthetic_users": 80,
    "data.synthetic_items": 96,
    "vectors.dim": 16,
    "training.epochs": 2,
    "evaluation.num_beams": 10,
    "evaluation.cutoffs": [5, 10],
    "evaluation.bootstrap_draws": 50,
    "evaluation.baselines": ["popularity", "made_up_mean"],
}
TRAIN = """
import json, sys
import cost_hf
tiny = json.loads(sys.argv[1])
dense = cost_hf.train(overrides=tiny | {"method": "made_up_mean", "model.hidden_size": 8}, output_dir="dense")
codes = {"codes.kind": "made_up_hash", "codes.level_sizes": [2] * 5, "generator.size": "tiny"}
sids = cost_hf.train(overrides=tiny | codes, output_dir="sids")
history = list(sids.recommender.catalog.item_ids[:2])
answers = [run.recommender.recommend(history, top_k=5) for run in (dense, sids)]
print(json.dumps([answers, dense.results["methods"], sids.recommender.catalog.level_sizes]))
"""
COMPARE = """
import json, sys
from cost_hf.experiments.check.check import check
import cost_hf
tiny = json.loads(sys.argv[1])
small = {name: value for name, value in tiny.items() if name != "evaluation.baselines"}
found = cost_hf.compare(
    "cost_quickstart",
    ["made_up_mean", "made_up_hash"],
    overrides=small | {"evaluation.baselines": ["popularity"], "codes.level_sizes": [2] * 5, "generator.size": "tiny"},
    seeds=[0],
    output_dir="comparison",
)
rows = {name: [row["family"], row["status"]] for name, row in found.report["rows"].items()}
print(json.dumps(rows))
"""
PUBLISH = """
import json, sys
from pathlib import Path
from cost_hf import Recommender
from tests.hub.publishing import publish
from unittest import mock
from tests.hub.loopback_hub import TOKEN
endpoint, history = sys.argv[1], json.loads(sys.argv[2])
publish(endpoint, Path("dense"), what=["recommender"])
with mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", False):
    loaded = Recommender.from_pretrained("org/toy-recommender", token=TOKEN)
print(json.dumps([loaded.kind, loaded.recommend(history, top_k=5)]))
"""
GONE = """
import json, sys
from cost_hf import Recommender
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.base import methods, variants
for use in (
    lambda: Recipe.load("cost_quickstart", {"method": "made_up_mean"}),
    lambda: Recipe.load("cost_quickstart", {"codes.kind": "made_up_hash"}),
    lambda: Recommender.from_pretrained("dense"),
):
    try:
        use()
    except ValueError as error:
        print(error)
print(json.dumps([name for name in [*methods(), *variants()] if "made_up" in name]))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Install the package as pip would: its modules and its entry points in a directory of the path."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "tests" / "outside" / "made_up_package", site / "made_up_package")
    metadata = site / "made_up_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[cost_hf.methods]\nmean = made_up_package.method\n[cost_hf.quantizers]\nhash = made_up_package.quantizer\n"
    )
    return site


def test_a_method_and_a_quantizer_from_outside_are_used_like_ours_and_gone_with_their_package(hub, installed, tmp_path):
    def run(code: str, *arguments: str, site: Path | None = installed) -> list[str]:
        path = ":".join(str(part) for part in (ROOT, site) if part is not None)
        environment = hub.environment(HF_HOME=str(tmp_path / "home"), PYTHONPATH=path, OMP_NUM_THREADS="1")
        environment["HF_HUB_OFFLINE"] = "1"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.splitlines()

    answers, described, level_sizes = json.loads(run(TRAIN, json.dumps(TINY))[-1])
    assert all(len(own) == 5 for own in answers)
    assert described["recommender"] == described["made_up_mean"]
    assert described["recommender"] == {
        "method": "made_up_mean",
        "family": "dense",
        "summary": "mean of item embeddings",
    }
    assert level_sizes[:5] == [2] * 5

    rows = json.loads(run(COMPARE, json.dumps(TINY))[-1])
    assert rows["made_up_mean"] == ["dense", "done"] and rows["made_up_hash"] == ["generative", "done"]

    history = [answer[0] for answer in answers[0][:2]]
    kind, published = json.loads(run(PUBLISH, hub.endpoint, json.dumps(history))[-1])
    assert kind == "made_up_mean" and len(published) == 5

    *refused, left = run(GONE, site=None)
    assert "method must be one of" in refused[0] and "'made_up_mean'" in refused[0]
    assert "codes.kind must be one of" in refused[1]
    assert "recommender of kind 'made_up_mean'" in refused[2] and "install the package" in refused[2]
    assert json.loads(left) == []
