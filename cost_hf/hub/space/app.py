"""The pages of the demo, in Gradio: four tabs over one `Visit`, and two functions with stable API names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from cost_hf.files import read_json
from cost_hf.hub.space.health import health_page
from cost_hf.hub.space.tabs import PRIVATE, new_item_tab, recommend_tab, tree_tab
from cost_hf.hub.space.visit import Visit
from cost_hf.methods import Recommender
from cost_hf.recommender.door import BaseRecommender
from cost_hf.recommender.repository import locate

STYLE = Path(__file__).parent / "style.css"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "sans-serif"]  # of the system: no request


def build_demo(recommender: BaseRecommender, results: Mapping[str, Any] | None = None) -> gr.Blocks:
    """Return the app of a loaded recommender; nothing is fetched from anywhere."""
    visit = Visit(recommender, results)
    visit.recommend(visit.example())  # the first visitor does not wait for what the first call sets up
    with gr.Blocks(title="cost_hf: recommendation with semantic IDs", analytics_enabled=False) as demo:
        # first, so that no event of a page takes their names
        gr.api(_api_recommend(visit), api_name="recommend")
        gr.api(_api_encode(visit), api_name="encode")
        gr.HTML(_header(visit), padding=False)
        with gr.Tab("Recommend"):
            recommend_tab(visit)
        with gr.Tab("ID tree"):
            tree_tab(visit)
        with gr.Tab("New item"):
            new_item_tab(visit)
        with gr.Tab("Health") as tab:
            page = gr.HTML(health_page(visit.view, results))
            tab.select(lambda: health_page(visit.view, results), outputs=page, **PRIVATE)
    return demo


def launch_demo(
    source: str | Path, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True
) -> gr.Blocks:
    """Serve the demo of a run, a recommender directory or a Hub id.

    Args:
        port: any free one by default.
        block: return only when the server ends.
    """
    directory = locate(source)
    places = (directory / "results.json", directory.parent / "evaluation" / "results.json")
    results = next((read_json(path) for path in places if path.is_file()), None)
    demo = build_demo(Recommender.from_pretrained(directory), results)
    theme = gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"], primary_hue="blue")
    demo.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        theme=theme,
        css_paths=[STYLE],
        footer_links=[],
        quiet=not block,
        share=False,
    )
    return demo


def _header(visit: Visit) -> str:
    count = len(visit.view.catalog) - int(visit.view.catalog.removed.sum())
    kind = "semantic IDs" if visit.view.has_sids else "a dense model"
    return f"<header class='head'><h1>Recommendation with {kind}</h1><p>{count:,} items in the catalog</p></header>"


def _api_recommend(visit: Visit) -> Callable[..., list[dict[str, Any]]]:
    def recommend(history: list[str], top_k: int = 10, exclude_seen: bool = True) -> list[dict[str, Any]]:
        """Return ranked items for a history of item ids: item_id, score, title."""
        try:
            answers = visit.recommender.recommend(list(history), int(top_k), exclude_seen, on_unknown="drop")
        except (ValueError, TypeError) as error:
            raise gr.Error(str(error)) from error
        return [{"item_id": entry.item_id, "score": entry.score, **entry.fields} for entry in answers]

    return recommend


def _api_encode(visit: Visit) -> Callable[..., list[int]]:
    def encode(text: str) -> list[int]:
        """Return the model-level codes of a text."""
        try:
            return list(visit.encode(text))
        except ValueError as error:
            raise gr.Error(str(error)) from error

    return encode
