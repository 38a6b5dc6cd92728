"""Model cards from `results.json`: no card states a quality that no results file holds.

The templates in `model_cards/` hold the sentences, one template per part of a run; every figure comes from the results,
written by the one formatter of the reports. A method is described by its own summary, its family and the sections that
its recipe has, so the templates know no method.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

from cost_hf.data.options import ItemVectorOptions
from cost_hf.evaluation.results import MAIN_ROW
from cost_hf.hub import PARTS
from cost_hf.hub.redaction import is_local_path, public_name
from cost_hf.hub.remote_code import pipelines_of
from cost_hf.quantizers.base import reads_texts
from cost_hf.recommenders.base import Recommender
from cost_hf.reporting import numbers, words
from cost_hf.reporting.markdown import escape

TEMPLATES = Path(__file__).parents[1] / "model_cards"
METRICS = ("recall@10", "ndcg@10")
VERDICT_METRIC = "ndcg@10"
REFERENCE_FAMILIES = ("oracle", "calibration")  # rows that are no systems
LSA = "lsa"  # fitted to the texts of a catalog, so it is nobody else's
GRADIO = "6.31.0"
HUB_LICENCE = re.compile(r"[a-z][a-z0-9.+-]{0,40}")
MAX_LICENCE = 100  # characters


@dataclass(frozen=True)
class Contents:
    """What the published copy of a recommender holds.

    Attributes:
        kind: of the recommender.
        num_items: items that can be recommended.
        num_parameters: trained weights.
        model_type: architecture of its network, such as `llama`; None without a network.
        licence: of the data; None where it is not known.
        has_quantizer, has_encoder: whether these are in the copy.
        has_pipeline: whether a pipeline of transformers is published with the quantizer.
        text_reader: language model by which the quantizer reads item texts; None for one that reads vectors.
        new_item_inputs: what `add_items` takes for new items.
        takes_clicks: whether `update_from` counts new clicks.
        auto_class: transformers class that loads the weights without this package; None for none.
        generates_items: whether that class has a `generate()` that is constrained to the catalog.
        base_model: pretrained model that an adapter belongs to; None for whole weights.
        packages: distributions that it needs besides cost_hf.
        parts: names of the recommenders that it combines.
        fixed_parts: names of those among them that take no new items.
    """

    kind: str
    num_items: int
    num_parameters: int
    model_type: str | None = None
    licence: str | None = None
    has_quantizer: bool = False
    has_encoder: bool = False
    has_pipeline: bool = False
    text_reader: str | None = None
    new_item_inputs: tuple[str, ...] = ()
    takes_clicks: bool = False
    auto_class: str | None = None
    generates_items: bool = False
    base_model: str | None = None
    packages: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    fixed_parts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        *,
        licence: str | None,
        generates_items: bool = False,
        packages: tuple[str, ...] = (),
    ) -> "Contents":
        """Return the contents of a recommender, which is the copy that is published."""
        network = recommender.network
        return cls(
            kind=recommender.kind,
            num_items=int((~recommender.catalog.removed).sum()),
            num_parameters=recommender.num_parameters,
            model_type=None if network is None else network.config.model_type,
            licence=licence,
            has_quantizer=recommender.quantizer is not None,
            has_encoder=recommender.encoder is not None,
            has_pipeline=recommender.quantizer is not None and bool(pipelines_of(type(recommender.quantizer))),
            text_reader=recommender.quantizer.base_name if reads_texts(recommender.quantizer) else None,
            new_item_inputs=recommender.new_item_inputs,
            takes_clicks=recommender.takes_clicks,
            auto_class=recommender.auto_class,
            generates_items=generates_items,
            base_model=None if recommender.base is None else public_name(recommender.base.name),
            packages=packages,
            parts=tuple(recommender.parts),
            fixed_parts=tuple(recommender.fixed_parts),
        )


def render_card(
    part: str,
    *,
    results: Mapping[str, Any] | None,
    contents: Contents,
    repo_id: str,
    related: Mapping[str, str],
) -> str:
    """Return the README of a repository: metadata and text.

    Args:
        part: of `PARTS`.
        results: content of results.json; None for a recommender without results, whose card has no figures.
        contents: of the published recommender.
        repo_id: of this repository.
        related: repository ids by part, of what is published with it.

    Raises:
        ValueError: where the results hold no evaluated system, or are missing for another part than the recommender.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if results is not None or part != "recommender":
        _check(results or {})
    facts: dict[str, Any] = {"has_results": results is not None, "codes": None, "backbone": None, "encoder": None}
    facts |= {"encoder_reads_texts": True, "encoder_has_licence": False}
    if results is not None:
        facts |= card_facts(results)
    facts |= {"repo_id": repo_id, "related": dict(related), "contents": contents, "licence": contents.licence}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": code, "plain": _plain, "amount": numbers.amount}
    text = environment.get_template(f"{part}.md.jinja").render(facts)
    metadata = _metadata(part, results, contents, repo_id, related)
    return f"---\n{metadata.to_yaml()}\n---\n\n{text.strip()}\n"


def code(value: object) -> str:
    """Return a value of the recipe as inline code: one line that can't end its own backticks."""
    line = re.sub(r"\s+", " ", one_line(str(value))).replace("`", "'")
    return f"`{line or ' '}`"


def one_line(text: str) -> str:
    """Return a text without line breaks and characters that can't be printed."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def eval_result_files(results: Mapping[str, Any], *, dataset_id: str | None) -> dict[str, str]:
    """Return `.eval_results/` as path to YAML, one file per setting; none without a data set on the Hub to name."""
    _check(results)
    if dataset_id is None:
        return {}
    files = {}
    for seen in words.SEEN:
        cells = results["rows"][MAIN_ROW]["item"][seen]
        entries = [
            EvalResultEntry(
                dataset_id=dataset_id,
                task_id=metric,
                value=cell["value"],
                notes=f"{words.SEEN[seen].lower()}; {results['protocol']['split']}, hits on items"
                + (f"; 95 % interval {cell['low']:.4f} to {cell['high']:.4f}" if cell["low"] is not None else ""),
            )
            for metric, cell in cells.items()
            if cell["value"] is not None
        ]
        files[f".eval_results/{seen}.yaml"] = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return files


def card_facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the templates use of a run; all figures are formatted."""
    recipe = results["recipe"]
    protocol = results["protocol"]
    method = results["methods"][MAIN_ROW]
    shares = protocol.get("shares") or {}
    backbone = _field(recipe, "generator", "backbone")
    return {
        "name": recipe["name"],
        "method": method["method"],
        "family": method["family"],
        "summary": method["summary"],
        "is_toy": recipe["data"]["reader"] == "synthetic",
        "seed": results["seed"],
        "split": protocol["split"].replace("_", "-"),
        "note": protocol["note"],
        "ties": protocol["ties"],
        "constraint": protocol.get("constraint"),
        "score": protocol.get("score"),
        "selected_parts": protocol.get("parts_selected_on_validation") or [],
        "num_beams": protocol.get("num_beams"),
        "max_history": protocol.get("max_history"),
        "cases": numbers.amount(protocol["cases"]),
        "counts": {name: numbers.amount(protocol["counts"][name]) for name in words.COUNTS},
        "shares": {label: numbers.percent(shares[name]) for name, label in words.SHARES.items() if name in shares},
        "codes": _codes(results.get("semantic_ids")),
        "code_kind": _field(recipe, "codes", "kind"),
        "encoder": _encoder_name(recipe["vectors"]),
        "encoder_reads_texts": "model" in recipe["vectors"],
        "encoder_has_licence": recipe["vectors"].get("model", LSA) != LSA,
        "backbone": None if backbone is None else public_name(backbone),
        "adapter_rank": _field(recipe, "adapter", "r"),
        "tables": {title: markdown_table(results, seen=seen) for seen, title in words.SEEN.items()},
        "verdict": verdict(results),
        "data_digest": results["data_digest"],
        "split_digest": results["split_digest"],
        "stages": {
            name: f"{numbers.duration(cost['seconds'])}, {numbers.memory(cost['peak_mb'])}"
            for name, cost in results["stages"].items()
        },
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
    """Return in one sentence how the trained system compares with the best of its baselines."""
    rows = {name: row["item"][seen][VERDICT_METRIC] for name, row in results["rows"].items()}
    baselines = {
        name: cell
        for name, cell in rows.items()
        if name != MAIN_ROW and results["methods"][name]["family"] not in REFERENCE_FAMILIES and cell["value"]
    }
    metric = words.metric_name(VERDICT_METRIC)
    own = numbers.interval(rows[MAIN_ROW])
    if not baselines:
        return f"{metric} {own}; no baseline was evaluated with it, so it is not known whether a simpler one is better."
    best = max(baselines, key=lambda name: baselines[name]["value"])
    difference = results["differences"][f"{MAIN_ROW}-{best}"]["item"][seen][VERDICT_METRIC]
    signed = numbers.interval(difference, signed=True)
    compared = f"{metric} {own}; the best baseline, `{best}`, has {numbers.interval(baselines[best])}."
    if difference["high"] < 0:
        return f"{compared} **`{best}` is better than this system on these data** (difference {signed})."
    if difference["low"] > 0:
        return f"{compared} This system is better than it on these data (difference {signed})."
    return f"{compared} They are not significantly different ({signed})."


def _check(results: Mapping[str, Any]) -> None:
    cells = ((results.get("rows") or {}).get(MAIN_ROW) or {}).get("item") or {}
    values = [cell.get("value") for setting in cells.values() for cell in setting.values()]
    if not any(value is not None and value == value for value in values):
        raise ValueError(
            f"no results, no card: expected results.json with an evaluated row {MAIN_ROW!r}, got rows "
            f"{list(results.get('rows') or {})!r}; run the evaluation first"
        )


def _encoder_name(vectors: Mapping[str, Any]) -> str:
    """Return the text encoder of a recipe's section `vectors`; before it, the kind of vectors that are not texts'."""
    kind = vectors.get("kind", ItemVectorOptions.default_kind)
    if "model" not in vectors:
        return str(kind)
    model = public_name(vectors["model"])
    return model if kind == ItemVectorOptions.default_kind else f"{kind} ({model})"


def _field(recipe: Mapping[str, Any], section: str, name: str) -> Any:
    """Return a field of a section that not every method has; None without it."""
    return (recipe.get(section) or {}).get(name)


def _plain(text: str) -> str:
    """Return a text of a recipe or method as Markdown without markup."""
    return escape(one_line(text))


def _codes(codes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not codes:
        return None
    levels = [
        f"{numbers.percent(level['use'])} of {level['num_codes']} codes in use, "
        f"perplexity {numbers.amount(level['perplexity'])}"
        for level in codes["levels"]
    ]
    return {
        "levels": levels,
        "level_sizes": [level["num_codes"] for level in codes["levels"]],
        "collided": numbers.percent(codes["collided_share"]),
        "largest_group": codes["largest_group"],
    }


def _metadata(
    part: str, results: Mapping[str, Any] | None, contents: Contents, repo_id: str, related: Mapping[str, str]
) -> Any:
    has_codes = part in ("quantizer", "dataset") or bool(results and results.get("semantic_ids"))
    tags = ["recommendation", "cost_hf", *(["generative-recommendation", "semantic-ids"] if has_codes else [])]
    licence = _licence(contents.licence)
    if part == "space":
        return SpaceCardData(
            title=repo_id.partition("/")[2],
            sdk="gradio",
            sdk_version=GRADIO,
            app_file="app.py",
            models=[related["recommender"]],
            **licence,
            short_description="Recommendations for a click history, and why",
            tags=tags,
        )
    if part == "dataset":
        return DatasetCardData(
            **licence,
            tags=tags,
            configs=[{"config_name": "items", "data_files": "items.parquet", "default": True}],
        )
    is_recommender = part == "recommender"
    base = contents.base_model
    if results is not None and base is None:
        base = _field(results["recipe"], "generator", "backbone")
    is_on_hub = is_recommender and base is not None and not is_local_path(base)
    return ModelCardData(
        **licence,
        library_name="cost_hf" if is_recommender and contents.model_type is None else "transformers",
        tags=tags if is_recommender else [*tags, "quantizer"],
        datasets=[related["dataset"]] if "dataset" in related else None,
        base_model=base if is_on_hub else None,
        base_model_relation="adapter" if is_on_hub and contents.base_model is not None else None,
        model_name=repo_id.partition("/")[2],
        eval_results=_model_index(results, related) if is_recommender and results is not None else None,
    )


def _licence(name: str | None) -> dict[str, Any]:
    """Return the entries of a licence: the Hub knows short names, any other is `other` with its name."""
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
