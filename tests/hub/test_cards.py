"""Cards: every figure is one of results.json, the best baseline is named, any method has a right card."""

import re

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, SpaceCard

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub import PARTS
from cost_hf.hub.cards import TEMPLATES, eval_result_files, verdict
from cost_hf.reporting import numbers
from tests.hub.made_up import RUNS, made_up_card, made_up_results

LOADERS = {"dataset": DatasetCard, "space": SpaceCard}
CARDS = [(run, part) for run in RUNS for part in PARTS if run == "generative" or part in ("recommender", "space")]


def leaves(tree) -> set:
    if isinstance(tree, dict):
        return set().union(*(leaves(value) for value in tree.values()), set(map(str, tree)))
    if isinstance(tree, list | tuple):
        return set().union(*map(leaves, tree)) if tree else set()
    return {tree}


def written(results: dict) -> set[str]:
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


@pytest.mark.parametrize(("run", "part"), CARDS)
def test_every_figure_of_a_card_is_one_of_the_results(run, part):
    results = made_up_results(run)

    found = {figure.rstrip(",") for figure in figures(made_up_card(part, results, run=run))}

    assert found - written(results) == set()
    assert part == "space" or len(found) > 5


def test_a_number_typed_into_a_template_would_be_found(monkeypatch, tmp_path):
    for template in TEMPLATES.glob("*.jinja"):
        text = template.read_text(encoding="utf-8").replace("## Limits", "## Limits\n\nIt is 47.11 times better.")
        (tmp_path / template.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("cost_hf.hub.cards.TEMPLATES", tmp_path)
    results = made_up_results()

    assert "47.11" in figures(made_up_card("recommender", results)) - written(results)


@pytest.mark.parametrize(("run", "part"), CARDS)
def test_the_metadata_is_read_by_the_hub_library_and_the_text_is_complete(run, part):
    text = made_up_card(part, made_up_results(run), run=run)

    loaded = LOADERS.get(part, ModelCard)(text, ignore_metadata_errors=False)
    assert loaded.data.license == "apache-2.0"
    assert "{{" not in text and "{%" not in text and "None" not in loaded.text and "<built-in" not in text
    assert text == made_up_card(part, made_up_results(run), run=run)


def test_a_card_describes_a_method_that_it_does_not_know():
    text = made_up_card("recommender", made_up_results("dense"), run="dense")

    loaded = ModelCard(text)
    assert "A dense recommender, method `walker`: random walks, arXiv 9999.00001." in loaded.text
    assert "semantic" not in text.lower() and "generat" not in text and "LoRA" not in text
    assert "from transformers import AutoModel\n" in loaded.text and "It needs `walk-lib` besides cost_hf." in text
    assert "new ones need another training" in loaded.text
    assert loaded.data.tags == ["recommendation", "cost_hf"] and loaded.data.library_name == "transformers"


def test_a_card_of_counts_names_no_weights_and_no_architecture():
    text = made_up_card("recommender", made_up_results("counting"), run="counting", new_item_inputs=("vectors",))

    loaded = ModelCard(text)
    assert "A counting recommender, method `sums`" in loaded.text
    assert "trained weights" not in text and "transformers import" not in text
    assert "add_items(ids, vectors=...)" in text and loaded.data.library_name == "cost_hf"
    assert "lsa" not in loaded.text  # no vectors were used


def test_a_card_of_a_generator_shows_codes_and_how_to_generate_without_the_package():
    text = made_up_card("recommender", made_up_results())

    loaded = ModelCard(text)
    assert "Codes of kind `cost`, levels of 32, 32, 16 codes." in loaded.text
    assert "model.generate(histories=" in loaded.text and "120,448 trained weights (llama)" in loaded.text
    assert set(loaded.data.tags) >= {"semantic-ids", "generative-recommendation"}


def test_a_card_of_a_quantizer_shows_a_pipeline_where_one_is_published():
    results = made_up_results("generative")

    assert 'to_codes = pipeline("semantic-id"' in made_up_card("quantizer", results)
    assert "pipeline" not in made_up_card("quantizer", results, has_pipeline=False)


def test_a_card_of_an_adapter_names_its_base():
    results = made_up_results()
    results["recipe"]["generator"]["backbone"] = "org/base"
    results["recipe"]["adapter"]["r"] = 8

    loaded = ModelCard(made_up_card("recommender", results, base_model="org/base", generates_items=False))

    assert loaded.data.base_model == "org/base" and loaded.data.to_dict()["base_model_relation"] == "adapter"
    assert "org/base, LoRA of rank 8" in loaded.text and "its base model, `org/base`" in loaded.text


def test_without_results_a_recommender_has_a_card_without_figures():
    text = made_up_card("recommender", None)

    loaded = ModelCard(text, ignore_metadata_errors=False)
    assert "No evaluation results are published with this copy" in loaded.text
    assert figures(text) == {"12,101", "120,448"}  # its size
    assert loaded.data.eval_results is None and loaded.data.license == "other"
    assert "None" not in loaded.text and "{{" not in loaded.text


@pytest.mark.parametrize("part", ["quantizer", "dataset", "space"])
def test_without_results_other_parts_have_no_card(part):
    with pytest.raises(ValueError, match="no results, no card"):
        made_up_card(part, None)


def test_the_model_index_holds_the_values_of_both_settings():
    results = made_up_results()

    loaded = ModelCard(made_up_card("recommender", results))

    rows = results["rows"][MAIN_ROW]["item"]
    values = [rows[seen][metric]["value"] for seen in rows for metric in ("recall@10", "ndcg@10")]
    assert [result.metric_value for result in loaded.data.eval_results] == values


def test_evaluation_files_name_the_data_set_and_hold_every_metric():
    results = made_up_results()
    cells = results["rows"][MAIN_ROW]["item"]["seen_allowed"]
    cells["ndcg@5"] = {"value": None, "low": None, "high": None}

    files = eval_result_files(results, dataset_id="org/x-items")

    assert set(files) == {".eval_results/seen_allowed.yaml", ".eval_results/seen_excluded.yaml"}
    entries = yaml.safe_load(files[".eval_results/seen_allowed.yaml"])
    assert {entry["dataset"]["task_id"]: entry["value"] for entry in entries} == {
        metric: cell["value"] for metric, cell in cells.items() if cell["value"] is not None
    }
    assert eval_result_files(results, dataset_id=None) == {}


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ((-0.03, -0.01), "**`markov_text` is better than this system on these data**"),
        ((-0.01, 0.01), "They are not significantly different"),
        ((0.01, 0.03), "This system is better than it on these data"),
    ],
)
def test_the_best_baseline_is_named_and_the_interval_decides(bounds, sentence):
    low, high = bounds
    results = made_up_results()
    cell = results["differences"][f"{MAIN_ROW}-markov_text"]["item"]["seen_allowed"]["ndcg@10"]
    cell |= {"value": (low + high) / 2, "low": low, "high": high}

    assert sentence in verdict(results)


def test_toy_data_are_called_so_and_an_oracle_is_no_baseline():
    text = made_up_card("recommender", made_up_results(is_toy=True))

    assert "**toy data**" in text and "`oracle`" not in verdict(made_up_results())
    assert "toy data" not in made_up_card("recommender", made_up_results())


def test_what_is_not_published_is_not_promised():
    held = {"has_encoder": False, "new_item_inputs": ("vectors", "codes")}
    text = made_up_card("recommender", made_up_results(licence=None), **held)

    assert "not in this copy" in text and "no text or other column of an item" in text and ", text encoder" not in text


def test_no_local_path_is_in_a_card():
    results = made_up_results()
    results["recipe"]["vectors"]["model"] = "/home/somebody/models/encoder"
    results["recipe"]["generator"]["backbone"] = "/home/somebody/my-t5"

    text = made_up_card("recommender", results)

    assert "somebody" not in text and "`my-t5`" in text and "base_model" not in text


@pytest.mark.parametrize("broken", ["rows", "main", "values"])
def test_no_results_no_card(broken):
    results = made_up_results()
    if broken == "rows":
        del results["rows"]
    elif broken == "main":
        del results["rows"][MAIN_ROW]
    else:
        for setting in results["rows"][MAIN_ROW]["item"].values():
            for cell in setting.values():
                cell["value"] = None

    with pytest.raises(ValueError, match="no results, no card"):
        made_up_card("recommender", results)
    with pytest.raises(ValueError, match="no results, no card"):
        eval_result_files(results, dataset_id="org/x")


EVIL = "MIT`\n---\n# Owned <script>alert(1)</script> {{ 7 * 7 }} \x1b[31m | [x](http://evil)"


@pytest.mark.parametrize(("run", "part"), CARDS)
def test_texts_of_a_recipe_are_escaped_and_end_no_front_matter(run, part):
    results = made_up_results(run)
    results["recipe"]["data"]["licence"] = EVIL
    results["recipe"]["vectors"]["model"] = EVIL
    results["methods"][MAIN_ROW]["summary"] = EVIL

    text = made_up_card(part, results, run=run)

    found = LOADERS.get(part, ModelCard)(text, ignore_metadata_errors=False)
    assert found.data.license == "other" and "\n" not in found.data.license_name
    assert text.startswith("---\n") and text.count("\n---\n") == 1
    assert "\n# Owned" not in text and "\x1b" not in text and "49" not in found.data.license_name
    markup = re.sub(r"`[^`\n]*`|\\.", "", found.text)  # without code and escaped characters
    assert "<script>" not in markup and "](http://evil" not in markup


def test_a_licence_that_the_hub_knows_is_named_as_it_is():
    assert ModelCard(made_up_card("recommender", made_up_results())).data.license == "apache-2.0"


def test_a_hybrid_names_its_parts_what_was_selected_before_and_what_it_needs():
    text = made_up_card("recommender", made_up_results("hybrid"), run="hybrid")

    assert "It combines the lists of `counts`, `dense`, which are stored whole inside it." in text
    assert "Candidates are the items that a part lists; score: sum of trees." in text
    assert "which had also chosen the epoch of `dense`." in text and "The whole catalog is scored" not in text
    assert "The lists of `dense` hold items of the training alone, the others new ones too." in text
    assert "It needs `trees>=2` besides cost_hf." in text and "explain=True" in text
