"""Cards: every figure is one of results.json, the best baseline is named, and without results there is no card."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.files import read_json
from cost_hf.hub.cards import KINDS, TEMPLATES, eval_result_files, render_card, verdict
from cost_hf.reporting import numbers

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RUNS = {
    name: read_json(RESULTS / name / "results.json") for name in ("cost_quickstart", "cost_industrial", "sasrec_beauty")
}
RELATED = {"quantizer": "org/x", "recommender": "org/x-recommender", "dataset": "org/x-items", "space": "org/x-demo"}
LOADERS = {"dataset": DatasetCard, "space": SpaceCard}


def card(kind: str, results: dict, *, has_texts: bool = True, has_encoder: bool = True) -> str:
    name = RELATED.get(kind, RELATED["recommender"])
    return render_card(
        kind, results=results, repo_id=name, related=RELATED, has_texts=has_texts, has_encoder=has_encoder
    )


def kinds_of(run: str) -> list[str]:
    return ["sasrec", "space"] if run.startswith("sasrec") else [kind for kind in KINDS if kind != "sasrec"]


CARDS = [(run, kind) for run in RUNS for kind in kinds_of(run)]


def leaves(tree) -> set:
    if isinstance(tree, dict):
        return set().union(*(leaves(value) for value in tree.values()), set(map(str, tree)))
    if isinstance(tree, list):
        return set().union(*map(leaves, tree)) if tree else set()
    return {tree}


def said(results: dict) -> set[str]:
    """Every way in which a value of the results may be written, as single numbers."""
    texts: set[str] = set()
    for value in leaves(results):
        if isinstance(value, str):
            texts.add(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            ways = (numbers.score(value), numbers.amount(value), numbers.percent(value), numbers.duration(value))
            texts |= {str(value), *ways, numbers.memory(value), numbers.score(-value), numbers.amount(value, digits=1)}
    return {number for text in texts for number in re.findall(r"\d*\.?\d[\d,]*", text)}


def figures(text: str) -> set[str]:
    """The numbers of prose and tables; not those of code, links, digests, levels and metric names."""
    body = text.split("---", 2)[2]
    body = re.sub(r"```.*?```|`[^`]*`|\[[^\]]*\]\([^)]*\)", "", body, flags=re.DOTALL)
    body = re.sub(r"@\d+|95 %|^- level \d+|\b(MRR|T5)\b|arXiv [\d.]+|Apache-2\.0", "", body, flags=re.MULTILINE)
    return set(re.findall(r"(?<![\w.])\d*\.?\d[\d,]*(?![\w])", body))


@pytest.mark.parametrize(("run", "kind"), CARDS)
def test_every_figure_of_a_card_is_one_of_the_results(run, kind):
    found = {figure.rstrip(",") for figure in figures(card(kind, RUNS[run]))}

    assert found - said(RUNS[run]) == set()
    assert kind == "space" or len(found) > 5


def test_a_number_typed_into_a_template_would_be_found(monkeypatch, tmp_path):
    for template in TEMPLATES.glob("*.jinja"):
        text = template.read_text(encoding="utf-8").replace("## Limits", "## Limits\n\nIt is 47.11 times better.")
        (tmp_path / template.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("cost_hf.hub.cards.TEMPLATES", tmp_path)

    assert "47.11" in figures(card("recommender", RUNS["cost_quickstart"])) - said(RUNS["cost_quickstart"])


@pytest.mark.parametrize(("run", "kind"), CARDS)
def test_the_metadata_is_read_by_the_hub_library_and_the_text_is_complete(run, kind):
    text = card(kind, RUNS[run])

    loaded = LOADERS.get(kind, ModelCard)(text)
    assert loaded.data.license == (RUNS[run]["recipe"]["data"]["licence"] or "other").lower()
    assert "{{" not in text and "{%" not in text and "None" not in loaded.text and "<built-in" not in text
    assert text == card(kind, RUNS[run])


def test_the_model_index_holds_the_values_of_both_settings():
    loaded = ModelCard(card("recommender", RUNS["cost_industrial"]))

    rows = RUNS["cost_industrial"]["rows"][MAIN_ROW]["item"]
    values = [rows[seen][metric]["value"] for seen in rows for metric in ("recall@10", "ndcg@10")]
    assert [result.metric_value for result in loaded.data.eval_results] == values


def test_evaluation_files_name_the_data_set_and_hold_every_judged_metric():
    files = eval_result_files(RUNS["cost_quickstart"], dataset_id="org/x-items")

    assert set(files) == {".eval_results/seen_allowed.yaml", ".eval_results/seen_excluded.yaml"}
    entries = yaml.safe_load(files[".eval_results/seen_allowed.yaml"])
    cells = RUNS["cost_quickstart"]["rows"][MAIN_ROW]["item"]["seen_allowed"]
    assert {entry["dataset"]["task_id"]: entry["value"] for entry in entries} == {
        metric: cell["value"] for metric, cell in cells.items() if cell["value"] is not None
    }
    assert eval_result_files(RUNS["cost_quickstart"], dataset_id=None) == {}


def changed(low: float, high: float) -> dict:
    results = copy.deepcopy(RUNS["cost_industrial"])
    cell = results["differences"][f"{MAIN_ROW}-markov_text"]["item"]["seen_allowed"]["ndcg@10"]
    cell |= {"value": (low + high) / 2, "low": low, "high": high}
    return results


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ((-0.03, -0.01), "**`markov_text` is better than this system on these data**"),
        ((-0.01, 0.01), "No difference could be shown"),
        ((0.01, 0.03), "This system is better than it on these data"),
    ],
)
def test_the_best_baseline_is_named_and_the_interval_decides(bounds, sentence):
    assert sentence in verdict(changed(*bounds))


def test_toy_data_are_called_so_and_an_oracle_is_no_rival():
    text = card("recommender", RUNS["cost_quickstart"])

    assert "**toy data**" in text and "`oracle`" not in verdict(RUNS["cost_quickstart"])
    assert "toy data" not in card("recommender", RUNS["cost_industrial"])


def test_what_does_not_travel_is_not_promised():
    text = card("recommender", RUNS["cost_industrial"], has_texts=False, has_encoder=False)

    assert "not in this copy" in text and "no text of an item" in text and "\nencoder and the digests" not in text


def test_no_path_of_this_machine_stands_in_a_card():
    results = copy.deepcopy(RUNS["cost_industrial"])
    results["recipe"]["vectors"]["model"] = "/home/somebody/models/encoder"

    assert "somebody" not in card("recommender", results)


@pytest.mark.parametrize("broken", ["rows", "main", "values"])
def test_no_results_no_card(broken):
    results = copy.deepcopy(RUNS["cost_quickstart"])
    if broken == "rows":
        del results["rows"]
    elif broken == "main":
        del results["rows"][MAIN_ROW]
    else:
        for setting in results["rows"][MAIN_ROW]["item"].values():
            for cell in setting.values():
                cell["value"] = None

    with pytest.raises(ValueError, match="no results, no card"):
        card("recommender", results)
    with pytest.raises(ValueError, match="no results, no card"):
        eval_result_files(results, dataset_id="org/x")


EVIL = "MIT`\n---\n# Owned <script>alert(1)</script> {{ 7 * 7 }} \x1b[31m | [x](http://evil)"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_a_recipe_are_one_piece_of_code_and_end_no_front_matter(kind):
    results = copy.deepcopy(RUNS["sasrec_beauty" if kind == "sasrec" else "cost_quickstart"])
    results["recipe"]["data"]["licence"] = EVIL
    results["recipe"]["vectors"]["model"] = EVIL

    text = card(kind, results)

    found = LOADERS.get(kind, ModelCard)(text, ignore_metadata_errors=False)
    assert found.data.license == "other" and "\n" not in found.data.license_name
    assert text.startswith("---\n") and text.count("\n---\n") == 1
    assert "\n# Owned" not in text and "\x1b" not in text and "49" not in found.data.license_name
    outside_code = re.sub(r"`[^`\n]*`", "", found.text)
    assert "<script>" not in outside_code and "evil" not in outside_code


def test_a_licence_that_the_hub_knows_by_name_stands_as_it_is():
    assert ModelCard(card("recommender", RUNS["cost_quickstart"])).data.license == "apache-2.0"
