"""The demo in Gradio: up to four tabs over one `Visit`, and two functions with stable API names."""

import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from cost_hf.command_line import port_error
from cost_hf.files import DamagedFileError
from cost_hf.hub.space import markup
from cost_hf.hub.space.tabs import PRIVATE, new_item_tab, recommend_tab, tree_tab
from cost_hf.hub.space.visit import Visit
from cost_hf.hub.staging import read_results
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import locate
from cost_hf.recommenders.requests import parse
from cost_hf.stages import UnfinishedRunError

logger = logging.getLogger(__name__)
# Visits whose state Gradio keeps, the latest: a copy of the whole page each, for an hour after the visitor has left. A
# visitor whose visit is forgotten is at the root of the tree again.
MAX_SESSIONS = 200
STYLE = Path(__file__).parent / "style.css"
FONTS = [
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Helvetica",
    "Arial",
    "sans-serif",
]  # of the system, so that nothing is fetched


def build_demo(recommender: Recommender, results: Mapping[str, Any] | None = None) -> gr.Blocks:
    """Return the app of a loaded recommender, with the tabs that apply to it; nothing is fetched from other hosts."""
    visit = Visit(recommender, results)
    visit.recommend(visit.example())  # set up by the first call, before the first visitor
    with gr.Blocks(title="cost_hf: recommendation with semantic IDs", analytics_enabled=False) as demo:
        # first, so that no event of a tab takes their names
        gr.api(_api_recommend(visit), api_name="recommend")
        if visit.view.has_sids and visit.takes_texts:
            gr.api(_api_encode(visit), api_name="encode")
        head = gr.HTML(markup.header(visit.view), padding=False)
        with gr.Tab("Recommend"):
            recommend_tab(visit)
        if visit.view.has_tree:
            with gr.Tab("ID tree") as tree:
                tree_tab(visit, tree)
        if visit.takes_texts:
            with gr.Tab("New item"):
                new_item_tab(visit, head)
        if visit.view.has_sids or results:
            with gr.Tab("Results") as tab:
                page = gr.HTML(markup.evaluation_page(visit.view, results))
                tab.select(lambda: markup.evaluation_page(visit.view, results), outputs=page, **PRIVATE)
        demo.load(lambda: markup.header(visit.view), outputs=head, **PRIVATE)  # other visitors may have added items
    return demo


def launch_demo(
    source: str | Path, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True
) -> gr.Blocks:
    """Serve the demo of a run, a recommender directory or a Hub id.

    Args:
        source: of the recommender.
        host: address of the server.
        port: any free one by default.
        block: return when the server ends.

    Raises:
        OSError: where nothing is found, or the port is not free.
    """
    directory = locate(source)
    demo = build_demo(Recommender.from_pretrained(directory), _results_of(directory, is_run=directory != Path(source)))
    theme = gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"], primary_hue="blue")
    if port is not None:
        _check_port(host, port)
    demo.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        theme=theme,
        css_paths=[STYLE],
        footer_links=[],
        state_session_capacity=MAX_SESSIONS,
        quiet=not block,
        share=False,
    )
    return demo


def _results_of(directory: Path, *, is_run: bool) -> dict[str, Any] | None:
    """Return the results of a recommender, None where there are none.

    Args:
        directory: of the recommender.
        is_run: whether the run directory was given, so that a damaged one is an error.
    """
    try:
        results = read_results(directory)
        if not (directory / "results.json").is_file():
            locate(directory.parent)  # the recommender is the one that the run wrote
    except FileNotFoundError:
        return None
    except (UnfinishedRunError, DamagedFileError) as error:
        if is_run:
            raise
        logger.warning("the demo shows no results: %s", error)
        return None
    return results


def _check_port(host: str, port: int) -> None:
    """Raise OSError where the port is not free."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise port_error(host, port, error) from error


def _api_recommend(visit: Visit) -> Callable[..., list[dict[str, Any]]]:
    def recommend(
        history: list[str],
        top_k: int = 10,
        exclude_seen: bool = True,
        where: dict[str, Any] | None = None,
        diversify: dict[str, int] | None = None,
    ) -> list[dict[str, Any]]:
        """Return ranked items for a history of item ids: item_id, score, title."""
        parameters = {
            "top_k": top_k,
            "exclude_seen": exclude_seen,
            "where": where,
            "diversify": diversify,
            "on_empty": "error",
        }
        try:
            request = parse({"inputs": history, "parameters": parameters})
            if any(isinstance(item, list) for item in history):
                raise ValueError("expected one history, a list of item ids")
            (answers,) = visit.service.recommend(request)
        except ValueError as error:
            raise gr.Error(str(error)) from error
        return answers

    return recommend


def _api_encode(visit: Visit) -> Callable[..., list[int]]:
    def encode(text: str) -> list[int]:
        """Return the model-level codes of a text."""
        try:
            return list(visit.encode(text))
        except ValueError as error:
            raise gr.Error(str(error)) from error

    return encode
