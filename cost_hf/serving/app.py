"""The application: endpoints, middleware, the parts that they share, and what starts and stops with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cost_hf.serving.access import ITEMS_PATH, ITEMS_TOKEN
from cost_hf.serving.answering import Answering
from cost_hf.serving.api_description import ApiDescription, endpoint_description
from cost_hf.serving.batching import Batcher
from cost_hf.serving.live import LiveRecommender, Served
from cost_hf.serving.metrics import ServerMetrics
from cost_hf.serving.middleware import RequestMiddleware
from cost_hf.serving.options import ServeOptions
from cost_hf.serving.replies import error_reply
from cost_hf.serving.request_log import RequestLog
from cost_hf.serving.routes import Routes
from cost_hf.serving.shown import ShownLists
from cost_hf.serving.state import ServerState
from cost_hf.version import __version__

PATHS = frozenset({"/recommend", "/similar", "/encode", ITEMS_PATH, "/health", "/ready", "/metrics", "/docs"})


def build_app(source: str | Path, options: ServeOptions) -> FastAPI:
    """Return the application that serves a recommender; its `state.serving` is the `ServerState`.

    Args:
        source: run directory, recommender directory, or Hub id.
        options: of the server.

    Raises:
        OSError, ValueError: where the recommender can't be loaded.
    """
    state = _state(source, options)
    app = FastAPIOffline(
        title="cost_hf",
        version=__version__,
        summary="Recommendations by a recommender of cost_hf.",
        lifespan=_lifespan(state),
        redoc_url=None,
    )
    app.state.serving = state
    routes = Routes(state)
    for path, endpoint in {
        "/recommend": routes.recommend,
        "/similar": routes.similar,
        "/encode": routes.encode,
        ITEMS_PATH: routes.change_items,
    }.items():
        app.add_api_route(path, endpoint, methods=["POST"], **endpoint_description(path))
    for path, endpoint in {"/health": routes.health, "/ready": routes.ready, "/metrics": routes.metrics}.items():
        app.add_api_route(path, endpoint, methods=["GET"], **endpoint_description(path))
    app.openapi = ApiDescription(app, state.live, options.tokens)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_middleware(RequestMiddleware, tokens=options.tokens, metrics=state.metrics)
    return app


def _state(source: str | Path, options: ServeOptions) -> ServerState:
    live = LiveRecommender(source, poll_seconds=options.poll)
    if options.tokens.items is not None and not live.is_local:
        raise ValueError(
            f"{ITEMS_TOKEN} is set, and changes can't be saved into the Hub repository {source}; download it into a "
            "directory and serve that, or unset the variable"
        )
    answer = Answering(live).answer
    limits: dict[str, Any] = {"max_wait": options.max_wait, "max_queue": options.max_queue}
    batcher = Batcher(answer, max_batch=options.max_batch, **limits)
    encoder = Batcher(answer, max_batch=options.max_batch, **limits)
    metrics = ServerMetrics(PATHS, waiting=lambda: len(batcher) + len(encoder))
    batcher.on_batch = metrics.count_batch

    def on_reload(outcome: str, served: Served) -> None:
        metrics.count_reload(outcome)
        metrics.show_recommender(served.facts, served.num_items)

    live.on_reload = on_reload
    metrics.show_recommender(live.served.facts, live.served.num_items)
    shown = None
    if options.request_log is not None:
        log = RequestLog(options.request_log, options.log)
        metrics.show_log(lambda: log.counts)
        shown = ShownLists(log, options.variant)
    return ServerState(options, live, batcher, encoder, metrics, shown)


def _lifespan(state: ServerState) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for batcher in state.batchers:
            batcher.start()
        state.live.start()
        yield
        state.is_draining = True
        state.live.stop()
        for batcher in state.batchers:
            await asyncio.to_thread(batcher.stop)
        if state.shown is not None:
            await asyncio.to_thread(state.shown.log.close)

    return lifespan


async def _no_such_path(request: Request, error: HTTPException) -> Response:
    text = str(error.detail)
    if error.status_code == 404:
        text = f"there is nothing at this path; there are {', '.join(sorted(PATHS))}"
    return error_reply(error.status_code, "", text, headers=error.headers)
