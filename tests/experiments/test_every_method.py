"""Every method and every kind of codes, those of other packages too, runs on the toy catalog by one flag."""

import logging
from pathlib import Path
from typing import Any

import pytest

import cost_hf
from cost_hf.cli import main
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import read_json
from cost_hf.methods.base import FAMILIES, methods
from cost_hf.quantizers.base import CodesOptions
from tests.generators.backbone_toys import causal_backbone
from tests.runs import command_line, stages_of, tiny_fields

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("vector_cache")]
CodesOptions.load_kinds()
EPOCHS = {"training.epochs": 2, "codes.epochs": 4}
# of a method or kind: what the toy catalog calls its categories, and sizes of what it trains inside
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "acerec": {"codes.level_sizes": [8, 8, 8, 8]},
    "category": {"codes.category_column": "topic", "codes.level_sizes": [16, 4]},
    "fusion": {
        "fusion.parts": ["cost", "sasrec_text", "text_last"],
        "fusion.overrides": {
            "cost.codes.level_sizes": [8, 8, 8],
            "cost.codes.epochs": 4,
            "cost.training.epochs": 2,
            "sasrec_text.training.epochs": 2,
        },
    },
    "gaoq": {"codes.level_sizes": []},
    "ranker": {
        "ranker.overrides": {"sasrec_ce.training.epochs": 2, "sasrec_text.training.epochs": 2},
        "ranker.columns": ["topic"],
    },
    "ttdsr": {"users.level_sizes": [8, 8], "index.refresh_steps": 16, "index.tower_epochs": 1},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """A tiny language model, for methods and kinds of codes that have one by default."""
    return causal_backbone(tmp_path_factory.mktemp("backbone") / "base")


def fields_of(backbone: Path, **flag: str) -> dict[str, Any]:
    """Return the fields of the quickstart with one flag more, in a tiny size."""
    (name,) = flag.values()
    fields = tiny_fields(**flag) | OWN_FIELDS.get(name, {})
    recipe = Recipe.load("cost_quickstart", fields)
    fields |= {dotted: value for dotted, value in EPOCHS.items() if recipe.has_field(dotted)}
    sections = recipe.options.sections()
    fields |= {f"{name}.backbone": str(backbone) for name in sections if getattr(sections[name], "backbone", None)}
    return fields | {"evaluation.baselines": ["popularity"], "evaluation.bootstrap_draws": 20}


def run_with(directory: Path, caplog: pytest.LogCaptureFixture, backbone: Path, **flag: str) -> cost_hf.Run:
    """Run the quickstart with one flag more, in a tiny size, by the command line; read the finished run."""
    fields = fields_of(backbone, **flag)
    assert main(["train", *command_line(directory, fields=fields)]) == 0
    caplog.set_level(logging.INFO, logger="cost_hf")
    caplog.clear()
    run = cost_hf.train(recipe="cost_quickstart", overrides=fields, output_dir=directory)
    assert stages_of(caplog.messages) == []
    return run


def assert_recommends_and_comes_back(run: cost_hf.Run, folder: Path) -> None:
    """The recommender of a run answers, as does a copy of it that was saved and loaded."""
    users, histories = zip(*run.examples, strict=True)
    asked: dict[str, Any] = {"top_k": 5, "user_ids": list(users)}
    answers = run.recommender.recommend(list(histories), **asked)
    for history, answer in zip(histories, answers, strict=True):
        assert len({found.item_id for found in answer} - set(history)) == 5

    run.recommender.save_pretrained(folder)
    for loaded in (cost_hf.Recommender.from_pretrained(folder), cost_hf.Recommender.from_pretrained(run.output_dir)):
        assert type(loaded) is type(run.recommender)
        assert loaded.recommend(list(histories), **asked) == answers


@pytest.mark.parametrize("name", methods())
def test_every_method_runs_by_one_flag(name, tmp_path, caplog, backbone):
    run = run_with(tmp_path / "run", caplog, backbone, method=name)

    assert_recommends_and_comes_back(run, tmp_path / "copy")
    results = read_json(run.output_dir / "evaluation" / "results.json")
    assert results["recipe"]["method"] == results["methods"]["recommender"]["method"] == name
    assert results["methods"]["recommender"]["family"] in FAMILIES
    assert set(results["methods"]) == set(results["rows"]) == {"recommender", "popularity", "oracle"}
    assert results["rows"]["recommender"]["item"]["seen_excluded"]["ndcg@10"]["value"] >= 0
    assert {"score", "cases"} <= set(results["protocol"])


@pytest.mark.parametrize("kind", CodesOptions.kinds)
def test_every_kind_of_codes_runs_by_one_flag(kind, tmp_path, caplog, backbone):
    run = run_with(tmp_path / "run", caplog, backbone, codes__kind=kind)

    assert_recommends_and_comes_back(run, tmp_path / "copy")
    assert run.results["recipe"]["codes"]["kind"] == kind
    assert run.results["semantic_ids"]["levels"]
