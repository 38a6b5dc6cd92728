"""Model cards from `results.json`: nothing is said of a system's quality that no results file holds.

The templates lie in `model_cards/`. They write words; every figure comes through this module and the one formatter of
the reports. Without results there is no card.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    DatasetCardData,
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    SpaceCardData,
    eval_result_entries_to_yaml,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub.places import is_place, shown
from cost_hf.reporting import numbers, words
from cost_hf.reporting.markdown import escape

TEMPLATES = Path(__file__).parents[1] / "model_cards"
KINDS = ("quantizer", "recommender", "sasrec", "dataset", "space")
METRICS = ("recall@10", "ndcg@10")
DECIDES = "ndcg@10"
NOT_RIVALS = ("oracle",)
GRADIO = "6.31.0"
HUB_LICENCE = re.compile(r"[a-z][a-z0-9.+-]{0,40}")
MAX_LICENCE = 100


def render_card(
    kind: str,
    *,
    results: Mapping[str, Any],
    repo_id: str,
    related: Mapping[str, str],
    has_texts: bool,
    has_encoder: bool,
    is_adapter: bool = False,
) -> str:
    """Return the README of a repository: metadata and text.

    Args:
        kind: `quantizer`, `recommender`, `sasrec`, `dataset` or `space`.
        results: content of results.json.
        repo_id: of this repository.
        related: repository ids by kind, of what is published beside it.
        has_texts: whether titles and texts of items are published.
        has_encoder: whether the text encoder travels along.
        is_adapter: whether a LoRA adapter stands in place of whole weights.

    Raises:
        ValueError: where the results are missing or hold no judged system; then there is no card.
    """
    _check(results)
    facts = card_facts(results) | {"repo_id": repo_id, "related": dict(related), "kind": kind}
    facts |= {"has_texts": has_texts, "has_encoder": has_encoder, "is_adapter": is_adapter}
    template = {"sasrec": "recommender"}.get(kind, kind)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": code, "plain": escape}
    text = environment.get_template(f"{template}.md.jinja").render(facts)
    metadata = _metadata(kind, results, repo_id, related, is_adapter=is_adapter)
    return f"---\n{metadata.to_yaml()}\n---\n\n{text.strip()}\n"


def code(value: object) -> str:
    """Return a value of the recipe as inline code: one line that can't end its own backticks."""
    line = re.sub(r"\s+", " ", one_line(str(value))).replace("`", "'")
    return f"`{line or ' '}`"


def one_line(text: str) -> str:
    """Return a text without line breaks and other characters that are not to be seen."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def eval_result_files(results: Mapping[str, Any], *, dataset_id: str | None) -> dict[str, str]:
    """Return `.eval_results/` as path to YAML, one file a setting; none without a data set on the Hub to name."""
    _check(results)
    if dataset_id is None:
        return {}
    files = {}
    for seen in ("seen_allowed", "seen_excluded"):
        cells = results["rows"][MAIN_ROW]["item"][seen]
        judged = {metric: cell for metric, cell in cells.items() if cell["value"] is not None}
        entries = [
            EvalResultEntry(
                dataset_id=dataset_id,
                task_id=metric,
                value=cell["value"],
                notes=f"{words.SEEN[seen].lower()}; {results['protocol']['split']}, hits on items"
                + (f"; 95 % interval {cell['low']:.4f} to {cell['high']:.4f}" if cell["low"] is not None else ""),
            )
            for metric, cell in judged.items()
        ]
        files[f".eval_results/{seen}.yaml"] = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return files


def card_facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what templates may say of a run; all figures are written already."""
    recipe, protocol = results["recipe"], results["protocol"]
    encoder, backbone = recipe["vectors"]["model"], recipe["generator"]["backbone"]
    codes = results.get("semantic_ids") or {}
    shares = protocol.get("shares") or {}
    return {
        "name": recipe["name"],
        "method": recipe["method"],
        "is_toy": recipe["data"]["reader"] == "synthetic",
        "licence": recipe["data"]["licence"],
        "seed": results["seed"],
        "split": protocol["split"].replace("_", "-"),
        "note": protocol["note"],
        "ties": protocol["ties"],
        "constraint": protocol.get("constraint"),
        "num_beams": protocol.get("num_beams"),
        "max_history": protocol.get("max_history"),
        "unit_of_a_hit": protocol["unit_of_a_hit"],
        "cases": numbers.amount(protocol["cases"]),
        "counts": {name: numbers.amount(protocol["counts"][name]) for name in words.COUNTS},
        "shares": {label: numbers.percent(shares[name]) for name, label in words.SHARES.items() if name in shares},
        "codes": _codes(codes),
        "encoder": shown(encoder),
        "code_kind": recipe["codes"]["kind"],
        "level_sizes": recipe["codes"]["level_sizes"],
        "backbone": backbone and shown(backbone),
        "generator": _generator(recipe),
        "tables": {words.SEEN[seen]: markdown_table(results, seen=seen) for seen in words.SEEN},
        "verdict": verdict(results),
        "data_digest": results["data_digest"],
        "split_digest": results["split_digest"],
        "stages": {
            name: f"{numbers.duration(cost['seconds'])}, {numbers.memory(cost['peak_mb'])}"
            for name, cost in results["stages"].items()
        },
        "parameters": numbers.amount(results["parameters"][MAIN_ROW]),
        "device": results["device"],
        "versions": results["versions"],
    }


def markdown_table(results: Mapping[str, Any], *, seen: str = "seen_allowed") -> str:
    """Return `score_rows` as a Markdown table, the trained system in bold."""
    header, *lines = score_rows(results, seen=seen)
    bold = [[f"**{line[0]}**" if line[0] == MAIN_ROW else line[0], *line[1:]] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *bold])


def score_rows(results: Mapping[str, Any], *, seen: str) -> list[list[str]]:
    """Return all rows of a run as cells, the header first, best first, with the paired difference to the system."""
    cells = {name: row["item"][seen] for name, row in results["rows"].items() if seen in row["item"]}
    order = sorted(cells, key=lambda name: -(cells[name][METRICS[0]]["value"] or 0.0))
    first = words.metric_name(METRICS[0])
    lines = [["", *(f"{words.metric_name(metric)} [95 %]" for metric in METRICS), f"{MAIN_ROW} minus row, {first}"]]
    for name in order:
        pair = results["differences"].get(f"{MAIN_ROW}-{name}")
        difference = "" if pair is None else numbers.interval(pair["item"][seen][METRICS[0]], signed=True)
        lines.append([name, *(numbers.interval(cells[name][metric]) for metric in METRICS), difference])
    return lines


def verdict(results: Mapping[str, Any], *, seen: str = "seen_allowed") -> str:
    """Say in one sentence how the trained system stands to the best of its baselines."""
    rows = {name: row["item"][seen][DECIDES] for name, row in results["rows"].items()}
    rivals = {name: cell for name, cell in rows.items() if name not in (MAIN_ROW, *NOT_RIVALS) and cell["value"]}
    metric = words.metric_name(DECIDES)
    own = numbers.interval(rows[MAIN_ROW])
    if not rivals:
        return f"{metric} {own}; no baseline was judged beside it, so this says nothing about whether to use it."
    best = max(rivals, key=lambda name: rivals[name]["value"])
    difference = results["differences"][f"{MAIN_ROW}-{best}"]["item"][seen][DECIDES]
    shown = numbers.interval(difference, signed=True)
    beside = f"{metric} {own}; the best baseline judged beside it, `{best}`, has {numbers.interval(rivals[best])}."
    if difference["high"] < 0:
        return f"{beside} **`{best}` is better than this system on these data** (difference {shown})."
    if difference["low"] > 0:
        return f"{beside} This system is better than it on these data (difference {shown})."
    return f"{beside} No difference could be shown ({shown})."


def _check(results: Mapping[str, Any]) -> None:
    cells = ((results.get("rows") or {}).get(MAIN_ROW) or {}).get("item") or {}
    values = [cell.get("value") for setting in cells.values() for cell in setting.values()]
    if not any(value is not None and value == value for value in values):
        raise ValueError(
            f"no results, no card: expected results.json with a judged row {MAIN_ROW!r}, got rows "
            f"{list(results.get('rows') or {})!r}; run the evaluation first"
        )


def _generator(recipe: Mapping[str, Any]) -> str:
    generator, rank = recipe["generator"], recipe.get("adapter", {}).get("r")  # older results have no such section
    if generator["backbone"] is None:
        return f"{generator['kind']}, size {generator['size']}"
    return f"{shown(generator['backbone'])}, {'all weights trained' if rank is None else f'LoRA of rank {rank}'}"


def _codes(codes: Mapping[str, Any]) -> dict[str, Any] | None:
    if not codes:
        return None
    levels = [
        f"{numbers.percent(level['use'])} of {level['num_codes']} codes in use, perplexity "
        f"{numbers.amount(level['perplexity'])}"
        for level in codes["levels"]
    ]
    return {
        "levels": levels,
        "collided": numbers.percent(codes["collided_share"]),
        "largest_group": codes["largest_group"],
    }


def _metadata(
    kind: str, results: Mapping[str, Any], repo_id: str, related: Mapping[str, str], *, is_adapter: bool
) -> Any:
    recipe = results["recipe"]
    licence = _licence(recipe["data"]["licence"])
    tags = ["recommendation", "generative-recommendation", "semantic-ids", "cost_hf"]
    if kind == "space":
        return SpaceCardData(
            title=repo_id.partition("/")[2],
            sdk="gradio",
            sdk_version=GRADIO,
            app_file="app.py",
            models=[related["recommender"]],
            **licence,
            short_description="Recommendation with semantic IDs: see what and why",
            tags=tags,
        )
    if kind == "dataset":
        return DatasetCardData(
            **licence,
            tags=tags,
            configs=[{"config_name": "items", "data_files": "items.parquet", "default": True}],
        )
    base = recipe["generator"]["backbone"] if kind == "recommender" else None
    return ModelCardData(
        **licence,
        library_name="transformers",
        tags=tags if kind != "quantizer" else [*tags, "quantizer"],
        datasets=[related["dataset"]] if "dataset" in related else None,
        base_model=base if base and not is_place(base) else None,
        base_model_relation="adapter" if is_adapter else None,
        model_name=repo_id.partition("/")[2],
        eval_results=_model_index(results, related) if kind != "quantizer" else None,
    )


def _licence(name: str | None) -> dict[str, Any]:
    """Return the entries of a licence: the Hub knows short names, any other stands as `other` with its name."""
    if name is None:
        return {"license": "other"}
    if HUB_LICENCE.fullmatch(name.lower()):
        return {"license": name.lower()}
    return {"license": "other", "license_name": one_line(name)[:MAX_LICENCE]}


def _model_index(results: Mapping[str, Any], related: Mapping[str, str]) -> list[EvalResult]:
    name = results["recipe"]["name"]
    return [
        EvalResult(
            task_type="recommendation",
            dataset_type=related.get("dataset", name),
            dataset_name=f"{name}, {results['protocol']['split'].replace('_', '-')}, {words.SEEN[seen].lower()}",
            metric_type=metric,
            metric_name=words.metric_name(metric),
            metric_value=cell["value"],
        )
        for seen in words.SEEN
        for metric in METRICS
        if (cell := results["rows"][MAIN_ROW]["item"][seen][metric])["value"] is not None
    ]
