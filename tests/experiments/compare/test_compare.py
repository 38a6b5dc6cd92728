"""`cost-hf compare` from the command line to the report, on the toy catalog."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import cost_hf
from cost_hf.cli import main
from cost_hf.experiments.compare import runner, worker
from cost_hf.methods.ranker.options import is_installed
from cost_hf.stages import Stages
from tests.runs import TINY, stages_of

pytestmark = pytest.mark.trains
FEW = {"training.epochs": 1, "codes.epochs": 2}
HYBRIDS = ["fusion", "fusion_generative", *(["ranker", "ranker_generative"] if is_installed() else [])]


def arguments(directory: Path, *options: str) -> list[str]:
    fields = TINY | FEW
    pairs = [part for name, value in fields.items() for part in (f"--{name}", json.dumps(value))]
    own = ["--systems", "sasrec_ce,cost", "--seeds", "0", "--output_dir", str(directory)]
    return ["compare", "cost_quickstart", *own, *pairs, *options]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished comparison. One run has a process of its own, the others share this one, which has all imports."""
    directory = tmp_path_factory.mktemp("compare")
    in_a_process = runner._run

    def run(job, *, shared, timeout):
        if job.system.name == "sasrec_ce":
            return in_a_process(job, shared=shared, timeout=timeout)
        job.directory.mkdir(parents=True)
        path = job.directory / runner.RECIPE
        job.recipe.save(path)
        worker.main(str(path), str(job.generator_seed), str(job.directory), str(shared))
        return {"status": runner.DONE, "message": "", "seconds": 1.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_run", run)
        assert main(arguments(directory)) == 0
    return directory


def test_every_row_stands_in_both_tables_with_an_interval(compared):
    report = json.loads((compared / "compare.json").read_text())

    assert report["complete"]
    families = {name: row["family"] for name, row in report["rows"].items()}
    assert families == {
        "popularity": "counting",
        "markov": "counting",
        "oracle": "oracle",
        "sasrec_ce": "dense",
        "cost": "generative",
        **dict.fromkeys(HYBRIDS, "hybrid"),
    }
    assert (report["rows"]["cost"]["method"], report["rows"]["sasrec_ce"]["method"]) == ("sid_generator", "sasrec")
    for row in report["rows"].values():
        for seen in ("seen_allowed", "seen_excluded"):
            cell = row["metrics"][seen]["ndcg@10"]
            assert cell["low"] <= cell["value"] <= cell["high"]
    assert "sid" in report["rows"]["cost"]
    assert "sid" not in report["rows"]["sasrec_ce"]
    assert report["data"]["is_toy"]
    assert (report["protocol"]["targets"], report["protocol"]["event_weights"]) == ("every click", "1 each")


def test_hybrids_take_the_recommenders_of_the_rows_that_they_combine(compared):
    report = json.loads((compared / "compare.json").read_text())

    assert report["rows"]["fusion"]["parts"] == ["popularity", "markov", "sasrec_ce"]
    assert report["rows"]["fusion_generative"]["parts"] == ["popularity", "markov", "sasrec_ce", "cost"]
    stages = {
        name: json.loads((compared / "runs" / f"{name}-0.0" / "evaluation" / "results.json").read_text())["stages"]
        for name in ("sasrec_ce", "cost", *HYBRIDS)
    }
    for name in HYBRIDS:  # what a stage has cost is known from where it was computed
        assert stages[name]["parts-sasrec_ce"] == stages["sasrec_ce"]["sasrec"]
        if name.endswith("_generative"):
            assert stages[name]["parts-cost-quantizer"] == stages["cost"]["quantizer"]
            assert stages[name]["parts-cost-generator"] == stages["cost"]["generator"]


def test_every_hybrid_is_tested_against_itself_without_the_generator(compared):
    report = json.loads((compared / "compare.json").read_text())
    pairs = {(claim["a"], claim["b"]): claim["purpose"] for claim in report["claims"]}

    for name in HYBRIDS:
        if name.endswith("_generative"):
            assert report["rows"][name]["without_generative"] == name.removesuffix("_generative")
            assert pairs[name, name.removesuffix("_generative")] == "claim"


def test_few_users_are_too_little_data_for_any_advice(compared):
    report = json.loads((compared / "compare.json").read_text())

    assert report["recommendation"]["choice"] == "too_little_data"
    assert report["recommendation"]["command"] is None


def test_where_nothing_is_recommended_nothing_is_trained_and_the_status_says_so(copy, started, capsys):
    target = copy.parent / "winner"

    assert main(arguments(copy, "--train-winner", str(target))) == 1
    assert started == []
    assert not target.exists()
    assert f"nothing is recommended, so {target} was not made" in capsys.readouterr().out


@pytest.mark.parametrize("row", ["markov", HYBRIDS[-1]])
def test_the_recommended_system_is_made_of_what_is_trained_and_a_second_call_computes_nothing(
    copy, started, capsys, monkeypatch, caplog, row
):
    advice = {"choice": "any", "row": row, "headline": f"Use {row}.", "paragraphs": []}
    monkeypatch.setattr("cost_hf.experiments.compare.summary.recommend", lambda report: dict(advice))
    caplog.set_level("INFO", logger="cost_hf")
    (copy / "compare.json").unlink()  # the rows are measured again, and nothing is trained
    target = copy.parent / "the winner"

    assert main(arguments(copy, "--train-winner", str(target))) == 0
    recommendation = json.loads((copy / "compare.json").read_text())["recommendation"]
    text = capsys.readouterr().out
    assert recommendation["command"] in text
    assert f"{row} is ready in {target}:\n  cost-hf demo '{target}'" in text
    assert recommendation["directory"] == (None if row == "markov" else str(copy / "runs" / f"{row}-0.0"))
    assert started == []
    method = row.removesuffix("_generative")
    assert not {"quantizer", "generator", "sasrec", method} & set(stages_of(caplog.messages))
    loaded = cost_hf.Recommender.from_pretrained(target)
    assert loaded.recommend([loaded.catalog.item_ids[0]], top_k=3)
    caplog.clear()
    assert main(arguments(copy, "--train-winner", str(target))) == 0
    assert stages_of(caplog.messages) == []


def test_the_recommended_system_is_not_written_into_the_comparison(copy, capsys):
    assert main(arguments(copy, "--train-winner", str(copy / "winner"))) == 2
    assert "is in the directory of the comparison" in capsys.readouterr().err


def test_a_run_on_other_data_is_not_replaced_by_the_recommended_system_and_no_run_is_begun(tmp_path, started, capsys):
    target = tmp_path / "winner"
    Stages(target).claim("other", overwrite=False)

    assert main(arguments(tmp_path / "comparison", "--train-winner", str(target))) == 2
    assert "winner was made from other data (digest other," in capsys.readouterr().err
    assert started == []


def test_no_claim_is_made_of_the_oracle(compared):
    report = json.loads((compared / "compare.json").read_text())

    assert not [claim for claim in report["claims"] if "oracle" in (claim["a"], claim["b"])]


@pytest.fixture
def copy(compared, tmp_path) -> Path:
    """A copy of the finished comparison that a test may change."""
    return Path(shutil.copytree(compared, tmp_path / "copy"))


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Names of the runs that a comparison starts; none of them does anything, and all fail."""
    names: list[str] = []

    def command(job, shared):
        names.append(job.directory.name)
        return [sys.executable, "-c", "raise SystemExit(1)"]

    monkeypatch.setattr(runner, "worker_command", command)
    return names


def test_a_second_call_runs_nothing_and_says_the_same(copy, started, capsys):
    before = (copy / "compare.json").read_bytes()

    assert main(arguments(copy)) == 0
    assert started == []
    assert (copy / "compare.json").read_bytes() == before
    assert "too little data" in capsys.readouterr().out.lower()


def test_a_report_that_was_deleted_is_written_again(copy, started):
    (copy / "report.html").unlink()

    assert main(arguments(copy)) == 0
    assert started == []
    assert (copy / "report.html").is_file()


def test_metrics_beyond_the_beams_are_null(tmp_path):
    assert main(arguments(tmp_path, "--evaluation.cutoffs", "[5, 10, 20]", "--budget", "0s")) == 0

    row = json.loads((tmp_path / "compare.json").read_text())["rows"]["markov"]["metrics"]["seen_allowed"]
    assert row["recall@20"] == {"value": None, "low": None, "high": None, "per_seed": []}
    assert row["recall@10"]["low"] <= row["recall@10"]["value"] <= row["recall@10"]["high"]


def test_titles_stand_in_the_page_but_not_in_the_numbers(compared):
    examples = json.loads(next((compared / "runs").glob("cost-*/evaluation/examples.json")).read_text())
    title = examples[0]["item"]

    assert title in (compared / "report.html").read_text(encoding="utf-8")
    assert title not in (compared / "compare.json").read_text(encoding="utf-8")


def test_a_new_system_leaves_finished_runs_alone(copy, started):
    before = json.loads((copy / "compare.json").read_text())["rows"]
    options = arguments(copy)
    options[options.index("sasrec_ce,cost")] = "sasrec_ce,cost,random"

    assert main(options) == 0
    assert started == ["random-0.0"]  # a control, which no hybrid combines
    rows = json.loads((copy / "compare.json").read_text())["rows"]
    assert rows["random"]["status"] == "failed"
    for name in ("sasrec_ce", "cost"):
        assert rows[name]["status"] == "done"
        assert rows[name]["metrics"] == before[name]["metrics"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "60"], "argument --budget: expected a time such as 90s, 60min or 2h, got '60'"),
        (["--seeds", "one"], "argument --seeds: expected whole numbers separated by commas, such as 0,1,2, got 'one'"),
        (["--seeds", "0,0"], "argument --seeds: expected different seeds, got '0,0'"),
        (["--seeds", "-1"], "argument --seeds: expected whole numbers separated by commas, such as 0,1,2, got '-1'"),
        (
            ["--generators_per_quantizer", "0"],
            "--generators_per_quantizer: expected a whole number of at least 1, got '0'",
        ),
        (["--evaluation.cutoffs", "[5]"], "evaluation.cutoffs must hold 10 and evaluation.num_beams be at least 10"),
        (["--evaluation.num_beams", "9"], "got [5, 10, 20, 40] and 9"),
        (["--system", "cost"], "did you mean 'systems'"),
    ],
)
def test_a_wrong_option_is_an_error_that_helps(tmp_path, capsys, options, message):
    assert main(["compare", "cost_quickstart", "--output_dir", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_two_data_sources_are_refused(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 2
    assert "a comparison has one data source" in capsys.readouterr().err
